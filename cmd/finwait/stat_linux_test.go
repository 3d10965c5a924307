package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/internal/test/testnet"
)

// asClients makes this binary the command that is measured: it makes so many
// connections, and says so.
const asClients = "FINWAIT_TEST_CLIENTS"

func clients(count string) int {
	n, err := strconv.Atoi(count)
	if err == nil {
		err = connections(n)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("connections:", n)
	return 0
}

// connections makes them one by one; the client closes first.
func connections(n int) error {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	for range n {
		c, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			return err
		}
		s, err := l.Accept()
		if err != nil {
			return err
		}
		c.Close()
		if _, err := s.Read(make([]byte, 1)); err == nil {
			return fmt.Errorf("something was read")
		}
		s.Close()
	}
	return nil
}

// clientsCommand is the command that makes connections.
func clientsCommand(t *testing.T, n int) []string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return []string{"env", "-u", asFinwait, asClients + "=" + strconv.Itoa(n), self}
}

// runIn runs a program in the namespace, with no other process in sight.
func runIn(t *testing.T, ns *sandbox.NS, program string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test traces the kernel: run it as root")
	}
	cmd := exec.Command("unshare", append([]string{"--pid", "--fork", "--mount-proc", program}, args...)...)
	cmd.Env = append(os.Environ(), asFinwait+"=1")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	ns.Start(cmd)
	err := cmd.Wait()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func finwaitIn(t *testing.T, ns *sandbox.NS, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return runIn(t, ns, self, args...)
}

type statState struct {
	State         string
	Live          int64
	Entered, Left uint64
	Timed         uint64
	P50           *uint64 `json:"p50_ns"`
	Total         uint64  `json:"total_ns"`
}

// A statObject is what stat says as JSON.
type statObject struct {
	Event  string
	SpanNS int64 `json:"span_ns"`
	States []statState
	Edges  []struct {
		From, To string
		Count    uint64
	}
	Groups []struct {
		Name        *string
		NetNSCookie uint64 `json:"netns_cookie"`
		States      []statState
	}
	Audit []struct {
		NetNS           uint32
		Counter         *string
		Kernel, Finwait *int64
		Verdict, Cause  string
	}
	Lost map[string]uint64
}

func statObjects(t *testing.T, s string) (all []statObject) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(s))
	for dec.More() {
		var o statObject
		if err := dec.Decode(&o); err != nil {
			t.Fatalf("%v in %s", err, s)
		}
		all = append(all, o)
	}
	return all
}

func (o *statObject) entered(state string) (n uint64) {
	for _, s := range o.States {
		if s.State == state {
			n = s.Entered
		}
	}
	return n
}

// missed says that no program was run for a transition, if so: see testnet.Attempts.
// Any other loss shows in what is compared.
func (o *statObject) missed() string {
	if n := o.Lost["missed"]; n > 0 {
		return fmt.Sprintf("%d transitions were lost", n)
	}
	return ""
}

func timeWaits(ns *sandbox.NS) uint64 {
	return uint64(ns.Counter("TcpExt.TW") + ns.Counter("TcpExt.TWKilled"))
}

// The command's output is left alone, and as many TIME_WAITs are counted as the
// kernel has made.
func TestStatOfCommand(t *testing.T) {
	t.Parallel()
	testnet.Attempts(t, statOfCommandOnce)
}

