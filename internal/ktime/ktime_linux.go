package ktime

import (
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// Now reads the clock of bpf_ktime_get_ns(), which is CLOCK_MONOTONIC of the initial
// time namespace, and CLOCK_REALTIME, in ns, both at one moment as nearly as can be.
func Now() (monotonic, wall int64) {
	const tries, near = 5, int64(10 * time.Microsecond)
	narrowest := int64(math.MaxInt64)
	for range tries {
		before, w, after := read(unix.CLOCK_MONOTONIC), read(unix.CLOCK_REALTIME), read(unix.CLOCK_MONOTONIC)
		if after-before < narrowest {
			narrowest = after - before
			monotonic, wall = before+narrowest/2, w
		}
		if narrowest <= near {
			break // nothing came in between
		}
	}
	offset, _ := namespaceOffset() // Check has told
	return monotonic - offset, wall
}

func read(clock int32) int64 {
	var t unix.Timespec
	// It cannot fail: the clock is always there and the pointer is ours.
	_ = unix.ClockGettime(clock, &t)
	return t.Nano()
}

// Check reports an error if the kernel's clock cannot be told from the process'.
func Check() error {
	_, err := namespaceOffset()
	return err
}

// HZ is the kernel's tick rate (CONFIG_HZ). The coarse clock advances once a
// tick, so its resolution is the tick's length (KTIME_LOW_RES, linux/hrtimer.h).
func HZ() (uint32, error) {
	var res unix.Timespec
	if err := unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &res); err != nil {
		return 0, fmt.Errorf("read the tick's length: %w", err)
	}
	if res.Nano() <= 0 {
		return 0, fmt.Errorf("read the tick's length: the kernel says %d ns", res.Nano())
	}
	return uint32(math.Round(float64(time.Second) / float64(res.Nano()))), nil
}
