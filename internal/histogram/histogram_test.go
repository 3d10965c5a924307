package histogram

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestTimeWaitIsToldApart(t *testing.T) {
	seen := make(map[int]time.Duration)
	for _, d := range []time.Duration{60 * time.Second, 61 * time.Second, 62 * time.Second, 64 * time.Second} {
		i := Index(uint64(d))
		if other, ok := seen[i]; ok {
			t.Errorf("%v and %v are both in bucket %d", other, d, i)
		}
		seen[i] = d
	}
}

// The package comment says why there are 32 buckets where TIME_WAIT lasts.
func TestFewerBucketsDoNotTellTimeWaitApart(t *testing.T) {
	for _, sub := range []uint64{8, 16} {
		bucket := func(d time.Duration) uint64 { return uint64(d) / (1 << fine / sub) }
		if bucket(60*time.Second) != bucket(61*time.Second) && bucket(61*time.Second) != bucket(62*time.Second) {
			t.Errorf("%d buckets would do", sub)
		}
	}
}

// Every value is in exactly one bucket: buckets adjoin, and each contains both its ends.
func TestBucketsTouch(t *testing.T) {
	var next uint64
	for i := range Buckets {
		low, high := Bounds(i)
		if low != next {
			t.Fatalf("bucket %d begins at %d, the one before ends at %d", i, low, next)
		}
		if high <= low {
			t.Fatalf("bucket %d: [%d, %d) is empty", i, low, high)
		}
		if Index(low) != i || Index(high-1) != i {
			t.Fatalf("bucket %d: [%d, %d) has its ends in %d and %d", i, low, high, Index(low), Index(high-1))
		}
		next = high
	}
	if got := Index(math.MaxUint64); got != Buckets-1 {
		t.Errorf("the largest value is in bucket %d, want the last, %d", got, Buckets-1)
	}
}

func TestRange(t *testing.T) {
	if low, high := Bounds(Index(uint64(time.Microsecond))); high-low > 64 {
		t.Errorf("1 us is in a bucket of %d ns", high-low)
	}
	if i := Index(uint64(12 * 24 * time.Hour)); i >= Buckets-1 {
		t.Error("12 days are beyond the last bucket with an upper bound")
	}
}

func check(t *testing.T, ns uint64) {
	t.Helper()
	i := Index(ns)
	if i < 0 || i >= Buckets {
		t.Fatalf("Index(%d) = %d, of %d", ns, i, Buckets)
	}
	if low, high := Bounds(i); ns < low || ns >= high && ns != math.MaxUint64 {
		t.Errorf("Index(%d) = %d, which is [%d, %d)", ns, i, low, high)
	}
}

func TestIndexAroundPowersOfTwo(t *testing.T) {
	for e := range 64 {
		for d := -2; d <= 2; d++ {
			check(t, 1<<e+uint64(d))
		}
	}
}

func FuzzIndex(f *testing.F) {
	for _, ns := range []uint64{0, 63, 64, 511, 512, 1 << 35, 1<<36 - 1, 60e9, 1<<50 - 1, 1 << 50, math.MaxUint64} {
		f.Add(ns, ns+1)
	}
	f.Fuzz(func(t *testing.T, a, b uint64) {
		check(t, a)
		if a > b {
			a, b = b, a
		}
		if Index(a) > Index(b) {
			t.Errorf("Index(%d) = %d > Index(%d) = %d", a, Index(a), b, Index(b))
		}
	})
}

