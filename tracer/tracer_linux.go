package tracer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"finwait/internal/ktime"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// flushEvery bounds how long an event waits in the ring buffer before it is handled.
const flushEvery = 50 * time.Millisecond

// A Tracer follows the TCP sockets of the host, in every network namespace.
type Tracer struct {
	cfg      Config
	hooks    HookSet // the set in use
	coll     *ebpf.Collection
	reader   *ringbuf.Reader
	sleeps   *ebpf.Variable // reader_sleeps of the BPF side
	ran      atomic.Bool
	detached atomic.Bool // no program runs any more

	mu    sync.Mutex
	links []link.Link // a link that is not referenced detaches by itself
	final *Stats      // after Close

	// Runs of set_state that the kernel skipped before all programs were attached,
	// and until they were detached: in between, others took over or it was a loss.
	skippedBefore, skippedUntil uint64

	warned  time.Time
	warnedN uint64
}

// New loads the programs, attaches them and looks at the sockets that are
// there already. What happens from then on is kept for Run, in the ring buffer.
//
// It needs Linux 5.15 or later with BTF, CAP_BPF and CAP_PERFMON, and, to know
// kernel addresses, CAP_SYSLOG: without that only Fentry can be used, and what
// the kernel stack would tell is Killed. CAP_SYS_PTRACE with CAP_DAC_READ_SEARCH
// shows the owners of older sockets, CAP_SYS_ADMIN the older sockets of other
// namespaces. New alone takes capabilities: from 5.19 on, or with
// kernel.unprivileged_bpf_disabled=0, all else works without. On an error nothing is left attached.
func New(cfg Config) (*Tracer, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if err := prepare(); err != nil {
		return nil, err
	}
	// Kernel types and symbols take most of the start that the verifier does not:
	// read both at once. What goes wrong with the symbols load() meets again.
	go func() { _, _ = kernelSymbols() }()
	types := kernelTypesCache()
	if cfg.Hooks != HooksAuto {
		return open(cfg, cfg.Hooks, types)
	}
	t, err := open(cfg, HooksFentry, types)
	if err == nil {
		return t, nil
	}
	// Whatever is wrong with them: if it is not the hooks, the others fail as well.
	cfg.Logger.Debug().Err(err).Msg("no fentry hooks here: tracepoints follow the minisocks")
	return open(cfg, HooksTracepoint, types)
}

func open(cfg Config, hooks HookSet, types *btf.Cache) (*Tracer, error) {
	coll, err := load(&cfg, hooks, types)
	if err != nil {
		return nil, err
	}
	t := &Tracer{cfg: cfg, hooks: hooks, coll: coll}
	if err := t.start(); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

func (t *Tracer) start() (err error) {
	t.sleeps = t.coll.Variables[bpfVarReaderSleeps]
	if t.reader, err = ringbuf.NewReader(t.coll.Maps[bpfMapEvents]); err != nil {
		return fmt.Errorf("open ring buffer: %w", err)
	}
	// The minisock's hooks come first: a hand-over that only set_state sees
	// looks like a close.
	for _, name := range append(slices.Clone(minisockHooks[t.hooks]),
		bpfProgSetState, bpfProgSetStateNested, bpfProgSetStateThird, bpfProgSetStateFourth,
	) {
		prog := t.coll.Programs[name]
		if prog == nil {
			continue // the kernel has no use for it: load() left it out
		}
		l, err := link.AttachTracing(link.TracingOptions{Program: prog})
		if f, ok := functions[name]; ok && err != nil {
			return &HooksError{f.name, err}
		}
		if err != nil {
			return fmt.Errorf("attach %s: %w", name, err)
		}
		t.links = append(t.links, l)
	}
	if t.skippedBefore, err = t.skipped(); err != nil {
		return err
	}
	if err := t.seed(); err != nil {
		return err
	}
	now, _ := ktime.Now()
	if err := t.coll.Variables[bpfVarAttachedNs].Set(uint64(now)); err != nil {
		return fmt.Errorf("tell the programs that all is attached: %w", err)
	}
	return nil
}

// Hooks says which set of hooks follows the minisocks: Fentry or Tracepoint.
func (t *Tracer) Hooks() HookSet { return t.hooks }

// Run hands every transition to handle, in the order that the kernel made them
// per socket, until ctx is done, handle fails, or Close. A transition is only
// valid until handle returns. When ctx is done Run detaches, hands over what is
// left and returns nil; the error of handle it returns as it is. It can be run once.
func (t *Tracer) Run(ctx context.Context, handle func(*Transition) error) error {
	var (
		clock = ktime.NewClock(ktime.Now)
		tr    Transition
	)
	return t.read(ctx, func(ev *bpfEvent) error {
		resolve(ev, clock, &tr)
		return handle(&tr)
	})
}

// RunRaw is Run for a Tracer with Config.Raw.
func (t *Tracer) RunRaw(ctx context.Context, handle func(*RawEvent) error) error {
	var (
		clock = ktime.NewClock(ktime.Now)
		raw   RawEvent
	)
	return t.read(ctx, func(ev *bpfEvent) error {
		resolveRaw(ev, clock, &raw)
		return handle(&raw)
	})
}

func (t *Tracer) read(ctx context.Context, handle func(*bpfEvent) error) (err error) {
	if t.ran.Swap(true) {
		return errors.New("a tracer can be run only once")
	}
	stop := context.AfterFunc(ctx, func() {
		t.detach()
		// It fails only when the reader is closed, which ends the loop too.
		_ = t.reader.Flush()
	})
	defer stop()
	defer t.detach()

	var (
		ev    bpfEvent
		rec   ringbuf.Record
		armed bool // the next event wakes the reader
		read  uint64
	)
	t.reader.SetDeadline(time.Now())
	for {
		err := t.reader.ReadInto(&rec)
		switch {
		case err == nil:
			read++
			if armed {
				armed = false
				if err := t.sleeps.Set(uint32(0)); err != nil {
					return err
				}
			}
			if err := decode(rec.RawSample, &ev); err != nil {
				return err
			}
			if err := handle(&ev); err != nil {
				return err
			}
			if rec.Remaining == 0 {
				if err := t.idle(); err != nil {
					return err
				}
				t.reader.SetDeadline(time.Now().Add(flushEvery))
			}
		case errors.Is(err, os.ErrDeadlineExceeded) && !armed:
			// Nothing came for a while. Ask to be woken, and look once more later,
			// for what came before the kernel side could know.
			armed = true
			if err := t.sleeps.Set(uint32(1)); err != nil {
				return err
			}
			t.reader.SetDeadline(time.Now().Add(flushEvery))
		case errors.Is(err, os.ErrDeadlineExceeded):
			t.reader.SetDeadline(time.Time{})
		case errors.Is(err, ringbuf.ErrFlushed):
			if t.drained(read) {
				return t.idle()
			}
			t.reader.SetDeadline(time.Now().Add(time.Millisecond))
		case errors.Is(err, ringbuf.ErrClosed):
			return nil
		default:
			return fmt.Errorf("read ring buffer: %w", err)
		}
		// What programs that are still attached deliver is to be read, too.
		if err != nil && t.detached.Load() && t.drained(read) {
			return t.idle()
		}
	}
}

// settle waits until no program runs any more that was running while it was
// detached: a grace period of RCU, which is what the command is in the kernel
// (since 4.16 at least; where it is missing, drained has to do).
func settle() {
	const membarrierGlobal = 1 // MEMBARRIER_CMD_GLOBAL, linux/membarrier.h
	_, _, _ = unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0)
}

