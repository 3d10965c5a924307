package tracer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"finwait/internal/ktime"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// flushEvery bounds how long an event waits in a ring buffer before it is handled.
const flushEvery = 50 * time.Millisecond

// A Tracer follows the TCP sockets of the host, in every network namespace.
type Tracer struct {
	cfg    Config
	hooks  HookSet // the set in use
	coll   *ebpf.Collection
	rings  *rings
	sleeps *ebpf.Variable // reader_sleeps of the BPF side
	ran    atomic.Bool

	rstReasons map[uint64]string
	seg        Segment // the one that is handed over
	stacks     *stackReader

	detached atomic.Bool // the programs are detached, and none runs any more

	mu      sync.Mutex
	sweeper *sweeper    // nil: nothing is swept
	links   []link.Link // kept: a link without a reference detaches by itself
	final   *Stats      // set by Close

	// How many runs of set_state the kernel had skipped when all programs were
	// attached, and when they were detached. Each run in between was taken over by
	// another program, or its transition is lost.
	skippedBefore, skippedUntil uint64

	warned  time.Time
	warnedN uint64
}

// New loads the programs, attaches them and visits the sockets that exist already.
// From then on transitions wait in the ring buffers for Run.
//
// New needs Linux 5.15 or later with BTF, CAP_BPF and CAP_PERFMON. To read kernel
// addresses it needs CAP_SYSLOG: without that only HooksFentry can be used, and a reason
// that only the kernel stack shows is ReasonKilled. CAP_SYS_PTRACE with CAP_DAC_READ_SEARCH
// shows the owners of existing sockets, CAP_SYS_ADMIN the existing sockets of other
// network namespaces. Only New needs capabilities, from 5.19 on or with
// kernel.unprivileged_bpf_disabled=0. After an error nothing stays attached.
func New(cfg Config) (*Tracer, error) { return newTracer(cfg, nil) }

// newTracer is New with more constants of the BPF object, for tests.
func newTracer(cfg Config, more map[string]any) (*Tracer, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if err := prepare(); err != nil {
		return nil, err
	}
	if err := cfg.Stacks.check(); err != nil {
		return nil, err
	}
	// Apart from the verifier, kernel types and symbols take most of the start: read
	// both at once. If the symbols fail, load() gets the same error again.
	go func() { _, _ = kernelSymbols() }()
	types := kernelTypesCache()
	if cfg.Hooks != HooksAuto {
		return open(cfg, cfg.Hooks, types, more)
	}
	var last error
	for _, set := range hookSets {
		t, err := open(cfg, set.hooks, types, more)
		if err == nil {
			return t, nil
		}
		// Try the next set after any error. If the hooks are not the cause, it fails too.
		cfg.Logger.Debug().Err(err).Msgf("the %v hooks cannot follow the minisocks here", set.hooks)
		last = err
	}
	return nil, last
}

