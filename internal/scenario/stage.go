//go:build linux

package scenario

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"finwait/internal/ktime"
	"finwait/internal/netns"
	"finwait/internal/sandbox"
	"finwait/tracer"

	"golang.org/x/sys/unix"
)

// patience is the limit for steps that take no time on an idle machine.
const patience = 30 * time.Second

// A NotRunError says why a scenario cannot run here.
type NotRunError struct{ Why string }

func (e *NotRunError) Error() string { return "not run: " + e.Why }

// A Stage is a network namespace in which one scenario runs. Its transitions must be given to
// See.
type Stage struct {
	*sandbox.NS
	owner *owner
	began time.Duration // CLOCK_MONOTONIC, like all times in this file

	ctx  context.Context
	note func(at time.Duration, text string)

	mu      sync.Mutex
	seen    []tracer.Transition
	known   map[uint64]bool // cookies of the sockets that were seen
	removed time.Duration   // when the namespace was removed; 0: not yet
}

// Open makes the namespace. It needs CAP_SYS_ADMIN and CAP_NET_ADMIN. Close must be called.
func Open() (*Stage, error) {
	st := &Stage{owner: &owner{}, began: monotonic(), known: make(map[uint64]bool)}
	if err := st.owner.try(func() { st.NS = sandbox.New(st.owner) }); err != nil {
		if errors.Is(err, unix.EPERM) {
			err = fmt.Errorf("make a network namespace: %w: it needs CAP_SYS_ADMIN and CAP_NET_ADMIN, which root has", unix.EPERM)
		}
		return nil, err
	}
	return st, nil
}

// Close removes the namespace and all that is in it.
func (st *Stage) Close() { st.owner.close() }

// See adds a transition, and reports whether it belongs to the stage. The inode number alone
// does not tell, because the kernel gives it to other namespaces before and after.
func (st *Stage) See(t *tracer.Transition) bool {
	if t.NetNS != st.Inode || t.Ktime < st.began {
		return false
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.removed != 0 && t.Ktime > st.removed && !st.known[t.Cookie] {
		return false
	}
	st.known[t.Cookie] = true
	st.seen = append(st.seen, *t)
	return true
}

// Seen returns what was seen so far.
func (st *Stage) Seen() Seen {
	st.mu.Lock()
	defer st.mu.Unlock()
	return lives(slices.Clone(st.seen))
}

// Left counts the sockets that exist now.
func (st *Stage) Left() (left sandbox.Census, err error) {
	err = st.owner.try(func() { left = st.States() })
	return left, err
}

// Play runs a scenario, once, until everything in Want has been seen. It calls note with each
// step and its CLOCK_MONOTONIC. With fast, a TIME_WAIT does not expire, but ends with the
// namespace. Play returns a *NotRunError if the scenario cannot run here. When ctx is done,
// Play returns within a second.
func (st *Stage) Play(ctx context.Context, sc *Scenario, fast bool, note func(at time.Duration, text string)) error {
	st.note = note
	return st.act(ctx, func() {
		sc.Run(st)
		st.finish(sc, fast)
	})
}

// Act runs a scenario, once, and does not check what was seen.
func (st *Stage) Act(ctx context.Context, sc *Scenario) error {
	return st.act(ctx, func() { sc.Run(st) })
}

func (st *Stage) act(ctx context.Context, fn func()) error {
	st.ctx = ctx
	acted := make(chan error, 1)
	go func() { acted <- st.owner.try(fn) }()
	select {
	case err := <-acted:
		return err
	case <-ctx.Done():
		// All steps notice that, except a connect(2) that hangs.
		select {
		case <-acted:
		case <-time.After(time.Second):
		}
		return ctx.Err()
	}
}

// finish waits until everything in Want has been seen. On kernels before 6.11 a TIME_WAIT is
// reported only at its end, and it ends with the namespace at the latest.
func (st *Stage) finish(sc *Scenario, fast bool) {
	cut := fast && sc.Minute()
	if sc.Minute() && !fast {
		st.Say("TIME_WAIT runs its course: 60 s, and what its timer is late")
		st.wait(2*ktime.TimeWaitLen, "TIME_WAIT to expire", func() bool { return st.States()[uint8(tracer.TimeWait)] == 0 })
	}
	check := func() error { return sc.check(st.Seen(), fast) }
	if !cut && poll(2*time.Second, func() bool { return check() == nil }) {
		return
	}
	if cut {
		st.Say("--fast: the minute is skipped: the namespace is removed, with the TIME_WAIT in it")
	}
	st.mu.Lock()
	st.removed = monotonic()
	st.mu.Unlock()
	st.Remove()
	if !poll(patience, func() bool { return check() == nil }) {
		st.owner.Fatalf("it went otherwise than it must: %w", check())
	}
}

// Say notes the next step.
func (st *Stage) Say(format string, args ...any) {
	if st.note != nil {
		st.note(monotonic(), fmt.Sprintf(format, args...))
	}
}

// Pause waits, so that the steps before and after have different times.
func (st *Stage) Pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-st.ctx.Done():
		st.owner.Fatal(st.ctx.Err())
	}
}

