// Package ktime turns the kernel's clocks into each other.
package ktime

import "time"

// Clock dates CLOCK_MONOTONIC readings on the wall clock. The zero value is not usable; see NewClock.
//
// A date is what the wall clock says now, less the time that has passed since on
// the monotonic one. The offset between the two is taken anew once a second: a
// wall clock that is set moves the dates given from then on, also of what came
// before, and never a duration: durations are differences of monotonic readings.
type Clock struct {
	offset   int64 // wall - monotonic, ns
	synced   int64 // monotonic ns
	now      func() (monotonic, wall int64)
	interval int64
}

// NewClock returns a Clock that reads the given clocks, both in ns.
func NewClock(now func() (monotonic, wall int64)) *Clock {
	c := &Clock{now: now, interval: int64(time.Second)}
	c.sync()
	return c
}

func (c *Clock) sync() {
	mono, wall := c.now()
	c.offset, c.synced = wall-mono, mono
}

// Time gives the wall-clock time of a monotonic reading in ns, in UTC. The
// offset is taken anew when the reading is a second younger than the last one.
func (c *Clock) Time(ns uint64) time.Time {
	if int64(ns)-c.synced > c.interval {
		c.sync()
	}
	return time.Unix(0, int64(ns)+c.offset).UTC()
}
