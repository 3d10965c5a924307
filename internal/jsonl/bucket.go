package jsonl

import (
	"math"

	"finwait/tracer"

	"github.com/rs/zerolog"
)

// Bucket adds an object of a histogram's bucket: from_ns, to_ns and count. to_ns of
// the last bucket, which has no end, is 2^64 - 1.
func Bucket(to *zerolog.Array, b tracer.Bucket) {
	high := uint64(b.High)
	if b.High == math.MaxInt64 {
		high = math.MaxUint64
	}
	to.Dict(zerolog.Dict().Uint64("from_ns", uint64(b.Low)).Uint64("to_ns", high).Uint64("count", b.Count))
}