// NotRun ends a scenario that cannot run here.
func (st *Stage) NotRun(format string, args ...any) {
	st.owner.Fatal(&NotRunError{fmt.Sprintf(format, args...)})
}

// Sysctl sets net.ipv4.KEY of the namespace, and notes it.
func (st *Stage) Sysctl(key, value string) {
	err := netns.Do(st.Path(), func() error {
		return os.WriteFile(filepath.Join("/proc/sys/net/ipv4", key), []byte(value), 0o644)
	})
	if err != nil {
		st.NotRun("a network namespace has no net.ipv4.%s that can be set here: %v", key, err)
	}
	st.Say("sysctl net.ipv4.%s = %s", key, value)
}

// NeedsSegments checks that segments can be made with a raw socket.
func (st *Stage) NeedsSegments() {
	s := st.TCP()
	defer s.Close()
	if err := s.TrySet(unix.IPPROTO_TCP, unix.TCP_REPAIR, 1); err != nil {
		st.NotRun("the next sequence number of a socket is not told: TCP_REPAIR: %v", err)
	}
	var err error
	st.Do(func() {
		var fd int
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP); err == nil {
			unix.Close(fd)
		}
	})
	if err != nil {
		st.NotRun("segments cannot be sent by hand: a raw socket, for which CAP_NET_RAW is needed: %v", err)
	}
}

var ipv4 = sandbox.Families[0]

// TCP makes a socket.
func (st *Stage) TCP() *sandbox.Sock { return st.Socket(ipv4) }

// Connect makes a listener with one connection.
func (st *Stage) Connect() *sandbox.Pair {
	st.Say("the client connects")
	return st.Pair(ipv4)
}

// Until waits until the kernel has a socket or a minisock of a port in a state. The state must
// last, because on a busy machine it is checked rarely.
func (st *Stage) Until(s *sandbox.Sock, state tracer.State) {
	st.wait(patience, state.String(), func() bool { return st.PortStates(s.Local.Port())[uint8(state)] > 0 })
}

// Gone waits until the kernel has no socket of the port.
func (st *Stage) Gone(s *sandbox.Sock) {
	st.wait(patience, "the socket to go", func() bool { return len(st.PortStates(s.Local.Port())) == 0 })
}

// TimeWait closes a connection, first before second, and leaves first in TIME_WAIT.
func (st *Stage) TimeWait(first, second *sandbox.Sock) {
	first.Close()
	st.Until(first, tracer.FinWait2)
	second.Close()
	st.Until(first, tracer.TimeWait)
}

// fails notes a failure that the scenario expects.
func (st *Stage) fails(what string, err, want error) {
	if !errors.Is(err, want) {
		st.owner.Fatalf("%s: %v, and not \"%v\"", what, err, want)
	}
	st.Say("%s: %v", what, err)
}

func (st *Stage) wait(limit time.Duration, what string, done func() bool) {
	if !poll(limit, func() bool { return done() || st.ctx.Err() != nil }) {
		st.owner.Fatalf("waited %v for %s", limit, what)
	}
	if err := st.ctx.Err(); err != nil {
		st.owner.Fatal(err)
	}
}

func poll(limit time.Duration, done func() bool) bool {
	for deadline := time.Now().Add(limit); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

func monotonic() time.Duration {
	now, _ := ktime.Now()
	return time.Duration(now)
}

// An owner owns a sandbox, like a *testing.T in a test. A fatal error ends the goroutine that
// reports it.
type owner struct {
	mu      sync.Mutex
	err     error
	cleanup []func()
}

// try runs fn on a goroutine of its own and returns its fatal error.
func (o *owner) try(fn func()) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	<-done
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

func (o *owner) Helper() {}

func (o *owner) Fatal(args ...any) {
	err, ok := args[0].(error)
	if !ok {
		err = errors.New(fmt.Sprint(args...))
	}
	o.mu.Lock()
	o.err = err
	o.mu.Unlock()
	runtime.Goexit()
}

func (o *owner) Fatalf(format string, args ...any) { o.Fatal(fmt.Errorf(format, args...)) }

func (o *owner) Cleanup(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cleanup = append(o.cleanup, f)
}

func (o *owner) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, f := range slices.Backward(o.cleanup) {
		f()
	}
	o.cleanup = nil
}
