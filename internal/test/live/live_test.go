//go:build linux

package live_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"finwait/internal/ktime"
	"finwait/internal/test/testnet"
	"finwait/tracer"

	"golang.org/x/sys/unix"
)

// shared is one Tracer for all tests that need nothing special of theirs: it
// hands each network namespace's transitions to the test that made it. One that
// is gone may have left its number to another test's while the last of its own
// transitions are still on their way: so a number can have several recorders, each
// of which takes what happened since it was made.
var shared = struct {
	mu        sync.Mutex
	recorders map[uint32][]*recorder
	tracer    *tracer.Tracer
}{recorders: make(map[uint32][]*recorder)}

// hooksEnv names the set of hooks to test; without it the tracer chooses.
const hooksEnv = "FINWAIT_HOOKS"

// hooks is the set that hooksEnv asks for.
var hooks tracer.HookSet

// late: no hook of this kernel reports that a minisock goes from FIN_WAIT_2 to
// TIME_WAIT. That is dated from its timer, to the jiffy, and told when the timer
// is moved or the minisock ends.
var late bool

func TestMain(m *testing.M) {
	if job := os.Getenv(workerEnv); job != "" {
		os.Exit(work(job))
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests trace the kernel and make network namespaces: run them as root")
		return 1
	}
	// A TIME_WAIT takes a minute: tests that wait side by side take no longer than one.
	flag.Parse()
	// In short mode none does, and an emulated machine attaches slowly enough.
	parallel := "64"
	if testing.Short() {
		parallel = "8"
		lessLoad()
	}
	if err := flag.Set("test.parallel", parallel); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := readHooks(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	tr, err := openShared()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	shared.tracer = tr
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- tr.Run(ctx, dispatch) }()

	code := m.Run()
	cancel()
	if err := <-done; err != nil {
		fmt.Fprintln(os.Stderr, "run:", err)
		code = 1
	}
	if err := tr.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "close:", err)
		code = 1
	}
	st, err := tr.Stats()
	lost := st.Lost.Total()
	if st.Lost.Recursion <= allowed(st) {
		lost -= st.Lost.Recursion
	}
	if testing.Short() && st.Lost.Unwind == 1 { // docs/limitations.md
		lost--
	}
	if err != nil || st.Seen != st.Filtered+st.Delivered+st.Lost.Total() || lost != 0 {
		fmt.Fprintf(os.Stderr, "accounts of all tests: %+v, %v\n", st, err)
		code = 1
	}
	return code
}

// readHooks reads hooksEnv.
func readHooks() error {
	set := os.Getenv(hooksEnv)
	if set == "" {
		return nil
	}
	if err := hooks.UnmarshalText([]byte(set)); err != nil {
		return fmt.Errorf("%s: %w", hooksEnv, err)
	}
	return nil
}

// openShared opens the shared tracer, and finds out what to expect of it. What the
// kernel lacks although it is no older than the first that had it is a mistake of ours.
func openShared() (*tracer.Tracer, error) {
	rxSk, err := feature("rx_sk in kfree_skb")
	if err != nil {
		return nil, err
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return nil, err
	}
	release := unix.ByteSliceToString(uts.Release[:])
	if rxSk.State == tracer.FeatureMissing && !older(release, rxSk.Since) {
		return nil, fmt.Errorf("Linux %s: %s is missing, but it came with %s", release, rxSk.Name, rxSk.Since)
	}
	// It sees the floods of all tests, and must lose none of them.
	var ring uint32 = 64 << 20
	if testing.Short() {
		ring = 0
	}
	tr, err := tracer.New(tracer.Config{Hooks: hooks, RingBytes: ring})
	if err != nil {
		return nil, err
	}
	late = tr.Hooks() == tracer.HooksTracepoint && rxSk.State == tracer.FeatureMissing
	return tr, nil
}

var askedFeatures = sync.OnceValues(tracer.Features)

func feature(name string) (tracer.Feature, error) {
	features, err := askedFeatures()
	if err != nil {
		return tracer.Feature{}, err
	}
	i := slices.IndexFunc(features, func(f tracer.Feature) bool { return f.Name == name })
	if i < 0 {
		return tracer.Feature{}, fmt.Errorf("there is no feature called %q", name)
	}
	return features[i], nil
}

