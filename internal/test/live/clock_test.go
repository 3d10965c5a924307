//go:build linux

package live_test

import (
	"testing"
	"time"

	"finwait/internal/ktime"
	"finwait/tracer"
)

// now reads the clock of the transitions.
func now() time.Duration {
	mono, _ := ktime.Now()
	return time.Duration(mono)
}

// ticks is how much too early a timer may fire. A timer counts jiffies, which lag behind the
// clock by the ticks that a busy machine has missed.
func ticks(t testing.TB) time.Duration { return 10 * tick(t) }

// tick is the length of one jiffy.
func tick(t testing.TB) time.Duration {
	t.Helper()
	hz, err := ktime.HZ()
	if err != nil {
		t.Fatal(err)
	}
	return time.Second / time.Duration(hz)
}

// blur is the largest error of a duration. With PrecisionJiffy it is one jiffy at the end of
// the duration and one at its start. On an emulated machine that is held up, several ticks can
// be late at once.
func blur(t testing.TB, tr tracer.Transition) time.Duration {
	t.Helper()
	if tr.Precision != tracer.PrecisionJiffy {
		return 0
	}
	if testing.Short() {
		return 25 * tick(t)
	}
	return 2 * tick(t)
}

func within(t testing.TB, what string, d, least, most time.Duration) {
	t.Helper()
	if d < least || d > most {
		t.Errorf("%s lasted %v; by the test's own clock %v to %v", what, d, least, most)
	}
}

// fullTimeWait checks the length of a TIME_WAIT that expired: at least 60 s, to the tick, and at
// most one slot of the timer wheel more. One more second is for a softirq that a busy machine
// runs late.
func fullTimeWait(t testing.TB, last tracer.Transition) {
	t.Helper()
	if last.Reason != tracer.ReasonExpired {
		return
	}
	d := last.Duration
	hz, err := ktime.HZ()
	if err != nil {
		t.Fatal(err)
	}
	least, most := ktime.TimeWaitLen-ticks(t)-blur(t, last), ktime.TimeWaitLen+ktime.Slot(ktime.TimeWaitLen, hz)+time.Second
	if d < least || d > most {
		t.Errorf("TIME_WAIT lasted %v, want %v to %v", d, least, most)
	}
}
