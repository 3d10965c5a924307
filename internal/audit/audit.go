// Package audit compares what a tracer has counted with the kernel's own
// counters, network namespace by network namespace.
package audit

import (
	"cmp"
	"maps"
	"slices"

	"finwait/internal/netstat"
	"finwait/tracer"
)

// A Verdict is the outcome of a comparison.
type Verdict string

// The verdicts.
const (
	Agrees    Verdict = "agrees"
	Explained Verdict = "explained" // the counts differ or cannot be compared; Row.Cause says why
	Disagrees Verdict = "disagrees"
)

// A Row compares one counter of one network namespace over a span of time.
type Row struct {
	NetNS   uint32 // inode number
	Counter string // as netstat(8) and /proc/net/sockstat spell it; "" for the namespace as a whole
	Kernel  int64  // increase of the kernel's counter
	Finwait int64  // increase of the tracer's count
	Verdict Verdict
	Cause   string
}

// A counter is a counter that both the kernel and the tracer have.
type counter struct {
	name    string
	kernel  func(netstat.Counters) int64
	finwait func(*tracer.NetNSTotals) int64
	// more is how many more the kernel may count than the tracer; nil: none.
	more func(netstat.Counters, *tracer.NetNSTotals) int64
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

// moreFails is how many AttemptFails the kernel may count that are no failure of a socket.
// tcp_check_req() counts an RST or SYN that meets a request_sock, and then EmbryonicRsts. It also
// counts an RST that meets a fast-open child in its handshake, of which it knows the request_sock;
// if the child is in SYN_RECV, tcp_done() counts it again, and if it is in FIN_WAIT_1 the tracer
// sees no failure. TCPFastOpenPassive counts these children.
func moreFails(k netstat.Counters, n *tracer.NetNSTotals) int64 {
	return k["TcpExt.EmbryonicRsts"] + k["TcpExt.TCPFastOpenPassive"] + n.MaybeFails
}

const moreFailsCause = "handshakes that failed in a request_sock, or before the child was ready"

// counters lists the counters in the order of comparison. closeWait: CurrEstab includes
// CLOSE_WAIT, as RFC 1213 demands. Kernels without the commit "tcp: count CLOSE-WAIT sockets
// for TCP_MIB_CURRESTAB" (6.10, and stable releases of older series) do not include it.
func counters(closeWait bool) []counter {
	return []counter{
		{"ActiveOpens", named("Tcp.ActiveOpens"), func(n *tracer.NetNSTotals) int64 { return n.ActiveOpens }, nil},
		{"PassiveOpens", named("Tcp.PassiveOpens"), func(n *tracer.NetNSTotals) int64 { return n.PassiveOpens }, nil},
		{"AttemptFails", named("Tcp.AttemptFails"), func(n *tracer.NetNSTotals) int64 { return n.AttemptFails }, moreFails},
		{"EstabResets", named("Tcp.EstabResets"), func(n *tracer.NetNSTotals) int64 { return n.EstabResets }, nil},
		{currEstab, named("Tcp.CurrEstab"), func(n *tracer.NetNSTotals) int64 {
			if closeWait {
				return n.Established + n.CloseWait
			}
			return n.Established
		}, nil},
		{"TcpExtTW+TWKilled", named("TcpExt.TW", "TcpExt.TWKilled"), func(n *tracer.NetNSTotals) int64 { return n.Minisocks }, nil},
		{"TcpExtTWRecycled", named("TcpExt.TWRecycled"), func(n *tracer.NetNSTotals) int64 { return n.Reused }, nil},
		{"TcpExtTCPTimeWaitOverflow", named("TcpExt.TCPTimeWaitOverflow"), func(n *tracer.NetNSTotals) int64 { return n.TimeWaitOverflow }, nil},
		{"sockstat tw", named("sockstat.TCP.tw"), func(n *tracer.NetNSTotals) int64 { return n.MinisocksAlive }, nil},
	}
}

// A reading has the counters of one namespace at one time. The tracer is read before and
// after the kernel. All of it is read again until two readings are equal.
type reading struct {
	inode         uint32
	kernel        netstat.Counters
	before, after tracer.NetNSTotals
	first         *reading // first reading of the snapshot, if no two readings were equal
}

// moved reports whether a counter changed between the first and the last reading.
func (r *reading) moved(c *counter) bool {
	if r.first == nil {
		return false
	}
	return c.kernel(r.first.kernel) != c.kernel(r.kernel) || c.finwait(&r.first.before) != c.finwait(&r.after) ||
		c.more != nil && c.more(r.first.kernel, &r.first.before) != c.more(r.kernel, &r.after)
}

// A Snapshot has the readings, by cookie, of every namespace that could be read.
type Snapshot struct {
	readings map[uint64]reading
	seen     map[uint64]uint32  // inode numbers of the namespaces that the tracer saw, by cookie
	untold   tracer.NetNSTotals // of namespaces that have no totals of their own
	lost     int64              // transitions that are in no total, in all namespaces
	told     int64              // lost transitions whose namespace is known
}

// Compare compares the increases between two snapshots. cpus is the number of CPUs: each can
// have been between a transition and the kernel's count of it.
func Compare(start, end *Snapshot, cpus int) []Row {
	// A kernel either includes CLOSE_WAIT in CurrEstab or does not. The way with fewer
	// disagreements is taken for all namespaces.
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
	// unknown counts the losses that cannot be attributed to a namespace. Each may explain a
	// difference in any namespace, but only in one.
	unknown := (end.lost - start.lost) - (end.told - start.told)
	for _, cookie := range slices.Sorted(maps.Keys(end.readings)) {
		last := end.readings[cookie]
		first, known := start.readings[cookie]
		spent := int64(0)
		for i := range all {
			r := all[i].judge(&first, &last, cpus, known, unknown)
			spent = max(spent, r.spent)
			rows = append(rows, r.Row)
		}
		unknown -= spent
	}
	gone := make(map[uint64]uint32)
	for cookie, r := range start.readings {
		gone[cookie] = r.inode
	}
	maps.Copy(gone, end.seen)
	for cookie, inode := range gone {
		if _, ok := end.readings[cookie]; ok {
			continue
		}
		cause := "could not be entered, or was removed"
		if _, ok := start.readings[cookie]; ok {
			cause = "was removed, or could not be entered again: its last counters are not known"
		}
		rows = append(rows, Row{NetNS: inode, Verdict: Explained, Cause: cause})
	}
	if end.untold != start.untold {
		rows = append(rows, Row{Verdict: Explained, Cause: "sockets in more namespaces than can be told apart"})
	}
	slices.SortStableFunc(rows, func(a, b Row) int { return cmp.Compare(a.NetNS, b.NetNS) })
	return rows
}

// judged is a row, and how many losses of an unknown namespace explain it.
type judged struct {
	Row
	spent int64
}

// judge compares a counter between two readings of a namespace. known: the first reading
// exists. unknown: losses that cannot be attributed to a namespace.
func (c *counter) judge(first, last *reading, cpus int, known bool, unknown int64) judged {
	r := judged{Row: Row{NetNS: last.inode, Counter: c.name, Verdict: Explained}}
	r.Kernel = c.kernel(last.kernel) - c.kernel(first.kernel)
	r.Finwait = c.finwait(&last.after) - c.finwait(&first.after)
	diff := r.Kernel - r.Finwait
	off := max(diff, -diff)
	if c.more != nil && diff > 0 {
		off = max(0, diff-max(0, c.more(last.kernel, &last.after)-c.more(first.kernel, &first.after)))
	}
	lost := last.after.Lost - first.before.Lost
	switch {
	case diff == 0:
		r.Verdict = Agrees
	case off == 0:
		r.Cause = moreFailsCause
	case off <= c.slack(first, cpus)+c.slack(last, cpus):
		r.Cause = "it moved while it was read"
	case off <= lost:
		r.Cause = "transitions were lost, which was counted"
	case off <= lost+unknown:
		r.Cause, r.spent = "transitions were lost, which was counted", off-lost
	case !known:
		r.Cause = "was not found at the start, and may be older"
	default:
		r.Verdict = Disagrees
	}
	return r
}

// slack is the largest error of a reading: what the tracer counted while the kernel was
// read, and one transition for each CPU.
func (c *counter) slack(r *reading, cpus int) int64 {
	if !r.moved(c) {
		return 0
	}
	d := c.finwait(&r.after) - c.finwait(&r.before)
	return max(d, -d) + int64(cpus)
}

// Renew makes a snapshot that was the start of comparisons fit for the next: namespaces that were
// found later are compared from then on, and those that are gone are forgotten.
func (s *Snapshot) Renew(later *Snapshot) {
	for cookie, r := range later.readings {
		if _, known := s.readings[cookie]; !known {
			s.readings[cookie] = r
		}
	}
	maps.DeleteFunc(s.readings, func(cookie uint64, _ reading) bool {
		_, there := later.readings[cookie]
		return !there
	})
}