// older compares kernel releases such as 6.1.0-56 by their series.
func older(release, than string) bool {
	var a, b [2]int
	// What is not a number stays 0, and a release of nothing is older than any.
	_, _ = fmt.Sscanf(release, "%d.%d", &a[0], &a[1])
	_, _ = fmt.Sscanf(than, "%d.%d", &b[0], &b[1])
	return a[0] < b[0] || a[0] == b[0] && a[1] < b[1]
}

func dispatch(t *tracer.Transition) error {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	for _, r := range shared.recorders[t.NetNS] {
		if t.Ktime >= r.began {
			r.add(t)
		}
	}
	return nil
}

// A recorder keeps the transitions of one namespace.
type recorder struct {
	t    testing.TB
	mu   sync.Mutex
	all  []tracer.Transition
	more chan struct{}

	began time.Duration // CLOCK_MONOTONIC; what was before is of a namespace that had the number
}

func newRecorder(t testing.TB) *recorder {
	return &recorder{t: t, more: make(chan struct{}, 1)}
}

// record makes a namespace whose transitions are kept.
func record(t testing.TB) (*testnet.NS, *recorder) {
	t.Helper()
	ns := testnet.NewNS(t)
	return ns, follow(t, ns.Inode)
}

// follow keeps the transitions of a namespace.
func follow(t testing.TB, netNS uint32) *recorder {
	t.Helper()
	r := newRecorder(t)
	r.began = now()
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
	r.mu.Lock()
	r.all = append(r.all, *t)
	r.mu.Unlock()
	select {
	case r.more <- struct{}{}:
	default:
	}
}

func (r *recorder) snapshot() []tracer.Transition {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]tracer.Transition(nil), r.all...)
}

// chain waits until the socket is closed and returns its transitions in the order they came.
func (r *recorder) chain(cookie uint64) chain {
	r.t.Helper()
	return r.until(cookie, tracer.Closed)
}

// until waits until the socket enters a state.
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