// drained: a program that was running while it was detached may still have
// been adding its event; none is left when as many were read as were delivered.
func (t *Tracer) drained(read uint64) bool {
	st, err := t.Stats()
	return err != nil || read >= st.Delivered
}

// idle runs when all is read.
func (t *Tracer) idle() error {
	t.warn()
	if t.cfg.Idle != nil {
		return t.cfg.Idle()
	}
	return nil
}

// warn tells of losses while they happen, once a second at most.
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
		e.Msg("transitions are being lost")
		t.warnedN = n
	}
}

// Stats reads where every transition went so far. After Close it is what it was then.
func (t *Tracer) Stats() (Stats, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.final != nil {
		return *t.final, nil
	}
	return t.stats()
}

func (t *Tracer) stats() (Stats, error) {
	// First, as each skipped run may be counted as rescued a moment later.
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
	var sum bpfAccount
	for _, a := range perCPU {
		sum.Seen += a.Seen
		sum.Filtered += a.Filtered
		sum.Delivered += a.Delivered
		sum.RingFull += a.RingFull
		sum.MapFull += a.MapFull
		sum.Rescued += a.Rescued
		sum.BirthsRescued += a.BirthsRescued
		sum.Missed += a.Missed
		sum.UnwindFailed += a.UnwindFailed
	}
	st := Stats{
		Seen: sum.Seen, Filtered: sum.Filtered, Delivered: sum.Delivered,
		Lost: Lost{RingFull: sum.RingFull, MapFull: sum.MapFull, Recursion: sum.Missed, Unwind: sum.UnwindFailed},
	}
	// The kernel counts the runs that it skipped; what is found missing later is
	// among them, as a rule. The larger number is nearer to the truth.
	if skipped -= min(sum.Rescued, skipped); skipped > sum.Missed {
		st.Lost.Recursion = skipped
		st.Seen += skipped - sum.Missed
	}
	lost := ends + births - min(sum.BirthsRescued, births)
	st.Lost.Recursion += lost
	st.Seen += lost
	return st, nil
}

// skipped is how often the kernel has not run set_state because it was running it already.
func (t *Tracer) skipped() (uint64, error) { return t.skippedRuns(bpfProgSetState) }

// skippedRuns is the same of any program; of one that is not loaded it is 0.
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

// detach takes the programs off their hooks; sockets stop being followed. The
// last goes first: what set_state does not see while the others are still there
// they would take for skipped, and that would hide as many losses. When it returns
// no program runs any more: the accounts are what they will be.
func (t *Tracer) detach() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.links == nil {
		return
	}
	// It fails only if the program is not loaded, which it is.
	t.skippedUntil, _ = t.skipped()
	for _, l := range slices.Backward(t.links) {
		// Closing the last reference detaches; there is no other way for it to go.
		_ = l.Close()
	}
	t.links = nil
	settle()
	t.detached.Store(true)
}

// Close detaches, ends Run and frees what is in the kernel. It can be called again.
func (t *Tracer) Close() error {
	t.detach() // first: a program that runs must find its maps

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
	if t.reader != nil {
		err = errors.Join(err, t.reader.Close())
	}
	t.coll.Close()
	return err
}
