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
}

func newJSONSink(w io.Writer) *jsonSink {
	ew := &errWriter{Writer: w}
	return &jsonSink{w: ew, log: zerolog.New(ew), scratch: make([]byte, 0, 64)}
}

var null = []byte("null")

func (j *jsonSink) transition(t *tracer.Transition) error {
	e := j.stamp(j.log.Log(), t.Time, t.Ktime, "transition")
	e.Uint64("cookie", t.Cookie).Uint32("netns", t.NetNS)
	j.endpoints(e, t.Local, t.Remote)
	e.Stringer("from", t.From).Stringer("to", t.To)
	if t.Known() {
		e.Int64("duration_ns", int64(t.Duration))
	} else {
		e.RawJSON("duration_ns", null)
	}
	e.Str("precision", t.Precision.String())
	if t.Role == tracer.NoRole {
		e.RawJSON("role", null)
	} else {
		e.Str("role", t.Role.String())
	}
	if t.Owner.PID == 0 {
		e.RawJSON("owner", null)
	} else {
		d := zerolog.Dict().Uint32("pid", t.Owner.PID)
		e.Dict("owner", nameJSON(d, "comm", t.Owner.Comm.Bytes()).Uint32("uid", t.Owner.UID).Uint64("cgroup_id", t.Owner.CgroupID))
	}
	j.process(e, "closer", &t.Closer)
	e.Str("reason", t.Reason.String()).Uint32("rearms", t.Rearms).Str("source", t.Source.String()).Send()
	return j.w.err
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
		Dict("lost", zerolog.Dict().Uint64("ring_full", s.Lost.RingFull).
			Uint64("map_full", s.Lost.MapFull).Uint64("recursion", s.Lost.Recursion).Uint64("unwind", s.Lost.Unwind)).
		Str("hooks", hooks).Send()
	return j.w.err
}

func (j *jsonSink) stamp(e *zerolog.Event, at time.Time, ktime time.Duration, event string) *zerolog.Event {
	j.scratch = at.AppendFormat(j.scratch[:0], timeFormat)
	return e.Bytes("time", j.scratch).Int64("ktime_ns", int64(ktime)).Str("event", event)
}

func (j *jsonSink) endpoints(e *zerolog.Event, local, remote netip.AddrPort) {
	family := "ipv6"
	if local.Addr().Is4() {
		family = "ipv4"
	}
	e.Str("family", family)
	j.scratch = local.Addr().AppendTo(j.scratch[:0])
	e.Bytes("local_addr", j.scratch).Uint16("local_port", local.Port())
	j.scratch = remote.Addr().AppendTo(j.scratch[:0])
	e.Bytes("remote_addr", j.scratch).Uint16("remote_port", remote.Port())
}

func (j *jsonSink) process(e *zerolog.Event, key string, p *tracer.Closer) {
	if p.PID == 0 {
		e.RawJSON(key, null)
		return
	}
	e.Dict(key, nameJSON(zerolog.Dict().Uint32("pid", p.PID), "comm", p.Comm.Bytes()))
}
