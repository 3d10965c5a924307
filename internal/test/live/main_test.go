//go:build linux

package live_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"

	"finwait/tracer"

	"golang.org/x/sys/unix"
)

// shared is one Tracer for all tests that need no Config of their own. It gives the transitions
// of a network namespace, known by its cookie, to the test that made the namespace.
var shared = struct {
	mu        sync.Mutex
	recorders map[uint64][]*recorder
	tracer    *tracer.Tracer
}{recorders: make(map[uint64][]*recorder)}

// hooksEnv names the set of hooks to test; without it the tracer chooses.
const hooksEnv = "FINWAIT_HOOKS"

// hooks is the set that hooksEnv asks for.
var hooks tracer.HookSet

// late is set if no hook of this kernel reports that a minisock goes from FIN_WAIT_2 to TIME_WAIT.
// Then the transition is reported when the timer is armed again or the minisock ends, and its
// time is computed from the timer, to the jiffy.
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
	// A TIME_WAIT takes a minute. Parallel tests wait for it together.
	flag.Parse()
	// In short mode no test waits a minute. Loading a tracer keeps an emulated CPU busy for seconds:
	// if many tests did it at once, their sockets would time out meanwhile.
	parallel := "64"
	if testing.Short() {
		parallel = "3"
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
	// The first use of package os's pidfds forks a child without syscall.ForkLock, to see whether
	// they work. That child would be the last to close a socket that a test closes meanwhile.
	if _, err := os.FindProcess(os.Getpid()); err != nil {
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
	if st.Lost.Missed <= allowed(st) {
		lost -= st.Lost.Missed
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

// openShared opens the shared tracer, and sets late. If a feature is reported as missing although
// the kernel is new enough to have it, the report is wrong.
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
	// The shared tracer sees the load of all tests, and must lose nothing.
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
	// A part that is not a number stays 0.
	_, _ = fmt.Sscanf(release, "%d.%d", &a[0], &a[1])
	_, _ = fmt.Sscanf(than, "%d.%d", &b[0], &b[1])
	return a[0] < b[0] || a[0] == b[0] && a[1] < b[1]
}

// allowed is how many transitions may be missed. On a real machine there are next to
// none. The CPUs of an emulator can stop for milliseconds within an instruction, and then a
// program is sometimes interrupted by itself. Short mode is for emulators.
func allowed(st tracer.Stats) uint64 {
	if testing.Short() {
		return st.Seen / 500
	}
	return 1 + st.Seen/20000
}

func dispatch(t *tracer.Transition) error {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	for _, r := range shared.recorders[t.NetNSCookie] {
		r.add(t)
	}
	return nil
}
