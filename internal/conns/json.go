package conns

import (
	"bufio"
	"time"

	"finwait/internal/jsonl"
	"finwait/internal/label"
	"finwait/tracer"

	"github.com/rs/zerolog"
)

// JSON writes an object a connection. The README describes the fields.
type JSON struct{ w *jsonl.Writer }

// NewJSON writes to w, with names if there is a Namer.
func NewJSON(w *bufio.Writer, names label.Names) *JSON {
	out := jsonl.NewWriter(w)
	out.Names = names
	return &JSON{out}
}

// Conn writes a connection.
func (j *JSON) Conn(c *Conn) error {
	e := j.w.Event().Str("event", "connection").Uint64("cookie", c.Cookie).Uint32("netns", c.NetNS).Uint64("netns_cookie", c.NetNSCookie)
	j.w.Endpoints(e, c.Local, c.Remote, c.Scope)
	jsonl.Word(e, "role", c.Role.String())
	j.w.Owner(e, "owner", &c.Owner)
	j.w.Process(e, "handler", &c.Handler)
	j.w.Process(e, "closer", &c.Closer)
	if c.Whole {
		e.Str("opened", c.Opened.Format(jsonl.TimeFormat)).Int64("opened_ktime_ns", int64(c.OpenedKtime))
	} else {
		jsonl.Null(jsonl.Null(e, "opened"), "opened_ktime_ns")
	}
	e.Stringer("state", c.State)
	if d, known := c.Handshake(); known && c.Role == tracer.RoleClient {
		e.Int64("handshake_ns", int64(d))
	} else {
		jsonl.Null(e, "handshake_ns")
	}
	for _, part := range []struct {
		key  string
		last func() (time.Duration, bool)
	}{{"established_ns", c.Established}, {"closing_ns", c.Closing}, {"time_wait_ns", c.TimeWait}} {
		if d, known := part.last(); known && c.over(part.key) {
			e.Int64(part.key, int64(d))
		} else {
			jsonl.Null(e, part.key)
		}
	}
	jsonl.Word(e, "first_fin", c.FirstFIN.String())
	jsonl.Word(e, "reason", c.Reason.String())
	e.Str("detail", c.Detail.String())
	jsonl.Word(e, "errno", errno(c.Errno))
	m := &c.Metrics
	jsonl.Known(e, "bytes_sent", m.Known, m.BytesSent)
	jsonl.Known(e, "bytes_received", m.Known, m.BytesReceived)
	jsonl.Known(e, "rtt_ns", m.Known && m.RTT > 0, uint64(m.RTT))
	jsonl.Known(e, "retransmits", m.Known, uint64(m.Retransmitted))
	e.Int("missed", c.Missed)
	states := zerolog.Arr()
	for _, s := range c.States {
		one := zerolog.Dict().Stringer("state", s.State)
		if s.Precision == tracer.PrecisionUnknown {
			jsonl.Null(one, "duration_ns")
		} else {
			one.Int64("duration_ns", int64(s.Duration))
		}
		states.Dict(one.Stringer("precision", s.Precision))
	}
	j.w.AddNames(e.Array("states", states), c.Owner.CgroupID, c.NetNS, c.NetNSCookie)
	e.Send()
	return j.w.Err()
}

// over reports whether a part of the connection's life can have no more to come.
func (c *Conn) over(part string) bool {
	switch c.State {
	case tracer.Closed:
		return true
	case tracer.TimeWait:
		return part != "time_wait_ns"
	case tracer.Established, tracer.SynSent, tracer.SynRecv:
		return false
	}
	return part == "established_ns"
}

func errno(n tracer.Errno) string {
	if n == 0 {
		return ""
	}
	return n.String()
}

// End writes the summary.
func (j *JSON) End(s *Summary) error {
	e := j.w.Event().Str("event", "summary").Uint64("seen", s.Stats.Seen).Uint64("filtered", s.Stats.Filtered).Uint64("delivered", s.Stats.Delivered)
	jsonl.Lost(e, s.Stats.Lost).Str("hooks", s.Hooks.String())
	e.Dict("connections", zerolog.Dict().Uint64("shown", s.Shown).Uint64("hidden", s.Hidden).Uint64("open", s.Open).Uint64("untracked", s.Untracked).
		Uint64("measured", s.Measured).Int64("established_ns", int64(s.Established)).Int64("time_wait_ns", int64(s.TimeWait)))
	e.Send()
	return j.w.Err()
}
