package ktime

import "time"

// TimeWaitLen is TCP_TIMEWAIT_LEN (include/net/tcp.h).
const TimeWaitLen = 60 * time.Second

// levelShift and levelSize are LVL_CLK_SHIFT and LVL_SIZE of kernel/time/timer.c.
const (
	levelShift = 3
	levelSize  = 64
)

// Slot is the width of the timer-wheel slot of a timer of length d, on a kernel with the given
// tick rate. The timer fires at most that much late (calc_wheel_index(), kernel/time/timer.c).
func Slot(d time.Duration, hz uint32) time.Duration {
	ticks := uint64(d.Seconds() * float64(hz))
	level := 0
	// LVL_START(n) = (LVL_SIZE - 1) << ((n - 1) * LVL_CLK_SHIFT)
	for ticks >= (levelSize-1)<<(level*levelShift) {
		level++
	}
	return time.Duration(1<<(level*levelShift)) * time.Second / time.Duration(hz)
}

// TimeWaitBand is how long a TIME_WAIT lasts that no segment disturbs: its 60 s,
// up to one slot of the timer wheel more, and a jiffy that the wheel can be run late. At HZ=250,
// 600 of them lasted 60.0045 to 62.0499 s, and 400 others 60.0007 to 62.0444 s (6.18).
func TimeWaitBand() (low, high time.Duration, err error) {
	hz, err := HZ()
	if err != nil {
		return 0, 0, err
	}
	return TimeWaitLen, TimeWaitLen + Slot(TimeWaitLen, hz) + time.Second/time.Duration(hz), nil
}
