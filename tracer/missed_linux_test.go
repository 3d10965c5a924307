package tracer_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"finwait/internal/audit"
	"finwait/internal/netns"
	"finwait/internal/sandbox"
	"finwait/internal/test/testnet"
	"finwait/tracer"

	"golang.org/x/sys/unix"
)

// No program is run for the last transition of a socket. It is counted as missed, and the socket is
// not live any more. The audit agrees, apart from what it knows to be missed.
func TestMissedEnd(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("loading BPF programs needs root")
	}
	for _, c := range []struct {
		from tracer.State
		lost int64
		end  func(ns *sandbox.NS, f sandbox.Family)
	}{
		{tracer.SynSent, 1, func(ns *sandbox.NS, f sandbox.Family) {
			_ = ns.Socket(f).TryConnect(sandbox.At(f, 9))
		}},
		{tracer.Listen, 1, func(ns *sandbox.NS, f sandbox.Family) {
			ns.Socket(f).Bind(0).Listen().Close()
		}},
		{tracer.Established, 2, func(ns *sandbox.NS, f sandbox.Family) {
			p := ns.Pair(f)
			p.Server.ShutdownWrite()
			p.Client.WaitState(unix.BPF_TCP_CLOSE_WAIT)
			p.Client.Reset()
			ns.Pair(f).Client.Reset() // it is in ESTABLISHED at both ends
		}},
		{tracer.LastAck, 1, func(ns *sandbox.NS, f sandbox.Family) {
			p := ns.Pair(f)
			p.Client.Orphan()
			p.Server.WaitState(unix.BPF_TCP_CLOSE_WAIT)
			p.Server.Close()
		}},
		// Neither the hand-over nor the end of the minisock is seen.
		{tracer.FinWait2, 1, func(ns *sandbox.NS, f sandbox.Family) {
			ns.Sysctl("tcp_fin_timeout", "1")
			ns.Pair(f).Client.Orphan()
		}},
		{tracer.TimeWait, 1, func(ns *sandbox.NS, f sandbox.Family) {
			p := ns.Pair(f)
			p.Client.Orphan()
			p.Server.WaitState(unix.BPF_TCP_CLOSE_WAIT)
			p.Server.Close()
		}},
	} {
		if testing.Short() && c.from == tracer.TimeWait {
			continue
		}
		for _, by := range []tracer.Split{tracer.SplitNone, tracer.SplitNetNS} {
			if testing.Short() && by != tracer.SplitNone {
				continue // loading is slow on an emulated machine
			}
			t.Run(strings.TrimSuffix(fmt.Sprint(c.from, " by ", by), " by "), func(t *testing.T) {
				t.Parallel()
				testnet.Attempts(t, func(t *testing.T) string {
					return missEnd(t, c.from, c.lost, by, c.end)
				})
			})
		}
	}
}

// missEnd makes sockets with end, runs no program for the transition from from to CLOSED, and checks
// what is said of the lost transitions. It returns what else was lost, or "".
func missEnd(t *testing.T, from tracer.State, lost int64, by tracer.Split, end func(*sandbox.NS, sandbox.Family)) string {
	ns := sandbox.New(t)
	var cookie uint64
	ns.Try(func() (err error) {
		cookie, err = netns.Cookie()
		return err
	})
	tr, err := tracer.NewSkipping(tracer.Config{TotalsOnly: true, Audit: true, SplitBy: by}, ns.Inode, from, tracer.Closed)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	before, err := audit.Take(tr)
	if err != nil {
		t.Fatal(err)
	}
	end(ns, sandbox.Families[0])
	began := time.Now()
	for deadline := began.Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		n, err := tr.NetNSTotals(cookie)
		if err != nil {
			t.Fatal(err)
		}
		if n.Lost >= lost {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("not noticed: %+v", n)
		}
	}
	t.Logf("noticed %v after", time.Since(began))
	n, err := tr.NetNSTotals(cookie)
	if err != nil {
		t.Fatal(err)
	}
	tot, err := tr.Totals()
	if err != nil {
		t.Fatal(err)
	}
	if n.Lost != lost || tot.Gone[from] < uint64(lost) {
		return fmt.Sprintf("%d transitions of the namespace were lost, and %d sockets are said to be gone in %v; want %d of both",
			n.Lost, tot.Gone[from], from, lost)
	}
	after, err := audit.Take(tr)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range audit.Compare(before, after, runtime.NumCPU()) {
		if r.NetNS == ns.Inode && (r.Verdict == audit.Disagrees || r.Counter == "sockstat tw" && r.Verdict != audit.Agrees) {
			t.Errorf("%+v", r)
		}
	}
	// Another test's transition may be counted as seen, and not yet as what became of it.
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		st, err := tr.Stats()
		if err != nil {
			t.Fatal(err)
		}
		if st.Lost.Missed > 0 && st.Seen == st.Filtered+st.Delivered+st.Lost.Total() {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("accounts: %+v", st)
			break
		}
	}
	if by == tracer.SplitNetNS {
		groups, err := tr.Groups()
		if err != nil {
			t.Fatal(err)
		}
		of := groups[fmt.Sprintf("%d/%d", ns.Inode, cookie)]
		if of == nil {
			t.Fatalf("no group of namespace %d", ns.Inode)
		}
		if n := of.State(from).Live; n != 0 {
			t.Errorf("%d sockets of the group are live in %v", n, from)
		}
	}
	return ""
}
