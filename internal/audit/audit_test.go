package audit

import (
	"testing"

	"finwait/internal/netstat"
	"finwait/tracer"

	"github.com/google/go-cmp/cmp"
)

// kernel returns counters with the given values.
func kernel(active, fails, estab, tw int64) netstat.Counters {
	return netstat.Counters{"Tcp.ActiveOpens": active, "Tcp.AttemptFails": fails, "Tcp.CurrEstab": estab, "TcpExt.TW": tw - 1, "TcpExt.TWKilled": 1}
}

// with adds other counters: names and values.
func with(c netstat.Counters, more ...any) netstat.Counters {
	for i := 0; i < len(more); i += 2 {
		c[more[i].(string)] = int64(more[i+1].(int))
	}
	return c
}

func snapshot(readings map[uint64]reading) *Snapshot { return &Snapshot{readings: readings} }

// quiet is a reading during which no counter changed.
func quiet(inode uint32, k netstat.Counters, f tracer.NetNSTotals) reading {
	return reading{inode: inode, kernel: k, before: f, after: f}
}

// moving is a reading during which counters changed.
func moving(k netstat.Counters, before, after tracer.NetNSTotals) reading {
	return reading{inode: 7, kernel: k, before: before, after: after, first: &reading{kernel: k, before: before, after: before}}
}

const cpus = 2

// differing returns the rows that do not agree.
func differing(start, end *Snapshot) (rows []Row) {
	for _, r := range Compare(start, end, cpus) {
		if r.Verdict != Agrees {
			rows = append(rows, r)
		}
	}
	return rows
}

