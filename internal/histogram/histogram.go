// Package histogram counts durations in log-linear buckets.
//
// Every power of two of nanoseconds has 8 buckets of equal width. A bucket is no wider than 1/8
// of the values in it.
//
// How long TIME_WAIT lasts beyond its 60 s matters to finwait. With 8 buckets, 61, 62 and 64 s
// would be in one bucket, 4.3 s wide. The power of two from 2^35 to 2^36 ns (34.4 to 68.7 s)
// therefore has 32 buckets, 1.07 s wide. 32 is the smallest power of two that separates 60, 61,
// 62 and 64 s: 16 buckets are 2.1 s wide, so that at most one boundary lies between 60 and 62 s.
//
// Below 1.024 us the buckets are 64 ns wide, down to 0. The last bucket counts everything from
// 12.2 days on.
//
// # The formula
//
// With e the position of the highest bit of ns, but at least 9 and at most 49:
//
//	index = (e - 9) * 8 + (ns >> (e - 3))         e < 35
//	index = (e - 9) * 8 + (ns >> (e - 5)) - 24    e = 35
//	index = (e - 9) * 8 + (ns >> (e - 3)) + 24    e > 35
//
// and no more than Buckets - 1. The formula needs no division and no loop. bpf/histogram.h has
// it in C.
package histogram

import (
	"iter"
	"math"
	"math/bits"
)

const (
	lowest  = 9  // up to 2^(lowest+1) ns all buckets have the same width
	fine    = 35 // the power of two with more buckets
	highest = 49 // the last power of two

	subBits     = 3 // 8 buckets to a power of two
	fineSubBits = 5 // 32

	extra = 1<<fineSubBits - 1<<subBits // additional buckets of the fine power of two
)

// Buckets is how many buckets there are.
const Buckets = (highest-lowest+2)<<subBits + extra

// RelativeError is the largest error of Quantile, relative to the true value, from 512 ns to
// 12.2 days. From 34.4 to 68.7 s the error is a quarter of that.
const RelativeError = 1.0 / 16

// Index is the bucket that counts a duration.
func Index(ns uint64) int {
	if ns>>(highest+1) != 0 {
		return Buckets - 1
	}
	e := max(bits.Len64(ns)-1, lowest)
	index := (e - lowest) << subBits
	switch {
	case e < fine:
		return index + int(ns>>(e-subBits))
	case e == fine:
		return index + int(ns>>(e-fineSubBits)) - extra
	default:
		return index + int(ns>>(e-subBits)) + extra
	}
}

// Bounds returns what bucket i counts: from low up to, but not including, high. The last
// bucket has no upper bound, and its high is math.MaxUint64. Bounds panics if there is no
// bucket i.
func Bounds(i int) (low, high uint64) {
	if i < 0 || i >= Buckets {
		panic("histogram: no such bucket")
	}
	low = lower(i)
	if i == Buckets-1 {
		return low, math.MaxUint64
	}
	return low, lower(i + 1)
}

// lower is the smallest value in bucket i. i may be one past the last bucket.
func lower(i int) uint64 {
	const (
		firstFine  = (fine - lowest + 1) << subBits
		beyondFine = firstFine + 1<<fineSubBits
	)
	switch {
	case i < 1<<subBits:
		return uint64(i) << (lowest - subBits)
	case i >= firstFine && i < beyondFine:
		return (1<<fineSubBits + uint64(i-firstFine)) << (fine - fineSubBits)
	case i >= beyondFine:
		i -= extra
	}
	e := lowest + i>>subBits - 1
	return (1<<subBits + uint64(i)&(1<<subBits-1)) << (e - subBits)
}

// A Histogram counts durations. Its zero value is empty and ready for use.
type Histogram struct {
	counts [Buckets]uint64
	total  uint64
}

// Add counts one duration.
func (h *Histogram) Add(ns uint64) { h.AddTo(Index(ns), 1) }

// AddTo counts n durations in bucket i.
func (h *Histogram) AddTo(i int, n uint64) {
	h.counts[i] += n
	h.total += n
}

// Merge adds the counts of o.
func (h *Histogram) Merge(o *Histogram) {
	for i, n := range o.counts {
		h.counts[i] += n
	}
	h.total += o.total
}

// Sub subtracts the counts of o, which must be part of those of h.
func (h *Histogram) Sub(o *Histogram) {
	for i, n := range o.counts {
		h.counts[i] -= n
	}
	h.total -= o.total
}

// All yields each bucket that is not empty, in order, with its count.
func (h *Histogram) All() iter.Seq2[int, uint64] {
	return func(yield func(int, uint64) bool) {
		for i, n := range h.counts {
			if n > 0 && !yield(i, n) {
				return
			}
		}
	}
}

// Count is the number of durations.
func (h *Histogram) Count() uint64 { return h.total }

// Quantile returns the duration that a part q, from 0 to 1, of all durations does not exceed:
// of n durations the one at rank q*n, rounded up. The true duration differs from it by no more
// than bound. In the last bucket the value is the bucket's lower end, and bound is
// math.MaxUint64. ok is false if nothing was counted, or q is not from 0 to 1.
func (h *Histogram) Quantile(q float64) (ns, bound uint64, ok bool) {
	if h.total == 0 || !(q >= 0 && q <= 1) {
		return 0, 0, false
	}
	rank := min(max(uint64(math.Ceil(q*float64(h.total))), 1), h.total)
	var seen uint64
	for i, n := range h.counts {
		if seen += n; seen < rank {
			continue
		}
		low, high := Bounds(i)
		if i == Buckets-1 {
			return low, math.MaxUint64, true
		}
		return low + (high-low)/2, (high - low) / 2, true
	}
	panic("histogram: the total exceeds the sum")
}

// Max is the upper end of the highest bucket that is not empty. All durations are shorter,
// unless it is math.MaxUint64.
func (h *Histogram) Max() (ns uint64, ok bool) {
	for i := Buckets - 1; i >= 0; i-- {
		if h.counts[i] > 0 {
			_, high := Bounds(i)
			return high, true
		}
	}
	return 0, false
}