func TestQuantile(t *testing.T) {
	const n = 9973
	r := rand.New(rand.NewPCG(1, 2))
	for name, draw := range map[string]func() float64{
		"constant":    func() float64 { return 43_159_000 },
		"uniform":     func() float64 { return r.Float64() * 5e9 },
		"exponential": func() float64 { return r.ExpFloat64() * 2e6 },
		"lognormal":   func() float64 { return math.Exp(r.NormFloat64()*4 + 16) },
		"time wait":   func() float64 { return 60e9 + r.Float64()*2.048e9 },
		"bimodal": func() float64 {
			if r.IntN(2) == 0 {
				return 14_000 + r.Float64()*1000
			}
			return 60e9 + r.Float64()*4e9
		},
		"days": func() float64 { return r.Float64() * 12 * 24 * 3600e9 },
	} {
		t.Run(name, func(t *testing.T) {
			var h Histogram
			exact := make([]uint64, n)
			for i := range exact {
				exact[i] = uint64(draw())
				h.Add(exact[i])
			}
			slices.Sort(exact)
			if h.Count() != n {
				t.Fatalf("counted %d, want %d", h.Count(), n)
			}
			for _, q := range []float64{0, 0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1} {
				want := exact[max(int(math.Ceil(q*n)), 1)-1]
				got, bound, ok := h.Quantile(q)
				if !ok {
					t.Fatalf("no quantile %v", q)
				}
				off := max(got, want) - min(got, want)
				if off > bound {
					t.Errorf("quantile %v: %d, exact is %d: off by %d, more than %d", q, got, want, off, bound)
				}
				if want >= 512 && float64(bound) > RelativeError*float64(want) {
					t.Errorf("quantile %v: bound %d is more than %v of %d", q, bound, RelativeError, want)
				}
				if want >= 1<<fine && want < 1<<(fine+1) && float64(bound) > RelativeError/4*float64(want) {
					t.Errorf("quantile %v: bound %d is more than %v of %d", q, bound, RelativeError/4, want)
				}
			}
			if got, _ := h.Max(); got <= exact[n-1] || float64(got) > float64(exact[n-1])*(1+2*RelativeError)+64 {
				t.Errorf("max bound %d, the largest is %d", got, exact[n-1])
			}
		})
	}
}

func TestQuantileBeyondTheLastBound(t *testing.T) {
	var h Histogram
	h.Add(1 << 60)
	low, _ := Bounds(Buckets - 1)
	if ns, bound, ok := h.Quantile(0.5); ns != low || bound != math.MaxUint64 || !ok {
		t.Errorf("got %d within %d, %v; want %d without bound", ns, bound, ok, low)
	}
	if got, ok := h.Max(); got != math.MaxUint64 || !ok {
		t.Errorf("max %d, %v; want none", got, ok)
	}
}

func TestNothingIsKnownOfNothing(t *testing.T) {
	var h Histogram
	if _, _, ok := h.Quantile(0.5); ok {
		t.Error("an empty histogram has a median")
	}
	if _, ok := h.Max(); ok {
		t.Error("an empty histogram has a maximum")
	}
	h.Add(1)
	for _, q := range []float64{-0.1, 1.1, math.NaN(), math.Inf(1)} {
		if _, _, ok := h.Quantile(q); ok {
			t.Errorf("there is a quantile %v", q)
		}
	}
}

func TestMerge(t *testing.T) {
	var a, b, both Histogram
	for i := range uint64(1009) {
		ns := i * i * 1_000_003
		both.Add(ns)
		if i%3 == 0 {
			a.Add(ns)
		} else {
			b.AddTo(Index(ns), 1)
		}
	}
	a.Merge(&b)
	if a != both {
		t.Error("two parts merged differ from the whole")
	}
}

func BenchmarkIndex(b *testing.B) {
	var sum int
	for i := range b.N {
		sum += Index(uint64(i) << 20)
	}
	_ = sum
}

// The durations between two readings are their difference.
func TestSub(t *testing.T) {
	var before, after, between Histogram
	for i, ns := range []uint64{0, 700, 700, 61e9, 1 << 60} {
		after.Add(ns)
		if i%2 == 0 {
			before.Add(ns)
		} else {
			between.Add(ns)
		}
	}
	after.Sub(&before)
	if after != between {
		t.Error("a histogram less its first part is not its second")
	}
	var n uint64
	last := -1
	for i, count := range after.All() {
		if i <= last || count == 0 {
			t.Errorf("bucket %d, with %d, follows %d", i, count, last)
		}
		last, n = i, n+count
	}
	if n != after.Count() {
		t.Errorf("All gives %d, Count %d", n, after.Count())
	}
}
