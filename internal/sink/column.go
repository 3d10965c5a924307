package sink

import (
	"net/netip"
	"strconv"

	"finwait/internal/text"
	"finwait/tracer"
)

// An Entry is what a line is about: a transition, or a segment that makes none.
type Entry struct {
	to *Text
	t  *tracer.Transition
	s  *tracer.Segment
}

// Columns are all that Text can show of transitions.
var Columns = []text.Column[Entry]{
	{Name: "time", About: "when it happened: --time says how that is written", Width: len("12345.000000"), Goes: 2,
		Cell: func(b []byte, e Entry) []byte {
			if e.s != nil {
				return e.to.times.Append(b, e.s.Time, e.s.Ktime)
			}
			return e.to.times.Append(b, e.t.Time, e.t.Ktime)
		}},
	{Name: "netns", About: "inode number of the network namespace", Width: 10,
		Cell: func(b []byte, e Entry) []byte {
			if e.s != nil {
				return strconv.AppendUint(b, uint64(e.s.NetNS), 10)
			}
			return strconv.AppendUint(b, uint64(e.t.NetNS), 10)
		}},
	{Name: "cookie", About: "identity of the socket: the same number in each of its lines", Width: 10,
		Cell: func(b []byte, e Entry) []byte {
			switch {
			case e.s == nil:
				return strconv.AppendUint(b, e.t.Cookie, 10)
			case e.s.Cookie != 0:
				return strconv.AppendUint(b, e.s.Cookie, 10)
			}
			return b
		}},
	{Name: "pid", About: "the owner: the process that connected or listened", Width: text.PIDWidth, Goes: 1,
		Cell: func(b []byte, e Entry) []byte {
			if e.s != nil {
				return b
			}
			return text.AppendPID(b, &e.t.Owner.Process)
		}},
	{Name: "comm", About: "the name of this process", Width: text.CommWidth, Goes: 3, Cut: text.Middle,
		Cell: func(b []byte, e Entry) []byte {
			if e.s != nil {
				return b
			}
			return text.AppendComm(b, &e.t.Owner.Process)
		}},
	{Name: "role", About: "client, server or listener", Width: len("listener"),
		Cell: func(b []byte, e Entry) []byte {
			if e.s != nil {
				return b
			}
			return append(b, e.t.Role.String()...)
		}},
	text.Endpoint("local", "address and port of this end", 4, func(e Entry) (netip.AddrPort, tracer.Scope) {
		if e.s != nil {
			return e.s.Local, e.s.Scope
		}
		return e.t.Local, e.t.Scope
	}),
	text.Endpoint("remote", "address and port of the other end", text.Never, func(e Entry) (netip.AddrPort, tracer.Scope) {
		if e.s != nil {
			return e.s.Remote, e.s.Scope
		}
		return e.t.Remote, e.t.Scope
	}),
	{Name: "from", About: "the state that the socket leaves; of a segment without a transition what that is", Width: text.StateWidth, Goes: text.Never,
		Cell: func(b []byte, e Entry) []byte {
			switch {
			case e.s == nil:
				return append(b, e.t.From.String()...)
			case e.s.Kind == tracer.SegmentSYNACKAgain:
				return append(b, "SYN-ACK"...)
			}
			return append(b, "RST"...)
		},
		Colour: func(e Entry) string {
			if e.s != nil {
				return text.Red
			}
			return text.StateColour(e.t.From)
		}},
	{Name: "to", About: "the state that it enters; of a segment whether it was sent or received", Width: text.StateWidth, Goes: text.Never,
		Cell: func(b []byte, e Entry) []byte {
			switch {
			case e.s == nil:
				return append(b, e.t.To.String()...)
			case e.s.Kind == tracer.SegmentSYNACKAgain:
				return append(b, "sent again"...)
			case e.s.Kind == tracer.SegmentRSTReceived:
				return append(b, "received"...)
			}
			return append(b, "sent"...)
		},
		Colour: func(e Entry) string {
			if e.s != nil {
				return ""
			}
			return text.StateColour(e.t.To)
		}},
	{Name: "lasted", About: `how long it was in the state that it leaves; ">" is at least, "~" is exact to the tick only`, Width: 11, Least: len("999.999ms"), Goes: text.Never,
		Cell: func(b []byte, e Entry) []byte {
			if e.s != nil {
				return b
			}
			return text.AppendDuration(b, e.t.Duration, e.t.Precision)
		}},
	{Name: "why", About: "the reason, and what else is known of it", Width: 20, Least: len("fin_received"), Goes: text.Never, Cut: text.Words, Blank: true,
		Cell: func(b []byte, e Entry) []byte {
			switch {
			case e.s == nil:
				return e.to.why(b, e.t)
			case e.s.Kind == tracer.SegmentSYNACKAgain:
				return strconv.AppendUint(append(b, "retransmits="...), uint64(e.s.Retransmits), 10)
			}
			return append(b, e.s.Reason...)
		},
		Colour: func(e Entry) string {
			if e.s != nil {
				return text.Red
			}
			switch e.t.Reason {
			case tracer.ReasonNone, tracer.ReasonFinReceived, tracer.ReasonExpired, tracer.ReasonClosed:
				return ""
			}
			return text.Red
		}},
}

// A rawEntry is a raw event.
type rawEntry struct {
	to *Text
	*tracer.RawEvent
}

var rawColumns = []text.Column[rawEntry]{
	{Name: "time", Width: len("12345.000000"), Goes: 3,
		Cell: func(b []byte, e rawEntry) []byte { return e.to.times.Append(b, e.Time, e.Ktime) }},
	{Name: "cpu", Width: 3, Goes: 2,
		Cell: func(b []byte, e rawEntry) []byte { return strconv.AppendUint(b, uint64(e.CPU), 10) }},
	{Name: "pid", Width: text.PIDWidth, Goes: 4,
		Cell: func(b []byte, e rawEntry) []byte { return text.AppendPID(b, &e.Task) }},
	{Name: "task", Width: text.CommWidth, Goes: 1, Cut: text.Middle,
		Cell: func(b []byte, e rawEntry) []byte { return text.AppendComm(b, &e.Task) }},
	{Name: "hook", Width: 19, Goes: text.Never,
		Cell: func(b []byte, e rawEntry) []byte { return append(b, e.Hook.String()...) }},
	{Name: "cookie", Width: 8, Goes: 5,
		Cell: func(b []byte, e rawEntry) []byte { return strconv.AppendUint(b, e.Cookie, 10) }},
	text.Endpoint("local", "", 6, func(e rawEntry) (netip.AddrPort, tracer.Scope) { return e.Local, e.Scope }),
	text.Endpoint("remote", "", text.Never, func(e rawEntry) (netip.AddrPort, tracer.Scope) { return e.Remote, e.Scope }),
	{Name: "what", Width: 26, Goes: text.Never, Cut: text.Words,
		Cell: func(b []byte, e rawEntry) []byte {
			b = append(b, e.From.String()...)
			if e.Minisock == 0 {
				b = append(append(b, " -> "...), e.To.String()...)
				if e.Err != 0 {
					b = strconv.AppendUint(append(b, " err="...), uint64(e.Err), 10)
				}
				return b
			}
			b = strconv.AppendUint(append(b, " tw=0x"...), e.Minisock, 16)
			return strconv.AppendInt(append(b, " timer="...), int64(e.TimerLeft), 10)
		}},
}
