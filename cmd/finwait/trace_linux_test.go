package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"finwait/internal/sandbox"
)

const asFinwait = "FINWAIT_TEST_RUN_MAIN"

// TestMain lets a test start this binary as the command itself.
func TestMain(m *testing.M) {
	if err := rename(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if by := os.Getenv(asFiltered); by != "" {
		fmt.Fprintln(os.Stderr, filtered(by))
		os.Exit(1)
	}
	if os.Getenv(asBusy) != "" {
		os.Exit(beBusy())
	}
	if os.Getenv(asHolder) != "" {
		os.Exit(hold())
	}
	if count := os.Getenv(asClients); count != "" {
		os.Exit(clients(count))
	}
	if what := os.Getenv(asPeer); what != "" {
		if err := peer(what); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if count := os.Getenv(asCrowd); count != "" {
		os.Exit(crowd(count))
	}
	if os.Getenv(asFinwait) != "" {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// A process is the command, running.
type process struct {
	*exec.Cmd
	stdout bytes.Buffer
	stderr string // a file: what is said can be read meanwhile
}

func newFinwait(t *testing.T, args ...string) *process {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test traces the kernel: run it as root")
	}
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stderr.Close() })
	p := &process{Cmd: exec.Command("/proc/self/exe", args...), stderr: stderr.Name()}
	p.Env = append(os.Environ(), asFinwait+"=1")
	p.Stdout, p.Stderr = &p.stdout, stderr
	t.Cleanup(func() {
		if p.Process != nil {
			_ = p.Process.Kill()
		}
	})
	return p
}

// nobody is an ordinary user with exactly these capabilities.
func nobody(caps ...uintptr) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, AmbientCaps: caps}
}

// pathOf is a path of the namespace for other processes of root.
func pathOf(ns *sandbox.NS) string {
	return strings.Replace(ns.Path(), "self", strconv.Itoa(os.Getpid()), 1)
}

func startFinwait(t *testing.T, args ...string) *process {
	t.Helper()
	p := newFinwait(t, args...)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// said is what stderr has so far.
func (p *process) said() string {
	b, err := os.ReadFile(p.stderr)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (p *process) awaitSaid(t *testing.T, what string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(p.said(), what); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("a minute, and it does not say %q: %s", what, p.said())
		}
	}
}

// connect makes connections that are reset, until stop is closed.
func connect(ns *sandbox.NS, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(20 * time.Millisecond):
		}
		p := ns.Pair(sandbox.Families[0])
		p.Client.Reset()
		p.Server.Close()
		p.Listener.Close()
	}
}

// traceSome runs the command while connections are made, until it ends by itself.
func traceSome(t *testing.T, args ...string) *process {
	t.Helper()
	ns := sandbox.New(t)
	p := startFinwait(t, append(args, "--netns", pathOf(ns))...)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { connect(ns, stop); close(stopped) }()
	err := p.Wait()
	close(stop)
	<-stopped
	if err != nil {
		t.Fatalf("finwait %s: %v: %s", strings.Join(args, " "), err, p.said())
	}
	return p
}

func TestTraceCount(t *testing.T) {
	t.Parallel()
	p := traceSome(t, "trace", "--count", "7", "--hooks", "tracepoint", "--output", "json")
	lines := decodeLines(t, p.stdout.Bytes())
	if len(lines) != 8 {
		t.Fatalf("%d lines, want 7 transitions and the summary:\n%s", len(lines), &p.stdout)
	}
	for _, l := range lines[:7] {
		if l["event"] != "transition" {
			t.Errorf("event %v", l["event"])
		}
	}
	sum := lines[7]
	lost := sum["lost"].(map[string]any)
	// Connections are made until finwait has ended, and what it did not print is not counted.
	if sum["event"] != "summary" || sum["delivered"] != 7.0 || sum["hooks"] != "tracepoint" ||
		sum["seen"] != sum["filtered"].(float64)+sum["delivered"].(float64)+lost["ring_full"].(float64)+lost["map_full"].(float64)+lost["missed"].(float64)+lost["unwind"].(float64) {
		t.Errorf("summary: %v", sum)
	}
}

// The bare command traces, as text, and a time limit ends it.
func TestBareCommandAndDuration(t *testing.T) {
	t.Parallel()
	p := traceSome(t, "--duration", "2s", "--from", "CLOSED")
	out := p.stdout.String()
	if !strings.HasPrefix(out, "TIME ") || !strings.Contains(out, "SYN_SENT") || strings.Contains(out, "ESTABLISHED ") {
		t.Errorf("stdout: %s", out)
	}
	if strings.Contains(out, "\x1b") {
		t.Error("colours in a pipe")
	}
	// A loss may be of any connection of the host's.
	if sum := p.said(); !strings.Contains(sum, "accounted for") && !strings.Contains(sum, "were lost") {
		t.Errorf("no summary on stderr: %s", sum)
	}
}

