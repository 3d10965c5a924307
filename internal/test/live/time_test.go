//go:build linux

package live_test

import (
	"os"
	"testing"
	"time"

	"finwait/internal/ktime"
	"finwait/internal/sandbox"
	"finwait/tracer"

	"golang.org/x/sys/unix"
)

// ownMachine is set if the tests may change the machine. internal/test/kernels sets it.
const ownMachine = "FINWAIT_OWN_MACHINE"

// The wall clock is set while a connection is open. The duration does not change, and later dates
// follow the clock. The test is not parallel, because other tests read the clock.
func TestWallClockSet(t *testing.T) {
	if os.Getenv(ownMachine) == "" {
		t.Skip("skipped: it sets the machine's clock, which is only done where internal/test/kernels says that the machine is the tests' own")
	}
	ns, r := record(t)
	for _, step := range []time.Duration{time.Hour, -2 * time.Hour, time.Hour} {
		began, _ := ktime.Now()
		pair := ns.Pair(sandbox.Families[0])
		stepWallClock(t, step)
		// The offset between the clocks is read again after a second.
		time.Sleep(1100 * time.Millisecond)
		early := time.Now()
		pair.Client.Reset()
		after, _ := ktime.Now()

		tr := r.until(pair.Client.Cookie, tracer.Closed).last()
		if most := time.Duration(after - began); tr.Precision != tracer.PrecisionExact || tr.Duration < time.Second || tr.Duration > most {
			t.Errorf("clock set by %v: %v lasted %v (%v), it was a second at least and %v at most", step, tr.From, tr.Duration, tr.Precision, most)
		}
		if late := time.Now(); tr.Time.Before(early.Round(0).Add(-time.Second)) || tr.Time.After(late.Round(0).Add(time.Second)) {
			t.Errorf("clock set by %v: dated %v, it was from %v to %v", step, tr.Time, early, late)
		}
		pair.Server.Close()
		pair.Listener.Close()
	}
}

func stepWallClock(t *testing.T, by time.Duration) {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
		t.Fatal(err)
	}
	now = unix.NsecToTimespec(now.Nano() + int64(by))
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &now); err != nil {
		t.Fatal(err)
	}
}
