package conns

import (
	"bufio"
	"net/netip"
	"strconv"
	"time"

	"finwait/internal/label"
	"finwait/internal/text"
	"finwait/tracer"
)

// An Entry is a connection that a Text writes.
type Entry struct {
	*Conn
	to *Text
}

// Columns are all that Text can show of connections.
var Columns = []text.Column[Entry]{
	{Name: "opened", About: "when its first transition was seen: --time says how that is written", Width: len("12345.000"), Goes: 6,
		Cell: func(b []byte, e Entry) []byte {
			if !e.Whole {
				return b
			}
			return e.to.times.Append(b, e.Opened, e.OpenedKtime)
		}},
	{Name: "netns", About: "inode number of the network namespace", Width: 10,
		Cell: func(b []byte, e Entry) []byte { return strconv.AppendUint(b, uint64(e.NetNS), 10) }},
	{Name: "cookie", About: "identity of the socket", Width: 10,
		Cell: func(b []byte, e Entry) []byte { return strconv.AppendUint(b, e.Cookie, 10) }},
	{Name: "pid", About: "the owner: the process that connected or listened", Width: text.PIDWidth, Goes: 4,
		Cell: func(b []byte, e Entry) []byte { return text.AppendPID(b, &e.Owner.Process) }},
	{Name: "comm", About: "the name of this process", Width: text.CommWidth, Goes: 9, Cut: text.Middle,
		Cell: func(b []byte, e Entry) []byte { return text.AppendComm(b, &e.Owner.Process) }},
	text.Endpoint("local", "address and port of this end", 11, func(e Entry) (netip.AddrPort, tracer.Scope) { return e.Local, e.Scope }),
	text.Endpoint("remote", "address and port of the other end", text.Never, func(e Entry) (netip.AddrPort, tracer.Scope) { return e.Remote, e.Scope }),
	{Name: "role", About: "client or server", Width: len("client"), Goes: 1,
		Cell: func(b []byte, e Entry) []byte { return append(b, e.Role.String()...) }},
	duration("shake", "how long a client waited for its connection; a server's handshake waits where nobody measures it", 7,
		func(e Entry) (time.Duration, bool) {
			d, known := e.Handshake()
			return d, known && e.Role == tracer.RoleClient
		}),
	duration("lasted", "time in ESTABLISHED", text.Never, over("established_ns", (*Conn).Established)),
	duration("closing", "time from the first FIN to TIME_WAIT, or to the end", 5, over("closing_ns", (*Conn).Closing)),
	duration("timewait", "time in TIME_WAIT", 10, over("time_wait_ns", (*Conn).TimeWait)),
	{Name: "fin", About: "who sent the first FIN: local, remote, both at the same time, or none", Width: len("remote"), Goes: 3,
		Cell: func(b []byte, e Entry) []byte { return append(b, e.FirstFIN.String()...) }},
	metric("sent", "bytes of payload that were sent", 8, 8, func(m *tracer.Metrics) uint64 { return m.BytesSent }),
	metric("received", "bytes of payload that were received", 8, 8, func(m *tracer.Metrics) uint64 { return m.BytesReceived }),
	duration("rtt", "smoothed round-trip time, as the full socket had it last", 2,
		func(e Entry) (time.Duration, bool) { return e.Metrics.RTT, e.Metrics.Known && e.Metrics.RTT > 0 }),
	metric("retr", "how many segments were sent again", 4, 2, func(m *tracer.Metrics) uint64 { return uint64(m.Retransmitted) }),
	{Name: "why", About: "the reason of the end, or the state that it is in, and what else is known", Width: 20, Least: len("fin_received"), Goes: text.Never,
		Cut: text.Words, Blank: true,
		Cell: func(b []byte, e Entry) []byte { return e.to.why(b, e.Conn) },
		Colour: func(e Entry) string {
			switch e.Reason {
			case tracer.ReasonNone, tracer.ReasonExpired, tracer.ReasonClosed:
				return ""
			}
			return text.Red
		}},
}

func duration(name, about string, goes int, of func(Entry) (time.Duration, bool)) text.Column[Entry] {
	return text.Column[Entry]{Name: name, About: about, Width: 9, Least: len("999.9ms"), Goes: goes,
		Cell: func(b []byte, e Entry) []byte {
			switch d, known := of(e); {
			case !known:
				return b
			case d == 0:
				return append(b, '0')
			default:
				return append(b, text.Rough(d)...)
			}
		}}
}

// over is a part of a connection, as far as that is over.
func over(key string, last func(*Conn) (time.Duration, bool)) func(Entry) (time.Duration, bool) {
	return func(e Entry) (time.Duration, bool) {
		d, known := last(e.Conn)
		return d, known && e.over(key)
	}
}

func metric(name, about string, width, goes int, of func(*tracer.Metrics) uint64) text.Column[Entry] {
	return text.Column[Entry]{Name: name, About: about, Width: width, Goes: goes,
		Cell: func(b []byte, e Entry) []byte {
			if !e.Metrics.Known {
				return b
			}
			return strconv.AppendUint(b, of(&e.Metrics), 10)
		}}
}

// Text writes a line a connection.
type Text struct {
	table *text.Table[Entry]
	times text.Times
	names label.Names // nil: none
}

// NewText writes to w, with names if there are some. Of times, the Clock and Began count.
func NewText(w *bufio.Writer, form text.Form, columns text.Columns[Entry], times text.Times, names label.Names) *Text {
	times.Decimals = 3
	if times.Clock == text.ClockNone {
		columns.Remove("opened")
	}
	s := &Text{table: text.NewTable(w, form, columns), times: times, names: names}
	s.table.Widen("opened", times.Width())
	return s
}

// Conn writes a line, the first time below a line of titles.
func (s *Text) Conn(c *Conn) error { return s.table.Row(Entry{c, s}) }

// why is the reason of the end, or the state that it is in, and what else is known.
func (s *Text) why(b []byte, c *Conn) []byte {
	if c.State != tracer.Closed {
		b = append(append(b, "in "...), c.State.String()...)
	}
	b = append(b, c.Reason.String()...)
	if c.Detail != tracer.DetailNone {
		b = append(append(b, ' '), c.Detail.String()...)
	}
	if c.Closer.PID != 0 && c.Closer.PID != c.Owner.PID {
		b = append(b, " closer="...)
		b = append(strconv.AppendUint(b, uint64(c.Closer.PID), 10), '/')
		b = text.AppendName(b, &c.Closer.Comm)
	}
	if c.Handler.PID != 0 && c.Handler.PID != c.Owner.PID {
		b = append(b, " handler="...)
		b = append(strconv.AppendUint(b, uint64(c.Handler.PID), 10), '/')
		b = text.AppendName(b, &c.Handler.Comm)
	}
	b = text.AppendNames(b, s.names, c.Owner.CgroupID, c.NetNS, c.NetNSCookie)
	if c.Missed > 0 {
		b = strconv.AppendInt(append(b, " missed="...), int64(c.Missed), 10)
	}
	return b
}

// End writes nothing: the command says the summary on stderr.
func (s *Text) End(*Summary) error { return nil }
