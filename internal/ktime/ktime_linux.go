package ktime

import (
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// Now reads two clocks, in ns, as nearly at the same time as possible: CLOCK_MONOTONIC of the
// initial time namespace, which is the clock of bpf_ktime_get_ns(), and CLOCK_REALTIME.
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
			break // the readings were not interrupted
		}
	}
	offset, _ := namespaceOffset() // Check reports the error
	return monotonic - offset, wall
}

func read(clock int32) int64 {
	var t unix.Timespec
	// It cannot fail: the clock always exists, and the pointer is valid.
	_ = unix.ClockGettime(clock, &t)
	return t.Nano()
}

// Check returns an error if the offset of the process' time namespace is unknown.
func Check() error {
	_, err := namespaceOffset()
	return err
}

// HZ returns the kernel's tick rate (CONFIG_HZ). The coarse clock advances once a tick, so its
// resolution is the length of a tick (KTIME_LOW_RES, linux/hrtimer.h).
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
