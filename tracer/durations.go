package tracer

import (
	"fmt"
	"iter"
	"math"
	"time"

	"finwait/internal/histogram"
)

// Durations are times spent in a state, of which the start was seen
// (PrecisionExact or PrecisionJiffy). The zero value is empty and ready for use; nil is
// empty, too.
type Durations struct {
	Total time.Duration // the sum
	Max   time.Duration // the longest

	histogram histogram.Histogram
}

// A Bucket is a range of durations and how many there were in it. A bucket is no
// wider than 1/8 of its Low, but at least 64 ns; from 34.4 to 68.7 s, where a
// TIME_WAIT ends, it is 1.07 s wide.
type Bucket struct {
	Low   time.Duration // the shortest that is counted
	High  time.Duration // all that are counted are shorter; math.MaxInt64: the last bucket, which has no end
	Count uint64
}

// Add counts one duration; one that is negative counts as 0.
func (d *Durations) Add(spent time.Duration) {
	spent = max(spent, 0)
	d.histogram.Add(uint64(spent))
	d.Total += spent
	d.Max = max(d.Max, spent)
}

// Count is how many durations there are.
func (d *Durations) Count() uint64 {
	if d == nil {
		return 0
	}
	return d.histogram.Count()
}

// Buckets gives the buckets that are not empty, the shortest durations first.
func (d *Durations) Buckets() iter.Seq[Bucket] {
	return func(yield func(Bucket) bool) {
		if d == nil {
			return
		}
		for i, n := range d.histogram.All() {
			b := bounds(i)
			b.Count = n
			if !yield(b) {
				return
			}
		}
	}
}

// AddBucket counts the durations of a bucket that Buckets gave, to make Durations of
// what was written down. Total and Max cannot be told from it: set them. It fails
// if there is no bucket with these bounds.
func (d *Durations) AddBucket(b Bucket) error {
	i := histogram.Index(uint64(max(b.Low, 0)))
	if known := bounds(i); b.Low != known.Low || b.High != known.High {
		return fmt.Errorf("no bucket is from %v to %v", b.Low, b.High)
	}
	d.histogram.AddTo(i, b.Count)
	return nil
}

// Quantile is the duration that a part q, from 0 to 1, did not exceed. It is off
// by 1/16 at most, from 34.4 to 68.7 s by 0.54 s; ok is false if there is none.
func (d *Durations) Quantile(q float64) (v time.Duration, ok bool) {
	if d == nil {
		return 0, false
	}
	ns, _, ok := d.histogram.Quantile(q)
	return min(time.Duration(ns), d.Max), ok
}

// bounds gives bucket i, empty.
func bounds(i int) Bucket {
	low, high := histogram.Bounds(i)
	return Bucket{Low: time.Duration(low), High: time.Duration(min(high, math.MaxInt64))}
}

// add adds what the kernel counted on one CPU.
func (d *Durations) add(o *bpfDurations) {
	for i, n := range o.Counts {
		d.histogram.AddTo(i, n)
	}
	d.Total += time.Duration(o.TotalNs)
	d.Max = max(d.Max, time.Duration(o.MaxNs))
}

// merge adds all of o.
func (d *Durations) merge(o *Durations) {
	d.histogram.Merge(&o.histogram)
	d.Total += o.Total
	d.Max = max(d.Max, o.Max)
}

// sub leaves what came after before. The longest of that can only be told from
// its bucket, unless it is the longest of all.
func (d *Durations) sub(before *Durations) {
	d.histogram.Sub(&before.histogram)
	d.Total -= before.Total
	if d.Max > before.Max {
		return
	}
	ns, ok := d.histogram.Max()
	if !ok {
		ns = 0
	}
	d.Max = min(d.Max, time.Duration(min(ns, uint64(d.Max))))
}

// The kernel counts in the same buckets.
var _ [histogram.Buckets]uint64 = bpfDurations{}.Counts
