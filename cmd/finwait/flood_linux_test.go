package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"finwait/internal/load"
	"finwait/internal/sandbox"
	"finwait/internal/test/bpfobj"

	"golang.org/x/sys/unix"
)

// patience is how long a busy machine may take for what needs no time.
const patience = time.Minute

// A tracing is the command while it traces. What it prints can be looked at meanwhile.
type tracing struct {
	*exec.Cmd
	stdout, stderr output
	objects        []bpfobj.Object
}

// An output is what a process has written so far.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// trace starts the command and waits until it is attached. Without a stdout it
// writes to a pipe that is read.
func trace(t *testing.T, stdout *os.File, args ...string) *tracing {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test traces the kernel: run it as root")
	}
	p := &tracing{Cmd: exec.Command("/proc/self/exe", args...)}
	p.Env = append(os.Environ(), asFinwait+"=1")
	p.Stderr = &p.stderr
	p.Stdout = &p.stdout
	if stdout != nil {
		p.Stdout = stdout
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Process.Kill() })
	until(t, "it to be attached: "+strings.Join(args, " "), func() bool { return strings.Contains(p.stderr.String(), "Ctrl-C ends it") })
	var err error
	if p.objects, err = bpfobj.Held(p.Process.Pid); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{bpfobj.Program, bpfobj.Map, bpfobj.Link} {
		if !slices.ContainsFunc(p.objects, func(o bpfobj.Object) bool { return o.Kind == kind }) {
			t.Fatalf("it holds no BPF %s, so what is left of it cannot be told", kind)
		}
	}
	return p
}

// end waits for the end, within a time, and until nothing is left in the kernel.
// It returns the exit code; -1: it was killed.
func (p *tracing) end(t *testing.T, within time.Duration) int {
	t.Helper()
	late := time.AfterFunc(within, func() {
		t.Errorf("it goes on after %v", within)
		_ = p.Process.Kill()
	})
	err := p.Wait()
	late.Stop()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		left, err := bpfobj.Left(p.objects)
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v after its end the kernel still has %v", patience, left)
		}
	}
	return p.ProcessState.ExitCode()
}

