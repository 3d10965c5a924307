//go:build linux

package live_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/internal/test/testnet"
	"finwait/tracer"

	"golang.org/x/sys/unix"
)

// Each CPU has a ring buffer of its own. The transitions of one socket are made on two CPUs in
// turns, and read when all have been made: they come in the order of the kernel, and the lines of
// different sockets in the order of time.
func TestOrderAcrossCPUs(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("this needs two CPUs")
	}
	t.Parallel()
	runtime.LockOSThread() // and no unlock: the thread ends with the test, and its CPU with it
	testnet.Attempts(t, orderOnce)
}

// orderOnce returns what was missing, or "".
func orderOnce(t *testing.T) string {
	const pairs = 100
	ns := sandbox.New(t)
	tr, err := tracer.New(tracer.Config{Hooks: hooks, Filter: tracer.Filter{NetNS: []uint64{ns.Cookie}}})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	for i := range pairs {
		onCPU(t, i%2)
		p := ns.Pair(sandbox.Families[0])
		onCPU(t, 1-i%2)
		p.Client.ShutdownWrite()
		onCPU(t, i%2)
		p.Server.Close()
		onCPU(t, 1-i%2)
		p.Client.Close()
	}
	ns.Remove() // ends every TIME_WAIT, some time later
	for deadline := time.Now().Add(30 * time.Second); totals(t, tr).Live[tracer.TimeWait] > 0 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}

	kept := newRecorder(t)
	done, cancel := context.WithCancel(context.Background())
	cancel()
	if err := tr.Run(done, func(x *tracer.Transition) error { kept.add(x); return nil }); err != nil {
		t.Fatal(err)
	}
	st, err := tr.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if st.Lost.Total() > 0 {
		return fmt.Sprintf("lost: %+v", st.Lost)
	}
	all := kept.snapshot()
	back := 0
	for i := range all[1:] {
		if all[i].Ktime > all[i+1].Ktime {
			back++
		}
	}
	// A CPU can be interrupted between reading the clock and writing.
	if back > len(all)/100 {
		t.Errorf("the time goes backwards %d times in %d lines", back, len(all))
	}
	ended := 0
	for _, c := range kept.byCookie() {
		c.check(t)
		if c.last().To == tracer.Closed {
			ended++
		}
	}
	if ended < 2*pairs { // and the listeners
		t.Errorf("%d sockets ended, want %d at least", ended, 2*pairs)
	}
	return ""
}

// onCPU makes the calling thread run on one CPU.
func onCPU(t *testing.T, cpu int) {
	t.Helper()
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
}
