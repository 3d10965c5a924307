//go:build linux

package main

import (
	"errors"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// distance is how many ns a cache line takes from the first CPU to the second: two threads write
// it in turns. A hypervisor can move a virtual CPU to where it shares no cache with the other.
// Then whatever both CPUs write costs more, for as long as that lasts.
func distance() (float64, error) {
	const trips = 50_000
	var turn atomic.Int64
	play := func(cpu int, first int64) (err error) {
		runtime.LockOSThread() // and no unlock: the thread keeps its CPU, and ends with the goroutine
		var set unix.CPUSet
		set.Set(cpu)
		err = unix.SchedSetaffinity(0, &set)
		for n := first; n < 2*trips; n += 2 {
			for turn.Load() != n {
			}
			turn.Store(n + 1)
		}
		return err
	}
	done := make(chan error)
	begun := time.Now()
	for i := range 2 {
		go func() { done <- play(i, int64(i)) }()
	}
	err := errors.Join(<-done, <-done)
	return float64(time.Since(begun).Nanoseconds()) / (2 * trips), err
}
