package ktime

import (
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// Now reads CLOCK_MONOTONIC, the clock of bpf_ktime_get_ns(), and CLOCK_REALTIME, in ns.
func Now() (monotonic, wall int64) {
	var m, w unix.Timespec
	// Neither can fail: both clocks are always there and the pointers are ours.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &m)
	_ = unix.ClockGettime(unix.CLOCK_REALTIME, &w)
	return m.Nano(), w.Nano()
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
