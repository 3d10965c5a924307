package tracer

import (
	"testing"
	"time"
)

// The end of a minisock is noticed within 10 s at every tick rate that a kernel can have, also if
// its timer was due just after a sweep looked.
func TestSweepIsInTime(t *testing.T) {
	for _, hz := range []uint32{100, 250, 300, 1000} {
		every := sweepEvery(hz)
		if worst := overdueAfter(hz) + every + makeSure; worst > 10*time.Second || every < time.Second {
			t.Errorf("%d Hz: every %v, noticed after %v", hz, every, worst)
		}
	}
}
