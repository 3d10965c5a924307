package main

import (
	"io"
	"net/netip"
	"strconv"
	"time"

	"finwait/tracer"

	"github.com/rs/zerolog"
)

const timeFormat = "2006-01-02T15:04:05.000000000Z07:00"

// An errWriter keeps the first error of a writer. zerolog would print it to the
// process' stderr and go on.
type errWriter struct {
	io.Writer
	err error
}

func (w *errWriter) Write(p []byte) (int, error) {
	if w.err == nil {
		_, w.err = w.Writer.Write(p)
	}
	return len(p), nil
}

// A jsonSink writes one object a line.
type jsonSink struct {
	w       *errWriter
	log     zerolog.Logger
	scratch []byte
	line    []byte
	second  int64  // Unix time
	face    []byte // of second, as timeFormat begins; empty: of none yet
}

func newJSONSink(w io.Writer) *jsonSink {
	ew := &errWriter{Writer: w}
	return &jsonSink{w: ew, log: zerolog.New(ew), scratch: make([]byte, 0, 64), line: make([]byte, 0, 1024), face: make([]byte, 0, 32)}
}

var null = []byte("null")

// transition appends by hand: with zerolog encoding takes four times as long, and
// is most of what a transition costs the reader.
func (j *jsonSink) transition(t *tracer.Transition) error {
	b := append(j.line[:0], `{"time":"`...)
	b = j.appendTime(b, t.Time)
	b = strconv.AppendInt(append(b, `","ktime_ns":`...), int64(t.Ktime), 10)
	b = strconv.AppendUint(append(b, `,"event":"transition","cookie":`...), t.Cookie, 10)
	b = strconv.AppendUint(append(b, `,"netns":`...), uint64(t.NetNS), 10)
	b = append(append(b, `,"family":"`...), family(t.Local)...)
	b = t.Local.Addr().AppendTo(append(b, `","local_addr":"`...))
	b = strconv.AppendUint(append(b, `","local_port":`...), uint64(t.Local.Port()), 10)
	b = t.Remote.Addr().AppendTo(append(b, `,"remote_addr":"`...))
	b = strconv.AppendUint(append(b, `","remote_port":`...), uint64(t.Remote.Port()), 10)
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
	b = append(b, `,"owner":`...)
	if o := &t.Owner; o.PID == 0 {
		b = append(b, null...)
	} else {
		b = appendProcess(b, o.PID, &o.Comm)
		b = strconv.AppendUint(append(b, `,"uid":`...), uint64(o.UID), 10)
		b = append(strconv.AppendUint(append(b, `,"cgroup_id":`...), o.CgroupID, 10), '}')
	}
	b = append(b, `,"closer":`...)
	if c := &t.Closer; c.PID == 0 {
		b = append(b, null...)
	} else {
		b = append(appendProcess(b, c.PID, &c.Comm), '}')
	}
	b = append(append(b, `,"reason":"`...), t.Reason.String()...)
	b = strconv.AppendUint(append(b, `","rearms":`...), uint64(t.Rearms), 10)
	b = append(append(b, `,"source":"`...), t.Source.String()...)
	j.line = append(b, "\"}\n"...)
	_, _ = j.w.Write(j.line) // keeps its error
	return j.w.err
}

// appendProcess leaves the object open.
func appendProcess(b []byte, pid uint32, comm *tracer.Comm) []byte {
	b = strconv.AppendUint(append(b, `{"pid":`...), uint64(pid), 10)
	return appendJSON(append(b, `,"comm":`...), comm.Bytes())
}

func (j *jsonSink) raw(r *tracer.RawEvent) error {
	e := j.stamp(j.log.Log(), r.Time, r.Ktime, "raw")
	e.Str("hook", r.Hook.String()).Uint8("cpu", r.CPU)
	j.process(e, "task", &r.Task)
	e.Uint64("cookie", r.Cookie).Uint32("netns", r.NetNS)
	j.endpoints(e, r.Local, r.Remote)
	e.Stringer("from", r.From)
	if r.Minisock == 0 {
		e.Stringer("to", r.To).Uint16("err", r.Err)
	} else {
		j.scratch = strconv.AppendUint(append(j.scratch[:0], "0x"...), r.Minisock, 16)
		e.Bytes("minisock", j.scratch).Int32("timer_left_jiffies", r.TimerLeft)
	}
	e.Send()
	return j.w.err
}

func (j *jsonSink) summary(s tracer.Stats, hooks string) error {
	j.log.Log().Str("event", "summary").
		Uint64("seen", s.Seen).Uint64("filtered", s.Filtered).Uint64("delivered", s.Delivered).
		Dict("lost", logLost(zerolog.Dict(), s.Lost)).
		Str("hooks", hooks).Send()
	return j.w.err
}

func (j *jsonSink) stamp(e *zerolog.Event, at time.Time, ktime time.Duration, event string) *zerolog.Event {
	j.scratch = j.appendTime(j.scratch[:0], at)
	return e.Bytes("time", j.scratch).Int64("ktime_ns", int64(ktime)).Str("event", event)
}

// appendTime appends t, which is in UTC, as timeFormat has it. Most come within the second of the one before.
func (j *jsonSink) appendTime(b []byte, t time.Time) []byte {
	if sec := t.Unix(); sec != j.second || len(j.face) == 0 {
		j.second, j.face = sec, t.AppendFormat(j.face[:0], "2006-01-02T15:04:05")
	}
	b = append(append(b, j.face...), ".000000000Z"...)
	for ns, i := t.Nanosecond(), len(b)-2; ns > 0; ns, i = ns/10, i-1 {
		b[i] += byte(ns % 10)
	}
	return b
}

func family(local netip.AddrPort) string {
	if local.Addr().Is4() {
		return "ipv4"
	}
	return "ipv6"
}

func (j *jsonSink) endpoints(e *zerolog.Event, local, remote netip.AddrPort) {
	e.Str("family", family(local))
	j.scratch = local.Addr().AppendTo(j.scratch[:0])
	e.Bytes("local_addr", j.scratch).Uint16("local_port", local.Port())
	j.scratch = remote.Addr().AppendTo(j.scratch[:0])
	e.Bytes("remote_addr", j.scratch).Uint16("remote_port", remote.Port())
}

func (j *jsonSink) process(e *zerolog.Event, key string, p *tracer.Process) {
	if p.PID == 0 {
		e.RawJSON(key, null)
		return
	}
	e.Dict(key, nameJSON(zerolog.Dict().Uint32("pid", p.PID), "comm", p.Comm.Bytes()))
}
