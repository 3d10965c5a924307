package families

import (
	"slices"
	"testing"
	"time"

	"finwait/internal/histogram"
)

// The edges of classic buckets are edges of the kernel side's, and those of TIME_WAIT's are all that
// there are where a TIME_WAIT ends.
func TestBounds(t *testing.T) {
	edges := make(map[uint64]bool)
	for i := range histogram.Buckets {
		low, _ := histogram.Bounds(i)
		edges[low] = true
	}
	for _, bounds := range [][]uint64{timeWaitBounds, handshakeBounds, stateBounds} {
		if !slices.IsSorted(bounds) {
			t.Errorf("not in order: %v", bounds)
		}
		for _, b := range bounds {
			if !edges[b] {
				t.Errorf("%d ns is no edge", b)
			}
		}
	}
	for edge := range edges {
		if edge >= uint64(55*time.Second) && edge <= uint64(68700*time.Millisecond) && !slices.Contains(timeWaitBounds, edge) {
			t.Errorf("%d ns is missing", edge)
		}
	}
	for _, want := range []uint64{60129542144, 61203283968, 62277025792, 63350767616, 64424509440} {
		if !slices.Contains(timeWaitBounds, want) {
			t.Errorf("%d ns is missing", want)
		}
	}
}