func open(cfg Config, hooks HookSet, types *btf.Cache, more map[string]any) (*Tracer, error) {
	coll, err := load(&cfg, hooks, types, more)
	if err != nil {
		return nil, err
	}
	t := &Tracer{cfg: cfg, hooks: hooks, coll: coll}
	if cfg.RST {
		kernel, err := kernelTypes(types)
		if err != nil {
			t.Close()
			return nil, err
		}
		t.rstReasons = rstReasons(kernel)
	}
	if t.stacks, err = newStackReader(cfg.Stacks); err != nil {
		t.Close()
		return nil, err
	}
	if err := t.start(); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

func (t *Tracer) start() (err error) {
	t.sleeps = t.coll.Variables[bpfVarReaderSleeps]
	_, size, err := ringSizes(&t.cfg)
	if err != nil {
		return err
	}
	if t.rings, err = newRings(t.coll.Maps[bpfMapRings], size); err != nil {
		return err
	}
	// The hooks of minisocks come first: if only set_state sees a hand-over, it looks
	// like a close.
	for _, p := range slices.Concat(detailPrograms, handlerPrograms, segmentPrograms, t.hooks.set().programs, setState) {
		prog := t.coll.Programs[p.name]
		if prog == nil {
			continue // load() has left it out: this kernel does not need it
		}
		l, err := link.AttachTracing(link.TracingOptions{Program: prog})
		if p.function != "" && err != nil {
			return &HooksError{p.function, err}
		}
		if err != nil {
			return fmt.Errorf("attach %s: %w", p.name, err)
		}
		t.links = append(t.links, l)
	}
	if t.skippedBefore, err = t.skipped(); err != nil {
		return err
	}
	if err := t.visitExisting(); err != nil {
		return err
	}
	now, _ := ktime.Now()
	if err := t.coll.Variables[bpfVarAttachedNs].Set(uint64(now)); err != nil {
		return fmt.Errorf("tell the programs that all is attached: %w", err)
	}
	t.sweep()
	return nil
}

// Hooks says which set of hooks follows the minisocks: HooksFentry or HooksTracepoint.
func (t *Tracer) Hooks() HookSet { return t.hooks }

// Run passes every transition to handle; those of one socket in the order of the
// kernel. A transition is valid only until handle returns. Run ends when ctx is done,
// when handle fails, or with Close. When ctx is done it detaches, passes on what is
// left and returns nil. It returns an error of handle unchanged. It can run once.
func (t *Tracer) Run(ctx context.Context, handle func(*Transition) error) error {
	var (
		clock   = ktime.NewClock(ktime.Now)
		tr      Transition
		metrics Metrics
	)
	return t.read(ctx, func(ev *bpfWideEvent, more []byte) error {
		if ev.Event.Flags&uint8(bpfEventFlagsEVENT_SEGMENT) != 0 {
			return t.segment(&ev.Event, clock)
		}
		resolve(ev, clock, &tr)
		t.nameScope(&tr.Scope, tr.NetNSCookie)
		if t.cfg.Metrics {
			metrics.set(&ev.Metrics)
			tr.Metrics = &metrics
		}
		tr.Stack = t.stacks.resolve(more)
		return handle(&tr)
	})
}

// RunRaw is like Run, for a Tracer with Config.Raw.
func (t *Tracer) RunRaw(ctx context.Context, handle func(*RawEvent) error) error {
	var (
		clock = ktime.NewClock(ktime.Now)
		raw   RawEvent
	)
	return t.read(ctx, func(ev *bpfWideEvent, more []byte) error {
		resolveRaw(ev, clock, &raw)
		t.nameScope(&raw.Scope, raw.NetNSCookie)
		raw.Stack = t.stacks.resolve(more)
		return handle(&raw)
	})
}

func (t *Tracer) read(ctx context.Context, handle func(ev *bpfWideEvent, more []byte) error) (err error) {
	if t.ran.Swap(true) {
		return errors.New("a tracer can be run only once")
	}
	stop := context.AfterFunc(ctx, func() {
		t.detach()
		t.rings.wake()
	})
	defer stop()
	defer t.detach()

	var (
		read  uint64
		armed bool // the next event wakes the reader
		pause = time.Duration(0)
	)
	for {
		woken, err := t.rings.wait(pause)
		var (
			n    uint64
			left rest
		)
		if err == nil {
			n, left, err = t.rings.drain(handle)
		}
		if err == errEnded {
			return nil
		}
		if err != nil {
			return err
		}
		read += n
		if n > 0 {
			if err := t.idle(); err != nil {
				return err
			}
		}
		switch {
		case t.detached.Load():
			// A program may have delivered an event until it was detached: read that, too.
			if t.drained(read) {
				return t.idle()
			}
			pause = time.Millisecond
		case n > 0 || woken || left != nothing:
			if armed {
				armed = false
				if err := t.sleeps.Set(uint32(0)); err != nil {
					return err
				}
			}
			pause = flushEvery
			if left == crowded {
				pause = 0
			}
		case !armed:
			// Nothing came for a while. Ask the programs to wake this reader. Then look
			// once more: an event may have come before they knew.
			armed = true
			if err := t.sleeps.Set(uint32(1)); err != nil {
				return err
			}
			pause = flushEvery
		default:
			pause = -1
		}
	}
}

// settle waits for an RCU grace period: then no program runs any more that was running
// when it was detached. The command does that since 4.16 at least. If it is missing,
// drained() has to be enough.
func settle() {
	const membarrierGlobal = 1 // MEMBARRIER_CMD_GLOBAL, linux/membarrier.h
	_, _, _ = unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0)
}

