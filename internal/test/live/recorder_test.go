//go:build linux

package live_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/tracer"
)

// A recorder keeps the transitions of one namespace.
type recorder struct {
	t    testing.TB
	mu   sync.Mutex
	all  []tracer.Transition
	more chan struct{}
}

func newRecorder(t testing.TB) *recorder {
	return &recorder{t: t, more: make(chan struct{}, 1)}
}

// record makes a namespace and keeps its transitions.
func record(t testing.TB) (*sandbox.NS, *recorder) {
	t.Helper()
	ns := sandbox.New(t)
	return ns, follow(t, ns.Cookie)
}

// follow keeps the transitions of the namespace with this cookie.
func follow(t testing.TB, netNS uint64) *recorder {
	t.Helper()
	r := newRecorder(t)
	shared.mu.Lock()
	shared.recorders[netNS] = append(shared.recorders[netNS], r)
	shared.mu.Unlock()
	t.Cleanup(func() {
		shared.mu.Lock()
		shared.recorders[netNS] = slices.DeleteFunc(shared.recorders[netNS], func(o *recorder) bool { return o == r })
		shared.mu.Unlock()
		if t.Failed() {
			t.Logf("all that was seen:\n%s", r.dump())
		}
	})
	return r
}

func (r *recorder) add(t *tracer.Transition) {
	kept := *t
	if m := t.Metrics; m != nil {
		copied := *m
		kept.Metrics = &copied
	}
	if st := t.Stack; st != nil { // the tracer uses its memory again
		kept.Stack = &tracer.Stack{
			Of: st.Of, PID: st.PID, UserTruncated: st.UserTruncated, Kernel: slices.Clone(st.Kernel), User: slices.Clone(st.User),
		}
	}
	r.mu.Lock()
	r.all = append(r.all, kept)
	r.mu.Unlock()
	select {
	case r.more <- struct{}{}:
	default:
	}
}

// hold lets the reader wait while do runs, so that its ring buffers fill.
func (r *recorder) hold(do func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	do()
}

func (r *recorder) snapshot() []tracer.Transition {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]tracer.Transition(nil), r.all...)
}

// chain waits until the socket is closed, and returns its transitions in the order of delivery.
func (r *recorder) chain(cookie uint64) chain {
	r.t.Helper()
	return r.until(cookie, tracer.Closed)
}

// until waits until the socket enters a state, and returns its transitions.
func (r *recorder) until(cookie uint64, state tracer.State) chain {
	r.t.Helper()
	deadline := time.After(100 * time.Second)
	for {
		var c chain
		for _, t := range r.snapshot() {
			if t.Cookie == cookie {
				c = append(c, t)
			}
		}
		if len(c) > 0 && c[len(c)-1].To == state {
			return c
		}
		select {
		case <-r.more:
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			r.t.Fatalf("socket %d did not get to %v; it went\n%v", cookie, state, c)
		}
	}
}

// find waits for a transition that ok accepts, and returns the first.
func (r *recorder) find(t testing.TB, ok func(*tracer.Transition) bool) tracer.Transition {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		for _, x := range r.snapshot() {
			if ok(&x) {
				return x
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("no such transition in\n%s", r.dump())
		}
	}
}

// timeWait waits until the socket, or its minisock, is in TIME_WAIT. If the tracer reports that
// late, it asks the kernel.
func (r *recorder) timeWait(ns *sandbox.NS, s *sandbox.Sock) {
	r.t.Helper()
	if !late {
		r.until(s.Cookie, tracer.TimeWait)
		return
	}
	for deadline := time.Now().Add(30 * time.Second); ns.PortStates(s.Local.Port())[uint8(tracer.TimeWait)] == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("port %d is in no TIME_WAIT: %v", s.Local.Port(), ns.PortStates(s.Local.Port()))
		}
	}
}

// orphan waits until a minisock holds the FIN_WAIT_2 of a closed socket.
func (r *recorder) orphan(s *sandbox.Sock) {
	r.t.Helper()
	r.until(s.Cookie, tracer.FinWait2)
	time.Sleep(20 * time.Millisecond) // the hand-over follows right after the transition
}

func (r *recorder) dump() string {
	return chain(r.snapshot()).String()
}

func (r *recorder) byCookie() map[uint64]chain {
	lives := make(map[uint64]chain)
	for _, x := range r.snapshot() {
		lives[x.Cookie] = append(lives[x.Cookie], x)
	}
	return lives
}

// eachFamily runs a test for IPv4 and for IPv6, in parallel with other tests.
func eachFamily(t *testing.T, test func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family)) {
	t.Helper()
	t.Parallel()
	for _, f := range sandbox.Families {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			ns, r := record(t)
			test(t, ns, r, f)
		})
	}
}

// outlast returns the reason for which every TIME_WAIT of the namespace ends. In short mode it
// removes the namespace instead of waiting for a minute.
func outlast(ns *sandbox.NS) tracer.Reason {
	if !testing.Short() {
		return tracer.ReasonExpired
	}
	ns.Remove()
	return tracer.ReasonNetNSRemoved
}