// statOfCommandOnce says what was lost, if anything was.
func statOfCommandOnce(t *testing.T) string {
	t.Helper()
	const many = 997
	ns := sandbox.New(t)
	file := filepath.Join(t.TempDir(), "stat.json")
	before := timeWaits(ns)
	stdout, stderr, code := finwaitIn(t, ns, append([]string{"stat", "--netns", "self", "--output", "json", "--write", file, "--"}, clientsCommand(t, many)...)...)
	made := timeWaits(ns) - before
	if code != 0 || stdout != "connections: 997\n" {
		t.Fatalf("exit code %d, stdout %q, stderr %s", code, stdout, stderr)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	all := statObjects(t, string(b))
	if len(all) != 1 {
		t.Fatalf("%d objects: %s", len(all), b)
	}
	o := all[0]
	if why := o.missed(); why != "" {
		return why
	}
	if got := o.entered("TIME_WAIT"); got != made || made != many {
		t.Errorf("%d TIME_WAITs, the kernel made %d, want %d", got, made, many)
	}
	return ""
}

// Without a filter each of the kernel's counters is compared.
func TestStatAudit(t *testing.T) {
	t.Parallel()
	testnet.Attempts(t, statAuditOnce)
}

// statAuditOnce says what was lost, if anything was.
func statAuditOnce(t *testing.T) string {
	t.Helper()
	const many = 211
	ns := sandbox.New(t)
	stdout, stderr, code := finwaitIn(t, ns, append([]string{"stat", "--all", "--audit", "--output", "json", "--"}, clientsCommand(t, many)...)...)
	said := fmt.Sprintf("connections: %d\n", many)
	if code != 0 || !strings.HasPrefix(stdout, said) {
		t.Fatalf("exit code %d, stdout %q, stderr %s", code, stdout, stderr)
	}
	o := statObjects(t, strings.TrimPrefix(stdout, said))[0]
	if why := o.missed(); why != "" {
		return why
	}
	compared := 0
	for _, r := range o.Audit {
		if r.NetNS != ns.Inode {
			continue
		}
		compared++
		if r.Counter == nil || r.Verdict != "agrees" || *r.Kernel != *r.Finwait {
			t.Errorf("audit: %+v", r)
		} else if (*r.Counter == "ActiveOpens" || *r.Counter == "sockstat tw") && *r.Kernel != many {
			t.Errorf("%s: %d, want %d", *r.Counter, *r.Kernel, many)
		}
	}
	if compared != 9 {
		t.Errorf("%d counters were compared, want 9", compared)
	}
	return ""
}

// A build that miscounts on purpose is found out.
func TestAuditFindsMiscount(t *testing.T) {
	t.Parallel()
	bin := filepath.Join(t.TempDir(), "finwait")
	if out, err := exec.Command("go", "build", "-tags", "miscount", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	testnet.Attempts(t, func(t *testing.T) string {
		return miscountOnce(t, bin, "TWKilled", "997       988", clientsCommand(t, 997)...)
	})
	// Nothing else explains that some of these were not counted.
	const refused = `for i in {1..50}; do (exec 3<>/dev/tcp/127.0.0.1/9) 2>/dev/null; done; true`
	testnet.Attempts(t, func(t *testing.T) string {
		return miscountOnce(t, bin, "AttemptFails", "50        45", "bash", "-c", refused)
	})
}

// miscountOnce says what was lost, if anything was.
func miscountOnce(t *testing.T, bin, counter, counts string, command ...string) string {
	t.Helper()
	ns := sandbox.New(t)
	stdout, stderr, code := runIn(t, ns, bin, append([]string{"stat", "--all", "--audit", "--"}, command...)...)
	if strings.Contains(stderr, "were lost") && !strings.Contains(stderr, "missed=0") {
		return stderr
	}
	if code != exitFailure || !strings.Contains(stderr, errAudit.Error()) {
		t.Errorf("exit code %d, stderr %q", code, stderr)
	}
	for line := range strings.Lines(stdout) {
		if strings.HasPrefix(line, strconv.Itoa(int(ns.Inode))+" ") && strings.Contains(line, "disagrees") != strings.Contains(line, counter) {
			t.Errorf("audit: %s", line)
		}
	}
	if !strings.Contains(stdout, counts+"  disagrees") {
		t.Errorf("%s: %s do not disagree:\n%s", counter, counts, stdout)
	}
	return ""
}

func TestStatExitCodes(t *testing.T) {
	t.Parallel()
	ns := sandbox.New(t)
	notExecutable := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(notExecutable, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		command []string
		code    int
		say     string
	}{
		{[]string{"true"}, 0, ""},
		{[]string{"sh", "-c", "exit 3"}, 3, ""},
		{[]string{"sh", "-c", "kill -KILL $$"}, 128 + int(syscall.SIGKILL), ""},
		{[]string{"/no/such/command"}, 127, `cannot run "/no/such/command": no such file or directory`},
		{[]string{"no-such-command"}, 127, `cannot run "no-such-command": it is not in PATH`},
		{[]string{notExecutable}, 126, ": permission denied"},
	} {
		_, stderr, code := finwaitIn(t, ns, append([]string{"stat", "--"}, c.command...)...)
		if code != c.code || !strings.Contains(stderr, c.say) || strings.Contains(stderr, "exec") {
			t.Errorf("%q: exit code %d, want %d; stderr %s, want %q", c.command, code, c.code, stderr, c.say)
		}
	}
}

// Who has counted nothing hears why.
func TestStatNoneMatches(t *testing.T) {
	t.Parallel()
	ns := sandbox.New(t)
	for filter, none := range map[string]bool{"--local-port=1": true, "-4": false} {
		_, stderr, code := finwaitIn(t, ns, append([]string{"stat", filter, "--"}, clientsCommand(t, 3)...)...)
		if code != 0 || strings.Contains(stderr, " seen, none matches") != none {
			t.Errorf("%s: exit code %d, stderr %s", filter, code, stderr)
		}
	}
}

// A SIGTERM and a SIGHUP reach the command; its end is the end.
func TestStatPassesSignalsOn(t *testing.T) {
	t.Parallel()
	for s, name := range map[syscall.Signal]string{syscall.SIGTERM: "TERM", syscall.SIGHUP: "HUP"} {
		t.Run(name, func(t *testing.T) { t.Parallel(); passesOn(t, s, name) })
	}
}

func passesOn(t *testing.T, s syscall.Signal, name string) {
	p := startFinwait(t, "stat", "--", "sh", "-c", `trap 'echo terminated; exit 5' `+name+`; echo ready; while :; do sleep 0.1; done`)
	for deadline := time.Now().Add(time.Minute); !hasChild(t, p.Process.Pid, "sh"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the command does not start: %s", p.said())
		}
	}
	time.Sleep(200 * time.Millisecond) // for the trap to be set
	if err := p.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	_ = p.Wait()
	if code := p.ProcessState.ExitCode(); code != 5 || !strings.Contains(p.stdout.String(), "STATE ") || !strings.HasPrefix(p.stdout.String(), "ready\nterminated\n") {
		t.Errorf("exit code %d, stdout %s, stderr %s", code, &p.stdout, p.said())
	}
}

// A signal that comes while finwait attaches means that the command is not started.
func TestSignalBeforeTheCommand(t *testing.T) {
	t.Parallel()
	made := filepath.Join(t.TempDir(), "made")
	done, cancel := context.WithCancel(t.Context())
	cancel()
	early := make(chan os.Signal, 1)
	early <- syscall.SIGINT
	for name, c := range map[string]struct {
		ctx     context.Context
		signals chan os.Signal
	}{"the run is over": {done, nil}, "it is not known yet": {t.Context(), early}} {
		ended, err := startCommand(c.ctx, []string{"touch", made}, nil, c.signals)
		if !errors.Is(err, errNotStarted) {
			t.Errorf("%s: %v", name, err)
		}
		if ended != nil {
			<-ended.code
		}
		if _, err := os.Stat(made); err == nil {
			t.Errorf("%s: the command was started", name)
		}
	}
}

// The command's signals are as they would be, and its end is waited for even if
// nobody reads what finwait has to say.
func TestStatLeavesTheCommandAlone(t *testing.T) {
	t.Parallel()
	ns := sandbox.New(t)
	ignored := []string{"grep", "SigIgn", "/proc/self/status"}
	without, _, _ := runIn(t, ns, ignored[0], ignored[1:]...)
	stdout, stderr, code := finwaitIn(t, ns, append([]string{"stat", "--write", os.DevNull, "--"}, ignored...)...)
	if code != 0 || stdout != without || !strings.HasPrefix(stdout, "SigIgn:") {
		t.Errorf("exit code %d, signals that the command ignores: %q, without finwait %q (%s)", code, stdout, without, stderr)
	}
	p := startFinwait(t, "stat", "--interval", "20ms", "--netns", pathOf(ns), "--", "sh", "-c", "sleep 1; exit 7")
	_ = p.Wait()
	if code := p.ProcessState.ExitCode(); code != 7 {
		t.Fatalf("exit code %d", code)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	cmd := exec.Command("/proc/self/exe", "stat", "--interval", "20ms", "--netns", pathOf(ns), "--", "sh", "-c", "sleep 1; exit 7")
	cmd.Env = append(os.Environ(), asFinwait+"=1")
	cmd.Stdout = w
	err = cmd.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 7 {
		t.Errorf("nobody reads: exit code %d, want the command's 7", code)
	}
}

func hasChild(t *testing.T, pid int, comm string) bool {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range tasks {
		b, _ := os.ReadFile(file)
		for _, child := range strings.Fields(string(b)) {
			if name, _ := os.ReadFile("/proc/" + child + "/comm"); strings.TrimSpace(string(name)) == comm {
				return true
			}
		}
	}
	return false
}

// The intervals make up the whole, which comes last; a group has its name.
func TestStatIntervals(t *testing.T) {
	t.Parallel()
	testnet.Attempts(t, statIntervalsOnce)
}

// statIntervalsOnce says what was lost, if anything was.
func statIntervalsOnce(t *testing.T) string {
	t.Helper()
	const many = 300
	ns := sandbox.New(t)
	command := strings.Join(clientsCommand(t, many/3), " ")
	script := fmt.Sprintf("for i in 1 2 3; do %s; sleep 0.3; done >/dev/null", command)
	stdout, stderr, code := finwaitIn(t, ns, "stat", "--interval", "100ms", "--by", "comm", "--output", "json",
		"--netns", "self", "--", "sh", "-c", script)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	all := statObjects(t, stdout)
	if len(all) < 4 {
		t.Fatalf("%d intervals of 0.1 s in more than 0.9 s:\n%s", len(all), stdout)
	}
	var (
		waits uint64
		why   string
	)
	names := make(map[string]bool)
	whole := all[len(all)-1]
	if whole.Event != "stat_total" {
		t.Errorf("the last object is %q", whole.Event)
	}
	var span int64
	for _, o := range all[:len(all)-1] {
		span += o.SpanNS
		waits += o.entered("TIME_WAIT")
		why = cmp.Or(why, o.missed())
		for _, g := range o.Groups {
			if g.Name != nil {
				names[*g.Name] = true
			}
		}
		if o.Event != "stat" || o.Audit != nil {
			t.Errorf("event %q, audit %v of a filtered run", o.Event, o.Audit)
		}
	}
	if why != "" {
		return why
	}
	if waits != many || whole.entered("TIME_WAIT") != many || len(names) != 1 || span != whole.SpanNS {
		t.Errorf("%d TIME_WAITs by %v in all intervals, %d ns long, want %d by one in %d ns", waits, names, span, many, whole.SpanNS)
	}
	// As text, one line each, and then the table.
	stdout, stderr, code = finwaitIn(t, ns, "stat", "--interval", "100ms", "--netns", "self", "--", "sleep", "0.5")
	intervals, table, _ := strings.Cut(stdout, "\n\n")
	if lines := strings.Count(intervals, "\n"); code != 0 || lines < 3 || !strings.HasPrefix(intervals, "TIME ") || !strings.Contains(table, "STATE ") {
		t.Errorf("exit code %d, %d lines: %s%s", code, lines, stdout, stderr)
	}
	return ""
}

// A duration ends it; so do signals, and the totals are shown all the same.
func TestStatEnds(t *testing.T) {
	t.Parallel()
	p := startFinwait(t, "stat", "--duration", "300ms")
	if err := p.Wait(); err != nil || !strings.Contains(p.stdout.String(), "STATE ") {
		t.Errorf("%v: %s%s", err, &p.stdout, p.said())
	}
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		for _, args := range [][]string{{"--duration", "1h"}, {"--interval", "1h"}, nil} {
			p := startFinwait(t, append([]string{"stat"}, args...)...)
			p.awaitSaid(t, "Ctrl-C")
			if err := p.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
			if err := p.Wait(); err != nil || !strings.Contains(p.stdout.String(), "hooks: ") {
				t.Errorf("%v %q: %v: %s", s, args, err, &p.stdout)
			}
		}
	}
}
