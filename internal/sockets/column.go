package sockets

import (
	"bytes"
	"cmp"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"finwait/internal/sockdiag"
	"finwait/internal/text"
	"finwait/tracer"
)

// An Entry is a socket with the names that are known.
type Entry struct {
	*Row
	names *Names
}

// A column shows one field of sockets, and orders them by it.
type column struct {
	text.Column[Entry]
	need    Need
	known   func(*Row) bool     // nil: always
	compare func(a, b *Row) int // nil: by what is shown
}

// columns are all that there are, in the order in which they are shown.
var columns = []column{
	{text.Column[Entry]{Name: "netns", About: "inode number of the network namespace", Width: 10, Goes: 5,
		Cell: func(b []byte, e Entry) []byte { return strconv.AppendUint(b, uint64(e.NetNS), 10) }},
		0, nil, func(a, b *Row) int { return cmp.Compare(a.NetNS, b.NetNS) }},
	{text.Column[Entry]{Name: "state", About: "as RFC 9293 calls it", Width: len("NEW_SYN_RECV"), Goes: text.Never,
		Cell:   func(b []byte, e Entry) []byte { return append(b, e.TCPState().String()...) },
		Colour: func(e Entry) string { return text.StateColour(e.TCPState()) }},
		0, nil, func(a, b *Row) int { return cmp.Compare(a.State, b.State) }},
	{text.Column[Entry]{Name: "recv-q", About: "bytes that the process has not read; of a listener the connections that nobody has accepted yet", Width: 7,
		Cell: func(b []byte, e Entry) []byte { return strconv.AppendUint(b, uint64(e.RecvQueue), 10) }},
		0, queued, func(a, b *Row) int { return cmp.Compare(a.RecvQueue, b.RecvQueue) }},
	{text.Column[Entry]{Name: "send-q", About: "bytes that the peer has not acknowledged; of a listener how many connections may wait", Width: 7,
		Cell: func(b []byte, e Entry) []byte { return strconv.AppendUint(b, uint64(e.SendQueue), 10) }},
		0, queued, func(a, b *Row) int { return cmp.Compare(a.SendQueue, b.SendQueue) }},
	{text.Endpoint("local", "address and port of this end", text.Never,
		func(e Entry) (netip.AddrPort, tracer.Scope) { return e.Local, e.Scope }),
		0, nil, func(a, b *Row) int { return a.Local.Compare(b.Local) }},
	{text.Endpoint("remote", "address and port of the other end", text.Never,
		func(e Entry) (netip.AddrPort, tracer.Scope) { return e.Remote, e.Scope }),
		0, nil, func(a, b *Row) int { return a.Remote.Compare(b.Remote) }},
	{text.Column[Entry]{Name: "pid", About: "the process that holds the socket", Width: 7, Goes: 9, // PID_MAX_LIMIT is 4194304
		Cell: func(b []byte, e Entry) []byte { return strconv.AppendUint(b, uint64(e.Owner.PID), 10) }},
		NeedOwners, owned, func(a, b *Row) int { return cmp.Compare(a.Owner.PID, b.Owner.PID) }},
	{text.Column[Entry]{Name: "comm", About: "the name of this process", Width: text.CommWidth, Goes: 6, Cut: text.Middle,
		Cell: func(b []byte, e Entry) []byte { return text.AppendName(b, &e.Owner.Comm) }},
		NeedOwners, owned, func(a, b *Row) int { return bytes.Compare(a.Owner.Comm.Bytes(), b.Owner.Comm.Bytes()) }},
	{text.Column[Entry]{Name: "fd", About: "its descriptor of the socket, the lowest if it has several", Width: 6,
		Cell: func(b []byte, e Entry) []byte { return strconv.AppendUint(b, uint64(e.FD), 10) }},
		NeedOwners, owned, func(a, b *Row) int { return cmp.Compare(a.FD, b.FD) }},
	{text.Column[Entry]{Name: "uid", About: "the user of the socket", Width: 6, Goes: 2,
		Cell: func(b []byte, e Entry) []byte { return strconv.AppendUint(b, uint64(e.UID), 10) }},
		0, func(r *Row) bool { return r.UIDKnown }, func(a, b *Row) int { return cmp.Compare(a.UID, b.UID) }},
	{text.Column[Entry]{Name: "role", About: "listener; server or client only where that is certain", Width: 8,
		Cell: func(b []byte, e Entry) []byte { return append(b, e.Role().String()...) }},
		NeedInfo, func(r *Row) bool { return r.Role() != tracer.RoleUnknown },
		func(a, b *Row) int { return cmp.Compare(a.Role(), b.Role()) }},
	{text.Column[Entry]{Name: "timer", About: "the kernel's timer of the socket", Width: 10, Goes: 4,
		Cell: func(b []byte, e Entry) []byte { return append(b, e.Timer.String()...) }},
		0, ticking, func(a, b *Row) int { return cmp.Compare(a.TimerLeft, b.TimerLeft) }},
	{text.Column[Entry]{Name: "left", About: "time until this timer fires", Width: 8, Goes: 3,
		Cell: func(b []byte, e Entry) []byte { return text.AppendMillis(b, e.TimerLeft) }},
		0, ticking, func(a, b *Row) int { return cmp.Compare(a.TimerLeft, b.TimerLeft) }},
	{text.Column[Entry]{Name: "retries", About: "retransmissions, or probes, of this timer without an answer", Width: 7,
		Cell: func(b []byte, e Entry) []byte { return strconv.AppendUint(b, uint64(e.Retries), 10) }},
		0, func(r *Row) bool { return r.Timer != sockdiag.NoTimer && r.Timer != sockdiag.TimeWait },
		func(a, b *Row) int { return cmp.Compare(a.Retries, b.Retries) }},
	{text.Column[Entry]{Name: "age", About: `how long it has been in its state; ">": at least`, Width: 8, Goes: 8,
		Cell: func(b []byte, e Entry) []byte { d, p := e.Age(); return text.AppendAge(b, d, p) }},
		NeedInfo, func(r *Row) bool { _, p := r.Age(); return p != tracer.PrecisionUnknown },
		func(a, b *Row) int { return cmp.Compare(age(a), age(b)) }},
	{text.Column[Entry]{Name: "idle", About: `"~": no data was sent or received for so long, to the tick`, Width: 8,
		Cell: func(b []byte, e Entry) []byte { return text.AppendMillis(append(b, '~'), idle(e.Row)) }},
		NeedInfo, func(r *Row) bool { _, known := r.Idle(); return known },
		func(a, b *Row) int { return cmp.Compare(idle(a), idle(b)) }},
	{text.Column[Entry]{Name: "held", About: "held by a process; queued for accept(2), by nobody yet; or an orphan, which no process has any more", Width: 6, Goes: 7,
		Cell: func(b []byte, e Entry) []byte { return append(b, e.held()...) }},
		NeedInfo, func(r *Row) bool { return r.held() != "" },
		func(a, b *Row) int { return cmp.Compare(a.held(), b.held()) }},
	{text.Column[Entry]{Name: "netns-name", About: "the name of the network namespace", Width: 16, Cut: text.Middle,
		Cell: func(b []byte, e Entry) []byte { return text.AppendPrintable(b, e.names.netNS(e.Row)) }},
		NeedNames, nil, nil},
	{text.Column[Entry]{Name: "name", About: "the name of the pod, the container or the systemd unit", Width: 24, Cut: text.Middle,
		Cell: func(b []byte, e Entry) []byte {
			c := e.names.cgroup(e.CgroupID)
			return text.AppendPrintable(b, c.Name())
		}},
		NeedNames, nil, nil},
	{text.Column[Entry]{Name: "cgroup", About: "path of the cgroup, or its number", Width: 6, Goes: 1, Cut: text.Middle,
		Cell: func(b []byte, e Entry) []byte { return appendCgroup(b, e.CgroupID, e.names) }},
		NeedCgroupPaths, func(r *Row) bool { return r.CgroupID != 0 }, nil},
}