func (p *tracing) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// printed is each transition that was printed as a socket and two states, in order.
func (p *tracing) printed(t *testing.T) (all []string) {
	t.Helper()
	out := p.stdout.String()
	for _, l := range decodeLines(t, []byte(out[:strings.LastIndex(out, "\n")+1])) {
		if l["event"] == "transition" {
			all = append(all, fmt.Sprintf("%.0f %v %v", l["cookie"], l["from"], l["to"]))
		}
	}
	return all
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// flood makes connections as fast as it can.
func flood(t *testing.T, ns *sandbox.NS, count int) {
	t.Helper()
	sum, err := load.Run(t.Context(), load.Config{Count: count, NetNS: ns.Path()}, nil)
	if err != nil || sum.Made != count {
		t.Fatalf("%d of %d connections: %v, %v", sum.Made, count, sum.Failed, err)
	}
}

// Far more than the pipe, the buffers and the ring take.
const tooMany = 4003

// A pipe that nobody reads for ten seconds costs what there was no room for, and
// nothing else: what is printed then is true, and all is accounted for.
func TestOutputBlocked(t *testing.T) {
	t.Parallel()
	ns := sandbox.New(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := trace(t, w, "--output", "json", "--ring-bytes", fmt.Sprint(os.Getpagesize()), "--netns", pathOf(ns))
	w.Close()
	flood(t, ns, tooMany)
	time.Sleep(10 * time.Second)
	read := make(chan error, 1)
	go func() {
		_, err := io.Copy(&p.stdout, r)
		read <- err
	}()
	flood(t, ns, 7) // nothing is stuck
	time.Sleep(time.Second)
	p.signal(t, os.Interrupt)
	if code := p.end(t, patience); code != exitOK {
		t.Errorf("exit code %d: %s", code, p.stderr.String())
	}
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	lines := decodeLines(t, []byte(p.stdout.String()))
	sum, shown := lines[len(lines)-1], lines[:len(lines)-1]
	count := func(key string) int { n, _ := sum[key].(float64); return int(n) }
	lost := 0
	for _, n := range sum["lost"].(map[string]any) {
		lost += int(n.(float64))
	}
	if full := sum["lost"].(map[string]any)["ring_full"].(float64); sum["event"] != "summary" || full == 0 {
		t.Errorf("nothing was lost, so this tests nothing: %v", sum)
	}
	if count("delivered") != len(shown) || count("seen") != count("filtered")+len(shown)+lost {
		t.Errorf("%d transitions were printed: %v", len(shown), sum)
	}
	breaks, last := 0, make(map[any]map[string]any)
	for _, x := range shown {
		before := last[x["cookie"]]
		switch d, known := x["duration_ns"].(float64); {
		case before != nil && before["to"] != x["from"], before == nil && known:
			breaks++
		case before != nil && known && d != x["ktime_ns"].(float64)-before["ktime_ns"].(float64) || d < 0:
			t.Errorf("a duration that is not the time since the one before: %v after %v", x, before)
		}
		last[x["cookie"]] = x
	}
	if breaks > lost {
		t.Errorf("something is missing in %d places, but %d were counted as lost", breaks, lost)
	}
}

// Ctrl-C is obeyed though nobody reads: not at once, but soon, and it is said that something is missing.
func TestInterruptedWhileBlocked(t *testing.T) {
	t.Parallel()
	ns := sandbox.New(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := trace(t, w, "--output", "json", "--netns", pathOf(ns))
	w.Close()
	flood(t, ns, tooMany)
	p.signal(t, os.Interrupt)
	if code := p.end(t, blockedLimit+patience/2); code != exitFailure || !strings.Contains(p.stderr.String(), "cut short") {
		t.Errorf("exit code %d: %s", code, p.stderr.String())
	}
}

// A disk that is full ends it with the reason.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unix.Mount("finwait-test", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	for _, path := range []string{"/dev/full", filepath.Join(dir, "out")} {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		ns := sandbox.New(t)
		p := trace(t, f, "--output", "json", "--netns", pathOf(ns))
		f.Close()
		flood(t, ns, 997)
		if code := p.end(t, patience); code != exitFailure || !strings.Contains(p.stderr.String(), syscall.ENOSPC.Error()) {
			t.Errorf("%s: exit code %d: %s", path, code, p.stderr.String())
		}
	}
}

// Two run side by side, and both see everything. One is killed: nothing stays of
// it, and the other goes on.
func TestTwoAndOneIsKilled(t *testing.T) {
	t.Parallel()
	ns := sandbox.New(t)
	args := []string{"--output", "json", "--netns", pathOf(ns)}
	first, second := trace(t, nil, args...), trace(t, nil, args...)
	const connections, each = 10, 10 // and the transitions of one, its TIME_WAIT going on
	flood(t, ns, connections)
	for _, p := range []*tracing{first, second} {
		// One more is the listener's, which comes, and one goes.
		until(t, "all to be printed", func() bool { return len(p.printed(t)) >= connections*each+1 })
	}
	sorted := func(p *tracing) []string { return slices.Sorted(slices.Values(p.printed(t))) }
	until(t, "both to print the same", func() bool { return slices.Equal(sorted(first), sorted(second)) })
	before := len(second.printed(t))

	first.signal(t, os.Kill)
	if code := first.end(t, patience); code != -1 {
		t.Errorf("SIGKILL, and exit code %d", code)
	}
	flood(t, ns, connections)
	until(t, "the other to go on", func() bool { return len(second.printed(t)) >= before+connections*each+1 })
	second.signal(t, os.Interrupt)
	if code := second.end(t, patience); code != exitOK {
		t.Errorf("exit code %d: %s", code, second.stderr.String())
	}
}