func TestCompare(t *testing.T) {
	start := quiet(7, kernel(100, 3, 5, 50), tracer.NetNSTotals{ActiveOpens: 1, Established: 1})
	for name, c := range map[string]struct {
		start, end *Snapshot
		want       []Row
	}{
		"agrees": {
			snapshot(map[uint64]reading{1: start}),
			snapshot(map[uint64]reading{1: quiet(7, kernel(110, 3, 6, 60), tracer.NetNSTotals{ActiveOpens: 11, Established: 2, Minisocks: 10})}),
			nil,
		},
		"one TIME_WAIT too few": {
			snapshot(map[uint64]reading{1: start}),
			snapshot(map[uint64]reading{1: quiet(7, kernel(110, 3, 6, 60), tracer.NetNSTotals{ActiveOpens: 11, Established: 2, Minisocks: 9})}),
			[]Row{{7, "TcpExtTW+TWKilled", 10, 9, Disagrees, ""}},
		},
		"as many as were lost": {
			snapshot(map[uint64]reading{1: start}),
			&Snapshot{lost: 1, readings: map[uint64]reading{1: quiet(7, kernel(110, 3, 6, 60), tracer.NetNSTotals{ActiveOpens: 11, Established: 2, Minisocks: 9})}},
			[]Row{{7, "TcpExtTW+TWKilled", 10, 9, Explained, "transitions were lost, which was counted"}},
		},
		"more than were lost": {
			&Snapshot{lost: 5, readings: map[uint64]reading{1: start}},
			&Snapshot{lost: 6, readings: map[uint64]reading{1: quiet(7, kernel(110, 3, 6, 60), tracer.NetNSTotals{ActiveOpens: 11, Established: 2, Minisocks: 8})}},
			[]Row{{7, "TcpExtTW+TWKilled", 10, 8, Disagrees, ""}},
		},
		"as many fail as handshakes without a socket": {
			snapshot(map[uint64]reading{1: start}),
			snapshot(map[uint64]reading{1: quiet(7, with(kernel(100, 8, 5, 50), "TcpExt.EmbryonicRsts", 2, "TcpExt.TCPFastOpenPassive", 1),
				tracer.NetNSTotals{ActiveOpens: 1, Established: 1, AttemptFails: 1, MaybeFails: 1})}),
			[]Row{{7, "AttemptFails", 5, 1, Explained, "handshakes that failed in a request_sock, or before the child was ready"}},
		},
		"one more fails": {
			snapshot(map[uint64]reading{1: start}),
			snapshot(map[uint64]reading{1: quiet(7, with(kernel(100, 9, 5, 50), "TcpExt.EmbryonicRsts", 2, "TcpExt.TCPFastOpenPassive", 1),
				tracer.NetNSTotals{ActiveOpens: 1, Established: 1, AttemptFails: 1, MaybeFails: 1})}),
			[]Row{{7, "AttemptFails", 6, 1, Disagrees, ""}},
		},
		"one more fails, and one was lost": {
			snapshot(map[uint64]reading{1: start}),
			snapshot(map[uint64]reading{1: quiet(7, with(kernel(100, 6, 5, 50), "TcpExt.EmbryonicRsts", 2),
				tracer.NetNSTotals{ActiveOpens: 1, Established: 1, Lost: 1})}),
			[]Row{{7, "AttemptFails", 3, 0, Explained, "transitions were lost, which was counted"}},
		},
		"handshakes fail, but not in the kernel's count": {
			snapshot(map[uint64]reading{1: start}),
			snapshot(map[uint64]reading{1: quiet(7, with(kernel(100, 3, 5, 50), "TcpExt.EmbryonicRsts", 2), tracer.NetNSTotals{ActiveOpens: 1, Established: 1})}),
			nil,
		},
		"finwait cannot have seen more fail": {
			snapshot(map[uint64]reading{1: start}),
			snapshot(map[uint64]reading{1: quiet(7, kernel(100, 3, 5, 50), tracer.NetNSTotals{ActiveOpens: 1, Established: 1, AttemptFails: 1})}),
			[]Row{{7, "AttemptFails", 0, 1, Disagrees, ""}},
		},
		"moves while it is read": {
			snapshot(map[uint64]reading{1: start}),
			snapshot(map[uint64]reading{1: moving(kernel(110, 3, 5, 50), tracer.NetNSTotals{ActiveOpens: 9, Established: 1}, tracer.NetNSTotals{ActiveOpens: 12, Established: 1})}),
			[]Row{{7, "ActiveOpens", 10, 11, Explained, "it moved while it was read"}},
		},
		"moves, but not that much": {
			snapshot(map[uint64]reading{1: start}),
			snapshot(map[uint64]reading{1: moving(kernel(120, 3, 5, 50), tracer.NetNSTotals{ActiveOpens: 9, Established: 1}, tracer.NetNSTotals{ActiveOpens: 12, Established: 1})}),
			[]Row{{7, "ActiveOpens", 20, 11, Disagrees, ""}},
		},
		"another moves": {
			snapshot(map[uint64]reading{1: start}),
			snapshot(map[uint64]reading{1: moving(kernel(111, 3, 5, 51), tracer.NetNSTotals{ActiveOpens: 9, Established: 1}, tracer.NetNSTotals{ActiveOpens: 12, Established: 1})}),
			[]Row{{7, "TcpExtTW+TWKilled", 1, 0, Disagrees, ""}},
		},
		"a loss is of one namespace": {
			snapshot(map[uint64]reading{1: start, 2: start}),
			&Snapshot{lost: 1, readings: map[uint64]reading{
				1: quiet(7, kernel(101, 3, 5, 51), tracer.NetNSTotals{ActiveOpens: 1, Established: 1}),
				2: quiet(7, kernel(101, 3, 5, 50), tracer.NetNSTotals{ActiveOpens: 1, Established: 1}),
			}},
			[]Row{
				{7, "ActiveOpens", 1, 0, Explained, "transitions were lost, which was counted"},
				{7, "TcpExtTW+TWKilled", 1, 0, Explained, "transitions were lost, which was counted"},
				{7, "ActiveOpens", 1, 0, Disagrees, ""},
			},
		},
		"a loss is of this namespace": {
			snapshot(map[uint64]reading{1: start, 2: start}),
			&Snapshot{lost: 1, told: 1, readings: map[uint64]reading{
				1: quiet(7, kernel(101, 3, 5, 50), tracer.NetNSTotals{ActiveOpens: 1, Established: 1}),
				2: quiet(7, kernel(101, 3, 5, 50), tracer.NetNSTotals{ActiveOpens: 1, Established: 1, Lost: 1}),
			}},
			[]Row{
				{7, "ActiveOpens", 1, 0, Disagrees, ""},
				{7, "ActiveOpens", 1, 0, Explained, "transitions were lost, which was counted"},
			},
		},
		"removed": {
			snapshot(map[uint64]reading{1: start}), snapshot(nil),
			[]Row{{7, "", 0, 0, Explained, "was removed, or could not be entered again: its last counters are not known"}},
		},
		"never to be read": {
			snapshot(nil), &Snapshot{seen: map[uint64]uint32{2: 9}},
			[]Row{{9, "", 0, 0, Explained, "could not be entered, or was removed"}},
		},
		"new": {
			snapshot(nil),
			snapshot(map[uint64]reading{1: quiet(7, kernel(1, 0, 0, 1), tracer.NetNSTotals{ActiveOpens: 1, Minisocks: 1})}),
			nil,
		},
		"older than it seemed": {
			snapshot(nil),
			snapshot(map[uint64]reading{1: quiet(7, kernel(2, 0, 0, 1), tracer.NetNSTotals{ActiveOpens: 1, Minisocks: 1})}),
			[]Row{{7, "ActiveOpens", 2, 1, Explained, "was not found at the start, and may be older"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(c.want, differing(c.start, c.end)); d != "" {
				t.Error(d)
			}
		})
	}
}

// A kernel counts CLOSE_WAIT as established everywhere or nowhere.
func TestCloseWait(t *testing.T) {
	none := tracer.NetNSTotals{}
	open := snapshot(map[uint64]reading{1: quiet(7, kernel(0, 0, 0, 1), none), 2: quiet(8, kernel(0, 0, 0, 1), none)})
	waiting := tracer.NetNSTotals{Established: 1, CloseWait: 2}
	end := func(a, b int64) *Snapshot {
		return snapshot(map[uint64]reading{1: quiet(7, kernel(0, 0, a, 1), waiting), 2: quiet(8, kernel(0, 0, b, 1), waiting)})
	}
	for _, c := range []struct {
		a, b int64
		bad  int
	}{{3, 3, 0}, {1, 1, 0}, {1, 3, 1}, {2, 2, 2}} {
		if got := len(differing(open, end(c.a, c.b))); got != c.bad {
			t.Errorf("CurrEstab up by %d and %d: %d disagree, want %d", c.a, c.b, got, c.bad)
		}
	}
}