// timeWait waits until the socket, or its minisock, is in TIME_WAIT: as far as
// the tracer can tell, otherwise as the kernel says.
func (r *recorder) timeWait(ns *testnet.NS, s *testnet.Sock) {
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

// orphan waits until a minisock holds the FIN_WAIT_2 of a socket that was closed.
func (r *recorder) orphan(s *testnet.Sock) {
	r.t.Helper()
	r.until(s.Cookie, tracer.FinWait2)
	time.Sleep(20 * time.Millisecond) // the full socket hands over right after it says so
}

// allowed is how many transitions may be lost to recursion. On a real machine
// that is next to none. In an emulator, whose CPUs stand still for milliseconds
// in the midst of an instruction, programs are interrupted by themselves now and
// then, which is what short mode is for.
func allowed(st tracer.Stats) uint64 {
	if testing.Short() {
		return st.Seen / 500
	}
	return 1 + st.Seen/20000
}

// outlast lets every TIME_WAIT of the namespace end and returns the reason that
// they end for. In short mode that is not the minute that they take, but the
// namespace's removal.
func outlast(ns *testnet.NS) tracer.Reason {
	if !testing.Short() {
		return tracer.ReasonExpired
	}
	ns.Remove()
	return tracer.ReasonNetNSRemoved
}

func (r *recorder) dump() string {
	return chain(r.snapshot()).String()
}

// A chain is the life of one socket.
type chain []tracer.Transition

func (c chain) String() string {
	var b strings.Builder
	for _, t := range c {
		fmt.Fprintf(&b, "%12d cookie=%d %v %v>%v %v -> %v %v (%v) %v owner=%d/%v closer=%d/%v rearms=%d %v\n",
			t.Ktime, t.Cookie, t.Role, t.Local, t.Remote, t.From, t.To, t.Duration, t.Precision, t.Reason,
			t.Owner.PID, t.Owner.Comm, t.Closer.PID, t.Closer.Comm, t.Rearms, t.Source)
	}
	return b.String()
}

// path is the states that the socket went through; a break in the chain shows as "|".
func (c chain) path() string {
	var b strings.Builder
	for i, t := range c {
		switch {
		case i == 0:
			b.WriteString(t.From.String())
		case c[i-1].To != t.From:
			b.WriteString(" | " + t.From.String())
		}
		b.WriteString(" " + t.To.String())
	}
	return b.String()
}

func (c chain) last() tracer.Transition { return c[len(c)-1] }

// broken: something of it was lost.
func (c chain) broken() bool {
	return len(c) == 0 || c[0].Known() || c.last().To != tracer.Closed || strings.Contains(c.path(), "|")
}

// leaving is the transition that leaves a state.
func (c chain) leaving(t testing.TB, s tracer.State) tracer.Transition {
	t.Helper()
	for _, tr := range c {
		if tr.From == s {
			return tr
		}
	}
	t.Fatalf("nothing leaves %v in\n%v", s, c)
	return tracer.Transition{}
}

const (
	clientOpen = "CLOSED SYN_SENT ESTABLISHED"
	serverOpen = "LISTEN SYN_RECV ESTABLISHED"
)

// want checks the path, why it ended, and what holds for every chain: order,
// durations that fit the times, and starts that are only unknown where nobody
// could have seen them.
func (c chain) want(t testing.TB, path string, reason tracer.Reason) {
	t.Helper()
	if got := c.path(); got != path {
		t.Errorf("the socket went\n%s, want\n%s", got, path)
	}
	if got := c.last().Reason; got != reason {
		t.Errorf("it ended %q, want %q", got, reason)
	}
	c.check(t)
}

// check checks what holds for every chain that was seen from its start.
func (c chain) check(t testing.TB) {
	t.Helper()
	for i, tr := range c {
		if err := (&tracer.Filter{From: []tracer.State{tr.From}, To: []tracer.State{tr.To}}).Check(); err != nil {
			t.Error(err)
		}
		if i == 0 {
			if tr.Known() {
				t.Errorf("%v lasted %v (%v): nobody saw it begin", tr.From, tr.Duration, tr.Precision)
			}
			continue
		}
		if tr.From != c[i-1].To {
			t.Errorf("%v follows %v", tr.From, c[i-1].To)
		}
		if tr.Ktime < c[i-1].Ktime {
			t.Errorf("%v -> %v is %v older than the one before", tr.From, tr.To, c[i-1].Ktime-tr.Ktime)
		}
		if tr.From == tracer.Closed {
			if tr.Known() {
				t.Errorf("%v: nothing is kept of a closed socket", tr)
			}
			continue
		}
		if tr.Precision != tracer.PrecisionExact && !(tr.Precision == tracer.PrecisionJiffy && mayBeLate(tr)) {
			t.Errorf("%v lasted %v, %v: want exact", tr.From, tr.Duration, tr.Precision)
		}
		if want := tr.Ktime - c[i-1].Ktime; tr.Duration != want {
			t.Errorf("%v lasted %v, but %v lie between its ends", tr.From, tr.Duration, want)
		}
	}
}

// mayBeLate: the transition begins or ends with a start of TIME_WAIT that is worked
// out from the timer. An emulated machine's jiffies can be so late that a FIN does
// not look like what has just armed it.
func mayBeLate(tr tracer.Transition) bool {
	return (late || testing.Short()) && tr.Source == tracer.SourceMinisock && (tr.From == tracer.TimeWait || tr.To == tracer.TimeWait)
}

// blur is how far off the ends of what lasted that long may be: of a jiffy, one
// more or less at its end, and as much at the moment that it is counted from. An
// emulated machine's ticks come late when it is held up, several at once.
func blur(t testing.TB, tr tracer.Transition) time.Duration {
	t.Helper()
	if tr.Precision != tracer.PrecisionJiffy {
		return 0
	}
	if testing.Short() {
		return 25 * tick(t)
	}
	return 2 * tick(t)
}

// owned checks that this process is owner and closer, and the role.
func (c chain) owned(t testing.TB, role tracer.Role) {
	t.Helper()
	comm := processName(t)
	closed := false
	for _, tr := range c {
		if tr.Role != role {
			t.Errorf("%v -> %v: role %q, want %q", tr.From, tr.To, tr.Role, role)
		}
		if tr.Owner.PID != uint32(os.Getpid()) || tr.Owner.Comm.String() != comm || tr.Owner.UID != uint32(os.Getuid()) {
			t.Errorf("%v -> %v: owner %d/%v uid %d, want %d/%s uid %d", tr.From, tr.To,
				tr.Owner.PID, tr.Owner.Comm, tr.Owner.UID, os.Getpid(), comm, os.Getuid())
		}
		closed = closed || tr.To == tracer.FinWait1 || tr.To == tracer.LastAck
		switch {
		case closed && (tr.Closer.PID != uint32(os.Getpid()) || tr.Closer.Comm.String() != comm):
			t.Errorf("%v -> %v: closer %d/%v, want %d/%s", tr.From, tr.To, tr.Closer.PID, tr.Closer.Comm, os.Getpid(), comm)
		case !closed && tr.To != tracer.Closed && tr.Closer.PID != 0:
			t.Errorf("%v -> %v: closer %d, but nobody has closed it", tr.From, tr.To, tr.Closer.PID)
		}
	}
}

// processName is the process' own, not the calling thread's.
func processName(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// eachFamily runs a test for IPv4 and IPv6, in parallel with all others.
func eachFamily(t *testing.T, test func(t *testing.T, ns *testnet.NS, r *recorder, f testnet.Family)) {
	t.Helper()
	t.Parallel()
	for _, f := range testnet.Families {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			ns, r := record(t)
			test(t, ns, r, f)
		})
	}
}

