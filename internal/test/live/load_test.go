//go:build linux

package live_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/internal/test/testnet"
	"finwait/tracer"
)

// loadShares is how many connections each process makes. Their sum is 997, or 53 on an emulated
// machine. It is a prime, so that the shares are not all equal.
var loadShares, loadTotal = []int{250, 249, 249, 249}, 997

func lessLoad() { loadShares, loadTotal = []int{27, 26}, 53 }

// load runs the workers and returns their pids.
func load(t *testing.T, ns *sandbox.NS) map[uint32]bool {
	t.Helper()
	pids := make(map[uint32]bool)
	var wait []func() error
	for _, share := range loadShares {
		cmd := startWorker(t, ns, strconv.Itoa(share))
		pids[uint32(cmd.Process.Pid)] = true
		wait = append(wait, cmd.Wait)
	}
	for _, w := range wait {
		if err := w(); err != nil {
			t.Fatal(err)
		}
	}
	return pids
}

// timeWaits is the kernel's count of the minisocks of the namespace.
func timeWaits(ns *sandbox.NS) int {
	return ns.Counter("TcpExt.TW") + ns.Counter("TcpExt.TWKilled")
}

// Several processes make connections as fast as they can. No transition is missing or out of
// order, and the kernel counts as many TIME_WAITs.
func TestLoad(t *testing.T) {
	t.Parallel()
	testnet.Attempts(t, loadOnce)
}

// loadOnce returns what was missing, or "".
func loadOnce(t *testing.T) string {
	t.Helper()
	ns := sandbox.New(t)
	kept := newRecorder(t)
	tr := start(t, tracer.Config{Filter: tracer.Filter{NetNS: []uint64{ns.Cookie}}}, kept)

	before := timeWaits(ns)
	pids := load(t, ns)
	made := timeWaits(ns) - before

	// Every TIME_WAIT ends with the namespace, which completes the chains.
	removed := now()
	ns.Remove()
	lives := kept.lives(t, pids, tr.Tracer)
	tr.stop(t)

	st := tr.stats(t)
	lost := int(st.Lost.Missed)
	if n := uint64(len(kept.snapshot())); n != st.Delivered {
		t.Errorf("%d transitions were handed over, %d delivered", n, st.Delivered)
	}
	if st.Lost.RingFull+st.Lost.MapFull != 0 {
		t.Errorf("lost: %+v", st.Lost)
	}
	if st.Lost.Missed > allowed(st) {
		t.Errorf("lost: %+v", st.Lost)
	}
	if lost > 0 && !testing.Short() {
		return fmt.Sprintf("%d transitions were missed", lost)
	}
	if lives == nil {
		t.Error("a socket was not seen to the end, and no loss was counted")
		return ""
	}
	for _, x := range kept.snapshot() {
		if !pids[x.Owner.PID] && x.Ktime < removed {
			t.Errorf("none of the workers owns\n%v", chain{x})
		}
	}
	var clients, servers, listeners, waits int
	for cookie, c := range lives {
		if lost == 0 {
			c.check(t)
		}
		for _, x := range c {
			if x.To == tracer.TimeWait {
				waits++
			}
		}
		switch c[0].To {
		case tracer.Listen:
			listeners++
		case tracer.SynSent:
			clients++
		case tracer.SynRecv:
			servers++
		}
		if t.Failed() {
			t.Fatalf("socket %d:\n%v", cookie, c)
		}
	}
	if off := 2*loadTotal + len(loadShares) - clients - servers - listeners; off < 0 || off > lost {
		t.Errorf("%d clients, %d servers, %d listeners; want %d, %d, %d",
			clients, servers, listeners, loadTotal, loadTotal, len(loadShares))
	}
	if off := made - waits; off < -lost || off > lost {
		t.Errorf("%d TIME_WAITs, the kernel made %d", waits, made)
	}
	return ""
}

// A ring buffer of one page loses most transitions. All losses are counted, and what is still
// shown is the same as in a second tracer that lost nothing.
func TestRingFull(t *testing.T) {
	t.Parallel()
	ns, r := record(t)
	kept := newRecorder(t)
	tr := start(t, tracer.Config{
		Filter:    tracer.Filter{NetNS: []uint64{ns.Cookie}},
		RingBytes: uint32(os.Getpagesize()),
	}, kept)
	var pids map[uint32]bool
	kept.hold(func() { pids = load(t, ns) })
	ns.Remove()
	all := r.lives(t, pids, shared.tracer)
	tr.stop(t)
	if all == nil {
		all = r.byCookie()
	}

	st := tr.stats(t)
	if st.Lost.RingFull == 0 {
		t.Error("nothing was lost: this tests nothing")
	}
	if n := uint64(len(kept.snapshot())); n != st.Delivered || n == 0 {
		t.Errorf("%d transitions were handed over, %d delivered", n, st.Delivered)
	}
	for _, got := range kept.snapshot() {
		var want *tracer.Transition
		for i, x := range all[got.Cookie] {
			if x.From == got.From && x.To == got.To {
				want = &all[got.Cookie][i]
			}
		}
		if all[got.Cookie].broken() || got.Precision != tracer.PrecisionExact && st.Lost.Missed > 0 {
			continue // one of the tracers missed a transition
		}
		if want == nil {
			t.Fatalf("made up:\n%v", chain{got})
		}
		// The two programs of a hook run one after the other, so their times differ a little.
		if got.Known() != want.Known() || got.Precision != want.Precision || got.Reason != want.Reason ||
			got.Owner != want.Owner || (got.Duration-want.Duration).Abs() > 500*time.Millisecond {
			t.Fatalf("differs:\n%v%v", chain{got}, chain{*want})
		}
	}
}

// lives waits until all sockets of the workers are closed, and returns them by cookie. It returns
// nil if some are not closed in time. The namespace may be removed by then, and its inode
// number be that of another one.
func (r *recorder) lives(t *testing.T, pids map[uint32]bool, tr *tracer.Tracer) map[uint64]chain {
	t.Helper()
	sockets := 2*loadTotal + len(loadShares) // a client and a server each, and the listeners
	began := time.Now()
	for {
		lives := make(map[uint64]chain)
		closed := 0
		for _, x := range r.snapshot() {
			if !pids[x.Owner.PID] {
				continue
			}
			lives[x.Cookie] = append(lives[x.Cookie], x)
			if x.To == tracer.Closed {
				closed++
			}
		}
		st, err := tr.Stats()
		if err != nil {
			t.Fatal(err)
		}
		late := time.Since(began) > 10*time.Second
		if closed >= sockets || late && closed+int(st.Lost.Missed) >= sockets {
			return lives
		}
		if time.Since(began) > time.Minute {
			t.Logf("%d of %d sockets were closed", closed, sockets)
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
}
