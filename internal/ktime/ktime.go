// Package ktime converts between the kernel's clocks.
package ktime

import "time"

// Clock dates CLOCK_MONOTONIC readings on the wall clock. The zero value is not usable; see NewClock.
//
// A date is the present wall-clock time, less the monotonic time that has passed since the
// reading. The offset between the two clocks is read again once a second. If the wall clock is
// set, later dates follow it, also those of earlier readings. Durations are differences of
// monotonic readings, and never change.
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

// Time returns the wall-clock time, in UTC, of a monotonic reading in ns. It reads the offset
// again if the reading is a second younger than the last offset.
func (c *Clock) Time(ns uint64) time.Time {
	if int64(ns)-c.synced > c.interval {
		c.sync()
	}
	return time.Unix(0, int64(ns)+c.offset).UTC()
}
