//go:build linux

package live_test

import (
	"testing"
	"time"

	"finwait/internal/ktime"
	"finwait/tracer"
)

// now is the test's own clock, the one that transitions are dated with.
func now() time.Duration {
	mono, _ := ktime.Now()
	return time.Duration(mono)
}

// ticks is how much less than it is set to a timer can take: the jiffies that it
// counts from lag behind the clock by as many ticks as a busy machine has missed.
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

// blur is how far off the ends of what lasted that long may be: of a jiffy, one
// more or less at its end, and as much at the moment that it is counted from. An
// emulated machine's ticks come late when it is held up, several at once.
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

// fullTimeWait checks that a TIME_WAIT that expired ran its course: no shorter than 60 s to
// the tick, no longer than a slot of the timer wheel more. The second on top is
// for a softirq that a busy machine runs late.
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