func TestRawCount(t *testing.T) {
	t.Parallel()
	p := traceSome(t, "--raw", "--count", "5", "--output", "json")
	for _, l := range decodeLines(t, p.stdout.Bytes())[:5] {
		if l["event"] != "raw" || l["hook"] == "" {
			t.Errorf("event: %v", l)
		}
	}
}

// While nothing is shown it says that it waits; SIGINT ends it well.
func TestQuietHost(t *testing.T) {
	t.Parallel()
	ns := sandbox.New(t)
	p := startFinwait(t, "--netns", pathOf(ns))
	p.awaitSaid(t, "waiting")
	if err := p.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Errorf("SIGINT: %v", err)
	}
	// A curl from here would not match.
	if s := p.said(); !strings.Contains(s, "delivered=0") || strings.Contains(s, "curl") {
		t.Errorf("stderr: %s", s)
	}
	if p.stdout.Len() > 0 {
		t.Errorf("stdout: %s", &p.stdout)
	}
}

// A terminal that goes away can send more than one SIGHUP: it ends trace in order, with
// the accounts. Under nohup(1) it does not end it.
func TestHangUp(t *testing.T) {
	t.Parallel()
	ns := sandbox.New(t)
	p := startFinwait(t, "--output", "json", "--netns", pathOf(ns))
	p.awaitSaid(t, "Ctrl-C")
	ended, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for tick := time.Tick(time.Millisecond); ; <-tick {
			select {
			case <-ended:
				return
			default:
				_ = p.Process.Signal(syscall.SIGHUP) // it may have ended
			}
		}
	}()
	err := p.Wait()
	close(ended)
	<-stopped
	if err != nil || !strings.Contains(p.stdout.String(), `"event":"summary"`) {
		t.Errorf("%v: %s%s", err, &p.stdout, p.said())
	}

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p = newFinwait(t, "-c", `trap "" HUP; exec "$0" "$@"`, self, "--netns", pathOf(ns))
	p.Path = "/bin/sh"
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	p.awaitSaid(t, "Ctrl-C")
	if err := p.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	p.awaitSaid(t, "waiting") // it goes on
	p.finish(t)
}

// A reader that goes away ends it quietly.
func TestClosedPipe(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Fatal("this test traces the kernel: run it as root")
	}
	ns := sandbox.New(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "--netns", pathOf(ns))
	cmd.Env = append(os.Environ(), asFinwait+"=1")
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = w, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	w.Close()
	r.Close()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { connect(ns, stop); close(stopped) }()
	err = cmd.Wait()
	close(stop)
	<-stopped
	if err != nil || strings.Contains(stderr.String(), "pipe") {
		t.Errorf("%v: %s", err, &stderr)
	}
}

func TestFeatures(t *testing.T) {
	t.Parallel()
	p := startFinwait(t, "features")
	if err := p.Wait(); err != nil {
		t.Fatalf("%v: %s", err, p.said())
	}
	for _, want := range []string{"inet_sock_set_state", "timer wheel", "HZ=", "fentry"} {
		if !strings.Contains(p.stdout.String(), want) {
			t.Errorf("nothing said of %q:\n%s", want, &p.stdout)
		}
	}
}

// Without the capabilities it says which, in one line.
func TestNotPermitted(t *testing.T) {
	t.Parallel()
	p := newFinwait(t)
	p.SysProcAttr = nobody()
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); p.ProcessState.ExitCode() != exitFailure {
		t.Errorf("exit: %v, want code %d", err, exitFailure)
	}
	if s := p.said(); !strings.Contains(s, "CAP_BPF") || !strings.HasSuffix(s, "setcap cap_bpf,cap_perfmon,cap_syslog=ep on the binary\n") || strings.Count(s, "\n") != 1 {
		t.Errorf("stderr: %q", s)
	}

	// Where setcap would not help, that is said.
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	path, err := exec.LookPath("setpriv")
	if err != nil {
		t.Fatal(err)
	}
	p = newFinwait(t, "--no-new-privs", "/proc/self/fd/3")
	p.Path, p.SysProcAttr, p.ExtraFiles = path, nobody(), []*os.File{self}
	_ = p.Run()
	if s := p.said(); p.ProcessState.ExitCode() != exitFailure || !strings.Contains(s, "no_new_privs is set") || strings.Count(s, "\n") != 1 {
		t.Errorf("exit code %d, stderr: %q", p.ProcessState.ExitCode(), s)
	}
}