// drained reports whether as many events were read as were delivered. A program that
// was running when it was detached may have added its event after that.
func (t *Tracer) drained(read uint64) bool {
	st, err := t.Stats()
	return err != nil || read >= st.Delivered+st.Segments.Delivered
}

// idle is called when every event so far has been read.
func (t *Tracer) idle() error {
	t.warn()
	if t.cfg.Idle != nil {
		return t.cfg.Idle()
	}
	return nil
}

// warn logs new losses, once a second at most.
func (t *Tracer) warn() {
	now := time.Now()
	if now.Sub(t.warned) < time.Second {
		return
	}
	t.warned = now
	st, err := t.Stats()
	if err != nil {
		return
	}
	if n := st.Lost.Total(); n > t.warnedN {
		e := t.cfg.Logger.Warn().Uint64("lost", n-t.warnedN)
		for cause, n := range st.Lost.All() {
			e.Uint64(cause.String(), n)
		}
		e.Msg("transitions of the host are being lost")
		t.warnedN = n
	}
}

// Stats reads where every transition went so far. After Close it gives what it was then.
func (t *Tracer) Stats() (Stats, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.final != nil {
		return *t.final, nil
	}
	return t.stats()
}

func (t *Tracer) stats() (Stats, error) {
	// Read this first: a skipped run may be counted as rescued a moment later.
	skipped := t.skippedUntil
	if t.links != nil {
		var err error
		if skipped, err = t.skipped(); err != nil {
			return Stats{}, err
		}
	}
	skipped -= min(t.skippedBefore, skipped)
	births, err := t.skippedRuns(bpfProgTwskAlloc)
	if err != nil {
		return Stats{}, err
	}
	ends, err := t.skippedRuns(bpfProgTwskKill)
	if err != nil {
		return Stats{}, err
	}
	var perCPU []bpfAccount
	if err := t.coll.Maps[bpfMapAccounts].Lookup(uint32(0), &perCPU); err != nil {
		return Stats{}, fmt.Errorf("read accounts: %w", err)
	}
	st := account(perCPU, skipped, births, ends)
	var segments []bpfSegmentAccount
	if err := t.coll.Maps[bpfMapSegmentAccounts].Lookup(uint32(0), &segments); err != nil {
		return Stats{}, fmt.Errorf("read accounts of segments: %w", err)
	}
	for i := range segments {
		st.Segments.add(&segments[i])
	}
	return st, nil
}

// skipped is how often the kernel skipped set_state because it was already running on that CPU.
func (t *Tracer) skipped() (uint64, error) { return t.skippedRuns(bpfProgSetState) }

// skippedRuns counts the skipped runs of one program; 0 if it is not loaded.
func (t *Tracer) skippedRuns(name string) (uint64, error) {
	prog := t.coll.Programs[name]
	if prog == nil {
		return 0, nil
	}
	st, err := prog.Stats()
	if err != nil {
		return 0, fmt.Errorf("read recursion misses: %w", err)
	}
	return st.RecursionMisses, nil
}

// detach takes the programs off their hooks. The last one goes first: if set_state went
// before those that take over from it, they would take each transition for one that it
// skipped, and as many losses would be hidden. When detach returns no program runs any
// more, so the accounts are final.
func (t *Tracer) detach() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.links == nil {
		return
	}
	t.sweeper.end()
	t.sweeper = nil
	// skipped fails only if the program is not loaded.
	t.skippedUntil, _ = t.skipped()
	for _, l := range slices.Backward(t.links) {
		// Closing the last reference detaches, whatever Close returns.
		_ = l.Close()
	}
	t.links = nil
	settle()
	t.settlePorts()
	t.detached.Store(true)
}

// Close detaches, ends Run and frees what is in the kernel. It can be called again.
func (t *Tracer) Close() error {
	t.detach() // first: a running program needs its maps

	t.mu.Lock()
	defer t.mu.Unlock()
	if t.final != nil {
		return nil
	}
	st, err := t.stats()
	if err != nil {
		st = Stats{}
	}
	t.final = &st
	if t.rings != nil {
		err = errors.Join(err, t.rings.close())
	}
	t.coll.Close()
	return err
}