// now is the test's own clock, the one that transitions are dated with.
func now() time.Duration {
	mono, _ := ktime.Now()
	return time.Duration(mono)
}

// ticks is how much less than it is set to a timer can take: the jiffies that it
// counts from lag behind the clock by as many ticks as a busy machine has missed.
func ticks(t testing.TB) time.Duration { return 10 * tick(t) }

// tick is the length of one jiffy.
func tick(t testing.TB) time.Duration {
	t.Helper()
	hz, err := ktime.HZ()
	if err != nil {
		t.Fatal(err)
	}
	return time.Second / time.Duration(hz)
}

// fullTimeWait checks that a TIME_WAIT that expired ran its course: no shorter than 60 s to
// the tick, no longer than a slot of the timer wheel more. The second on top is
// for a softirq that a busy machine runs late.
func fullTimeWait(t testing.TB, last tracer.Transition) {
	t.Helper()
	if last.Reason != tracer.ReasonExpired {
		return
	}
	d := last.Duration
	hz, err := ktime.HZ()
	if err != nil {
		t.Fatal(err)
	}
	least, most := ktime.TimeWaitLen-ticks(t)-blur(t, last), ktime.TimeWaitLen+ktime.Slot(ktime.TimeWaitLen, hz)+time.Second
	if d < least || d > most {
		t.Errorf("TIME_WAIT lasted %v, want %v to %v", d, least, most)
	}
}

const (
	workerEnv = "FINWAIT_TEST_WORKER"
	stay      = "stay"
)

// inhabit puts a process into the namespace, by that others can reach it, in
// /proc, and returns how to end it.
func inhabit(t testing.TB, ns *testnet.NS) (leave func()) {
	t.Helper()
	cmd := startWorker(t, ns, stay)
	leave = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	t.Cleanup(leave)
	return leave
}

// startWorker starts this test binary again as a process in the namespace.
func startWorker(t testing.TB, ns *testnet.NS, job string) *exec.Cmd {
	t.Helper()
	cmd := worker(job)
	ns.Start(cmd)
	return cmd
}

func worker(job string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), workerEnv+"="+job)
	cmd.Stderr = os.Stderr
	return cmd
}

// isErrno fails the test unless err is the errno.
func isErrno(t testing.TB, err error, want unix.Errno) {
	t.Helper()
	if err != want {
		t.Fatalf("connect: %v, want %v", err, want)
	}
}
