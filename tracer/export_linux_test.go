package tracer

import (
	"context"
	"unsafe"

	"finwait/internal/ktime"
)

// NewSkipping is New, but the programs pass over one kind of transition in one network namespace,
// as if the kernel had run none of them.
func NewSkipping(cfg Config, netNS uint32, from, to State) (*Tracer, error) {
	return newTracer(cfg, map[string]any{bpfVarSkipNetns: netNS, bpfVarSkipFrom: uint8(from), bpfVarSkipTo: uint8(to)})
}

// ReadSamples is Run, but hands over the records of the ring buffer as they are.
func (t *Tracer) ReadSamples(ctx context.Context, handle func([]byte) error) error {
	return t.read(ctx, func(ev *bpfWideEvent, _ []byte) error {
		return handle(append([]byte(nil), unsafe.Slice((*byte)(unsafe.Pointer(ev)), eventSize)...))
	})
}

// Resolve is what Run makes of a record of the ring buffer.
func Resolve(sample []byte, clock *ktime.Clock) (t Transition, err error) {
	var ev bpfWideEvent
	if err := decode(sample, &ev); err != nil {
		return t, err
	}
	resolve(&ev, clock, &t)
	return t, nil
}

// ResolveRaw is what RunRaw makes of it.
func ResolveRaw(sample []byte, clock *ktime.Clock) (r RawEvent, err error) {
	var ev bpfWideEvent
	if err := decode(sample, &ev); err != nil {
		return r, err
	}
	resolveRaw(&ev, clock, &r)
	return r, nil
}

// KnowsHandler reports whether the programs keep the handler of a connection.
func (t *Tracer) KnowsHandler(cookie uint64) bool {
	var h bpfHandler
	return t.coll.Maps[bpfMapHandlers].Lookup(cookie, &h) == nil
}

// Meanwhile has the reader call do each time that it has read the clock, before it looks at the
// ring buffers.
func (t *Tracer) Meanwhile(do func()) {
	now := t.rings.now
	t.rings.now = func() uint64 {
		at := now()
		do()
		return at
	}
}

// StopClock has the reader believe that it is the first moment after boot, for ever.
func (t *Tracer) StopClock() { t.rings.now = func() uint64 { return 1 } }
