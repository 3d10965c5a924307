package tracer

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// What Buckets gives can be written down and read again.
func TestDurationsFromBuckets(t *testing.T) {
	var d, again Durations
	rng := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		d.Add(time.Duration(rng.Uint64() >> (1 + rng.IntN(63))))
	}
	d.Add(-1)
	d.Add(math.MaxInt64)
	d.Total, d.Max = 3, 2 // the sum is past all bounds
	var last Bucket
	for b := range d.Buckets() {
		if b.Low < last.High || b.High <= b.Low || b.Count == 0 {
			t.Errorf("%+v comes after %+v", b, last)
		}
		last = b
		if err := again.AddBucket(b); err != nil {
			t.Error(err)
		}
	}
	if again.Total, again.Max = d.Total, d.Max; again != d || again.Count() != 1002 {
		t.Errorf("%d durations, want 1002, distributed as before", again.Count())
	}
	if last.High != math.MaxInt64 || last.Low > 13*24*time.Hour {
		t.Errorf("the last bucket is %+v, want one from 12.2 days on without an end", last)
	}
	for _, b := range []Bucket{{}, {Low: 1, High: 64}, {Low: 0, High: 65}, {Low: -64, High: 64}, {Low: last.Low, High: math.MaxInt64 - 1}} {
		if err := again.AddBucket(b); err == nil {
			t.Errorf("%+v is taken for a bucket", b)
		}
	}
}

// The buckets are as the documentation of Bucket has them.
func TestBucketWidths(t *testing.T) {
	var d Durations
	for ns := time.Duration(1); ns > 0 && ns < 1<<49; ns += ns/16 + 1 {
		d.Add(ns)
	}
	for b := range d.Buckets() {
		width, most := b.High-b.Low, max(64, b.Low/8)
		if b.Low >= 1<<35 && b.Low < 1<<36 {
			most = 1074 * time.Millisecond
		}
		if width > most {
			t.Errorf("%v to %v is %v wide, want %v at most", b.Low, b.High, width, most)
		}
	}
	var stopped []Bucket
	for b := range d.Buckets() {
		stopped = append(stopped, b)
		break
	}
	if len(stopped) != 1 || !slices.Equal(stopped, []Bucket{{Low: 0, High: 64, Count: stopped[0].Count}}) {
		t.Errorf("the first bucket is %+v", stopped)
	}
}