func queued(r *Row) bool  { _, _, known := r.Queues(); return known }
func owned(r *Row) bool   { return r.Owner.PID != 0 }
func ticking(r *Row) bool { return r.Timer != sockdiag.NoTimer }

func age(r *Row) time.Duration  { d, _ := r.Age(); return d }
func idle(r *Row) time.Duration { d, _ := r.Idle(); return d }

// held says who has the socket: "held" by a process, "queued" for one, or an "orphan".
func (r *Row) held() string {
	if queued, known := r.Queued(); queued && known {
		return "queued"
	}
	switch orphan, known := r.Orphan(); {
	case !known:
		return ""
	case orphan:
		return "orphan"
	}
	return "held"
}

// Columns are all that Text can show of sockets.
var Columns = func() (all []text.Column[Entry]) {
	for _, c := range columns {
		cell := c.Cell
		c.Cell = func(b []byte, e Entry) []byte {
			if c.known != nil && !c.known(e.Row) {
				return b
			}
			return cell(b, e)
		}
		all = append(all, c.Column)
	}
	return all
}()

// ColumnsNeed is what columns show beside what is always read.
func ColumnsNeed(c text.Columns[Entry]) (need Need) {
	for _, name := range c.Names() {
		i, _ := text.Find(Columns, name) // it was found before
		need |= columns[i].need
	}
	return need
}

// Order compares by a column, backwards if the name begins with "-"; "" gives nil. Sockets of which
// it is not known come last, whichever way the others are sorted.
// names are used when rows are compared, and may be filled in later.
func Order(name string, names *Names) (compare func(a, b *Row) int, need Need, err error) {
	if name == "" {
		return nil, 0, nil
	}
	name, backwards := strings.CutPrefix(name, "-")
	i, err := text.Find(Columns, name)
	if err != nil {
		return nil, 0, err
	}
	c := columns[i]
	if c.compare == nil {
		word := func(r *Row) string { return string(c.Cell(nil, Entry{r, names})) }
		known := c.known
		c.known = func(r *Row) bool { return (known == nil || known(r)) && word(r) != "" }
		c.compare = func(a, b *Row) int { return cmp.Compare(word(a), word(b)) }
	}
	return func(a, b *Row) int {
		if c.known != nil {
			switch ka, kb := c.known(a), c.known(b); {
			case !ka && !kb:
				return 0
			case !ka:
				return 1
			case !kb:
				return -1
			}
		}
		if backwards {
			return c.compare(b, a)
		}
		return c.compare(a, b)
	}, c.need, nil
}
