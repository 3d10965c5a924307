package ktime

import (
	"math"
	"testing"
	"time"
)

// These slots were measured in the kernel, for TIME_WAIT.
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

// The band ends where the latest undisturbed TIME_WAIT was seen to, or later.
func TestTimeWaitBand(t *testing.T) {
	hz, err := HZ()
	if err != nil {
		t.Fatal(err)
	}
	low, high, err := TimeWaitBand()
	if jiffy := time.Second / time.Duration(hz); err != nil || low != TimeWaitLen || high != low+Slot(low, hz)+jiffy {
		t.Errorf("%v to %v, %v: want a slot and a jiffy", low, high, err)
	}
	if seen := 62049900 * time.Microsecond; hz == 250 && high < seen {
		t.Errorf("it ends at %v, and one was seen to last %v", high, seen)
	}
}

// clocks is a monotonic and a wall clock that a test sets.
type clocks struct{ mono, wall int64 }

func (c *clocks) now() (int64, int64) { return c.mono, c.wall }

func (c *clocks) pass(d time.Duration) { c.mono += int64(d); c.wall += int64(d) }

// After the wall clock is set, dates follow it within a second.
func TestClockFollowsTheWall(t *testing.T) {
	for _, step := range []time.Duration{time.Hour, -time.Hour, time.Millisecond, -50 * 365 * 24 * time.Hour} {
		k := &clocks{mono: 1000, wall: int64(1_800_000_000) * 1e9}
		c := NewClock(k.now)
		if got, want := c.Time(1500).UnixNano(), k.wall+500; got != want {
			t.Errorf("Time(1500) = %d, want %d", got, want)
		}
		k.pass(10 * time.Second)
		c.Time(uint64(k.mono))
		early := k.mono - int64(5*time.Second)
		dated := c.Time(uint64(early))

		k.wall += int64(step)
		k.pass(999 * time.Millisecond)
		if got, want := c.Time(uint64(k.mono)).UnixNano(), k.wall-int64(step); got != want {
			t.Errorf("step %v: within a second of it %d, want %d, as before", step, got, want)
		}
		k.pass(2 * time.Millisecond)
		if got := c.Time(uint64(k.mono)).UnixNano(); got != k.wall {
			t.Errorf("step %v: more than a second after it %d, want %d", step, got, k.wall)
		}
		if got := c.Time(uint64(early)).Sub(dated); got != step {
			t.Errorf("step %v: what came before it moved by %v", step, got)
		}
	}
}

// Differences between dates are those of the monotonic clock, even if the wall clock is set.
func TestClockOfOneMoment(t *testing.T) {
	k := &clocks{mono: int64(time.Hour), wall: int64(1_800_000_000) * 1e9}
	c := NewClock(k.now)
	for range 1000 {
		k.wall -= int64(time.Minute)
		a := c.Time(uint64(k.mono))
		if b := c.Time(uint64(k.mono) + 700); b.Sub(a) != 700 {
			t.Fatalf("700 ns came out as %v", b.Sub(a))
		}
		k.pass(2 * time.Second)
	}
}

// Suspend stops the monotonic clock and not the wall clock. Dates after it are right.
func TestClockAfterSuspend(t *testing.T) {
	k := &clocks{mono: int64(time.Hour), wall: int64(1_800_000_000) * 1e9}
	c := NewClock(k.now)
	k.wall += int64(8 * time.Hour)
	k.pass(1001 * time.Millisecond)
	if got := c.Time(uint64(k.mono)).UnixNano(); got != k.wall {
		t.Errorf("%d, want %d", got, k.wall)
	}
}

// Every reading has a date.
func TestClockOfAnything(t *testing.T) {
	k := &clocks{mono: 5, wall: 7}
	c := NewClock(k.now)
	for _, ns := range []uint64{0, 1, math.MaxInt64, math.MaxInt64 + 1, math.MaxUint64} {
		if got := c.Time(ns); got.Location() != time.UTC {
			t.Errorf("Time(%d) = %v", ns, got)
		}
	}
}
