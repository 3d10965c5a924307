package ktime

import (
	"testing"
	"time"
)

// The widths that kernel-side measurements of TIME_WAIT show.
func TestSlotOfTimeWait(t *testing.T) {
	for hz, want := range map[uint32]time.Duration{
		100:  5120 * time.Millisecond,
		250:  2048 * time.Millisecond,
		300:  time.Duration(512) * time.Second / 300,
		1000: 4096 * time.Millisecond,
	} {
		if got := Slot(TimeWaitLen, hz); got != want {
			t.Errorf("Slot(60s, %d) = %v, want %v", hz, got, want)
		}
	}
	if got := Slot(10*time.Millisecond, 1000); got != time.Millisecond {
		t.Errorf("Slot(10ms, 1000) = %v, want 1ms: the first level has the tick's own width", got)
	}
}

// A wall clock that is set moves the dates that follow, not those before.
func TestClockFollowsTheWall(t *testing.T) {
	mono, wall := int64(1000), int64(5_000_000_000)
	c := NewClock(func() (int64, int64) { return mono, wall })

	if got := c.Time(1500).UnixNano(); got != 5_000_000_500 {
		t.Errorf("Time(1500) = %d, want 5000000500", got)
	}
	mono += int64(3 * time.Second)
	wall += int64(3*time.Second) + int64(time.Hour)
	if got, want := c.Time(uint64(mono)).UnixNano(), wall; got != want {
		t.Errorf("after a jump: %d, want %d", got, want)
	}
}
