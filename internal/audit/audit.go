// Package audit compares what a tracer has counted with the kernel's own
// counters, network namespace by network namespace.
package audit

import (
	"cmp"
	"slices"

	"finwait/internal/netstat"
	"finwait/tracer"
)

// A Verdict says what a comparison came to.
type Verdict string

// The verdicts.
const (
	Agrees    Verdict = "agrees"
	Explained Verdict = "explained" // they differ, or cannot be compared, and Row.Cause says why
	Disagrees Verdict = "disagrees"
)

// A Row compares one counter of one network namespace over a span of time.
type Row struct {
	NetNS   uint32 // inode number
	Counter string // as netstat(8) and /proc/net/sockstat spell it; "" for the namespace as a whole
	Kernel  int64  // by how much it went up
	Finwait int64
	Verdict Verdict
	Cause   string
}

// A counter is one that both sides have.
type counter struct {
	name    string
	kernel  func(netstat.Counters) int64
	finwait func(*tracer.NetNSTotals) int64
	// more says why the kernel may have counted more.
	more string
}

func named(names ...string) func(netstat.Counters) int64 {
	return func(c netstat.Counters) (sum int64) {
		for _, name := range names {
			sum += c[name]
		}
		return sum
	}
}

const currEstab = "CurrEstab"

// counters are compared in this order. CurrEstab leaves CLOSE_WAIT out, against
// RFC 1213, in kernels without "tcp: count CLOSE-WAIT sockets for
// TCP_MIB_CURRESTAB" (6.10, and later ones of older series).
func counters(closeWait bool) []counter {
	return []counter{
		{"ActiveOpens", named("Tcp.ActiveOpens"), func(n *tracer.NetNSTotals) int64 { return n.ActiveOpens }, ""},
		{"PassiveOpens", named("Tcp.PassiveOpens"), func(n *tracer.NetNSTotals) int64 { return n.PassiveOpens }, ""},
		{"AttemptFails", named("Tcp.AttemptFails"), func(n *tracer.NetNSTotals) int64 { return n.AttemptFails },
			"handshakes that failed before they had a socket"},
		{"EstabResets", named("Tcp.EstabResets"), func(n *tracer.NetNSTotals) int64 { return n.EstabResets }, ""},
		{currEstab, named("Tcp.CurrEstab"), func(n *tracer.NetNSTotals) int64 {
			if closeWait {
				return n.Established + n.CloseWait
			}
			return n.Established
		}, ""},
		{"TcpExtTW+TWKilled", named("TcpExt.TW", "TcpExt.TWKilled"), func(n *tracer.NetNSTotals) int64 { return n.Minisocks }, ""},
		{"TcpExtTWRecycled", named("TcpExt.TWRecycled"), func(n *tracer.NetNSTotals) int64 { return n.Reused }, ""},
		{"TcpExtTCPTimeWaitOverflow", named("TcpExt.TCPTimeWaitOverflow"), func(n *tracer.NetNSTotals) int64 { return n.TimeWaitOverflow }, ""},
		{"sockstat tw", named("sockstat.TCP.tw"), func(n *tracer.NetNSTotals) int64 { return n.MinisocksAlive }, ""},
	}
}

// A reading is one namespace at one moment. The kernel is read between two
// looks at the tracer; where those differ, things moved meanwhile.
type reading struct {
	inode         uint32
	kernel        netstat.Counters
	before, after tracer.NetNSTotals
}

func (r *reading) moved() bool { return r.before != r.after }

// A Snapshot is every namespace that could be read, by cookie, at one moment.
type Snapshot struct {
	readings map[uint64]reading
	seen     map[uint64]uint32 // namespaces that the tracer knew, with their inode numbers
	untold   tracer.NetNSTotals
	lost     uint64 // transitions that are in no total
}

// Compare says what came between two snapshots. cpus is how many CPUs can each
// have been between a transition and the kernel's counting it.
func Compare(start, end *Snapshot, cpus int) []Row {
	// The two ways to count CLOSE_WAIT differ by as much as there is of it; the
	// kernel has one, so the one that fits is to fit everywhere.
	rows := compare(start, end, cpus, true)
	if other := compare(start, end, cpus, false); bad(other) < bad(rows) {
		return other
	}
	return rows
}

func bad(rows []Row) (n int) {
	for _, r := range rows {
		if r.Verdict == Disagrees {
			n++
		}
	}
	return n
}

func compare(start, end *Snapshot, cpus int, closeWait bool) []Row {
	var rows []Row
	all := counters(closeWait)
	lost := int64(end.lost - start.lost)
	for cookie, last := range end.readings {
		first, known := start.readings[cookie]
		for _, c := range all {
			r := Row{NetNS: last.inode, Counter: c.name}
			r.Kernel = c.kernel(last.kernel) - c.kernel(first.kernel)
			low, high := span(&c, &first, &last, cpus)
			r.Finwait = min(max(r.Kernel, low), high)
			r.judge(c.more, lost, known)
			rows = append(rows, r)
		}
	}
	gone := make(map[uint64]uint32)
	for cookie, r := range start.readings {
		gone[cookie] = r.inode
	}
	for cookie, inode := range end.seen {
		gone[cookie] = inode
	}
	for cookie, inode := range gone {
		if _, ok := end.readings[cookie]; ok {
			continue
		}
		cause := "cannot be entered, or was removed"
		if _, ok := start.readings[cookie]; ok {
			cause = "was removed: its last counters cannot be read"
		}
		rows = append(rows, Row{NetNS: inode, Verdict: Explained, Cause: cause})
	}
	if end.untold != start.untold {
		rows = append(rows, Row{Verdict: Explained, Cause: "sockets in more namespaces than can be told apart"})
	}
	slices.SortStableFunc(rows, func(a, b Row) int { return cmp.Compare(a.NetNS, b.NetNS) })
	return rows
}

// span is between which bounds the tracer's count of what the kernel counted
// lies. If nothing moved while either end was read, they are the same.
func span(c *counter, first, last *reading, cpus int) (low, high int64) {
	a, b := c.finwait(&first.before), c.finwait(&first.after)
	x, y := c.finwait(&last.before), c.finwait(&last.after)
	low, high = min(x, y)-max(a, b), max(x, y)-min(a, b)
	for _, r := range []*reading{first, last} {
		if r.moved() {
			low, high = low-int64(cpus), high+int64(cpus)
		}
	}
	return low, high
}

// judge: lost transitions explain as large a difference as there are of them.
func (r *Row) judge(more string, lost int64, known bool) {
	diff := r.Kernel - r.Finwait
	switch {
	case diff == 0:
		r.Verdict = Agrees
	case diff > 0 && more != "":
		r.Verdict, r.Cause = Explained, more
	case max(diff, -diff) <= lost:
		r.Verdict, r.Cause = Explained, "transitions were lost, which was counted"
	case !known:
		r.Verdict, r.Cause = Explained, "was not found at the start, and may be older"
	default:
		r.Verdict = Disagrees
	}
}
