package jsonl

import (
	"strconv"

	"finwait/tracer"
)

// Transition writes a transition. It appends by hand: zerolog takes four times as
// long, which is most of what a transition costs the reader.
func (w *Writer) Transition(t *tracer.Transition) error {
	w.tally.Add(t)
	b := append(w.line[:0], `{"time":"`...)
	b = w.appendTime(b, t.Time)
	b = strconv.AppendInt(append(b, `","ktime_ns":`...), int64(t.Ktime), 10)
	b = strconv.AppendUint(append(b, `,"event":"transition","cookie":`...), t.Cookie, 10)
	b = strconv.AppendUint(append(b, `,"netns":`...), uint64(t.NetNS), 10)
	b = strconv.AppendUint(append(b, `,"netns_cookie":`...), t.NetNSCookie, 10)
	b = append(append(b, `,"family":"`...), family(t.Local)...)
	b = t.Local.Addr().AppendTo(append(b, `","local_addr":"`...))
	b = append(b, `","local_port":`...)
	if port := t.Local.Port(); port != 0 {
		b = strconv.AppendUint(b, uint64(port), 10)
	} else {
		b = append(b, null...) // the kernel has not chosen it yet
	}
	if t.PortByBind {
		b = append(b, `,"port_by_bind":true`...)
	}
	b = t.Remote.Addr().AppendTo(append(b, `,"remote_addr":"`...))
	b = strconv.AppendUint(append(b, `","remote_port":`...), uint64(t.Remote.Port()), 10)
	if t.Scope.ID != 0 {
		b = strconv.AppendUint(append(b, `,"scope_id":`...), uint64(t.Scope.ID), 10)
		b = append(b, `,"interface":`...)
		if t.Scope.Interface == "" {
			b = append(b, null...)
		} else {
			b = appendString(b, []byte(t.Scope.Interface))
		}
	}
	b = append(append(b, `,"from":"`...), t.From.String()...)
	b = append(append(b, `","to":"`...), t.To.String()...)
	b = append(b, `","duration_ns":`...)
	if t.Known() {
		b = strconv.AppendInt(b, int64(t.Duration), 10)
	} else {
		b = append(b, null...)
	}
	b = append(append(b, `,"precision":"`...), t.Precision.String()...)
	b = append(b, `","role":`...)
	if t.Role == tracer.RoleUnknown {
		b = append(b, null...)
	} else {
		b = append(append(append(b, '"'), t.Role.String()...), '"')
	}
	b = appendOwner(append(b, `,"owner":`...), &t.Owner)
	for _, p := range []struct {
		key string
		*tracer.Process
	}{{`,"closer":`, &t.Closer}, {`,"handler":`, &t.Handler}} {
		if b = append(b, p.key...); p.PID == 0 {
			b = append(b, null...)
		} else {
			b = append(appendProcess(b, p.Process), '}')
		}
	}
	b = append(b, `,"rst_by":`...)
	if by := &t.RSTBy; by.End == tracer.RSTEndUnknown {
		b = append(b, null...)
	} else {
		b = append(append(append(b, `{"end":"`...), by.End.String()...), `","process":`...)
		if by.PID == 0 {
			b = append(b, "null}"...)
		} else {
			b = append(appendProcess(b, &by.Process), "}}"...)
		}
	}
	b = append(append(b, `,"reason":"`...), t.Reason.String()...)
	b = append(append(b, `","detail":"`...), t.Detail.String()...)
	if t.Errno == 0 {
		b = append(b, `","errno":null`...)
	} else {
		b = append(append(append(b, `","errno":"`...), t.Errno.String()...), '"')
	}
	b = append(b, `,"retransmits":`...)
	if t.Reason.CountsRetransmits() || t.Retransmits > 0 {
		b = strconv.AppendUint(b, uint64(t.Retransmits), 10)
	} else {
		b = append(b, null...)
	}
	b = strconv.AppendUint(append(b, `,"rearms":`...), uint64(t.Rearms), 10)
	b = append(append(b, `,"source":"`...), t.Source.String()...)
	b = appendMetrics(append(b, '"'), t.Metrics, w.Fields)
	b = w.appendNames(b, t.Owner.CgroupID, t.NetNS, t.NetNSCookie)
	b = appendStack(b, t.Stack)
	w.line = append(b, "}\n"...)
	_, _ = w.w.Write(w.line) // keeps its error
	return w.Err()
}

// Raw writes a raw event.
func (w *Writer) Raw(r *tracer.RawEvent) error {
	w.raw = true
	w.scratch = w.appendTime(w.scratch[:0], r.Time)
	e := w.Event().Bytes("time", w.scratch).Int64("ktime_ns", int64(r.Ktime)).Str("event", "raw")
	e.Str("hook", r.Hook.String()).Uint8("cpu", r.CPU)
	w.Process(e, "task", &r.Task)
	e.Uint64("cookie", r.Cookie).Uint32("netns", r.NetNS).Uint64("netns_cookie", r.NetNSCookie)
	w.Endpoints(e, r.Local, r.Remote, r.Scope)
	e.Stringer("from", r.From)
	if r.Minisock == 0 {
		e.Stringer("to", r.To).Uint16("err", r.Err)
	} else {
		w.scratch = strconv.AppendUint(append(w.scratch[:0], "0x"...), r.Minisock, 16)
		e.Bytes("minisock", w.scratch).Int32("timer_left_jiffies", r.TimerLeft)
	}
	w.stack(e, r.Stack)
	e.Send()
	return w.Err()
}

// End writes the summary of a run: where its transitions went, and how many there were of
// each kind.
func (w *Writer) End(s tracer.Stats, hooks tracer.HookSet) error {
	e := w.Event().Str("event", "summary").Uint64("seen", s.Seen).Uint64("filtered", s.Filtered).Uint64("delivered", s.Delivered)
	Lost(e, s.Lost).Str("hooks", hooks.String())
	endSegments(e, s.Segments)
	if !w.raw {
		w.tally.add(e)
	}
	e.Send()
	return w.Err()
}
