package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/tracer"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// What the documents say that finwait takes: these, and with each of the rest more.
var (
	least = []uintptr{unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_SYSLOG}
	all   = append(slices.Clone(least), unix.CAP_SYS_PTRACE, unix.CAP_SYS_ADMIN)
)

func without(caps []uintptr, one uintptr) []uintptr {
	return slices.DeleteFunc(slices.Clone(caps), func(c uintptr) bool { return c == one })
}

func capName(c uintptr) string { return strings.ToUpper(cap.Value(c).String()) }

// hooksToTest is the set that the environment names, as for the live tests, or auto.
func hooksToTest() string { return cmp.Or(os.Getenv("FINWAIT_HOOKS"), "auto") }

// threads are the lines of all threads' status that are about privilege, each kind once.
func threads(t *testing.T, pid int) (lines []string) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(files) == 0 {
		t.Fatalf("threads of %d: %v, %v", pid, files, err)
	}
	for _, f := range files {
		b, _ := os.ReadFile(f) // a thread may end
		lines = append(lines, regexp.MustCompile(`(?m)^(Cap(Inh|Prm|Eff|Amb)|NoNewPrivs):.*$`).FindAllString(string(b), -1)...)
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

// confined is what threads shows of a process that has kept these capabilities.
func confined(kept ...uintptr) []string {
	var mask uint64
	for _, c := range kept {
		mask |= 1 << c
	}
	return []string{"CapAmb:\t0000000000000000", fmt.Sprintf("CapEff:\t%016x", mask),
		"CapInh:\t0000000000000000", fmt.Sprintf("CapPrm:\t%016x", mask), "NoNewPrivs:\t1"}
}

// awaitConfined waits until all threads have just these capabilities, and no way to others.
func (p *process) awaitConfined(t *testing.T, kept ...uintptr) {
	t.Helper()
	want := confined(kept...)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		got := threads(t, p.Process.Pid)
		if slices.Equal(got, want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v: got %q, want %q; it said %s", p.Args, got, want, p.said())
		}
	}
}

// finish ends it as Ctrl-C does.
func (p *process) finish(t *testing.T) {
	t.Helper()
	if err := p.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Fatalf("%v: %s", err, p.said())
	}
}

// edgesOf are the transitions that were printed, with what is told of each.
func edgesOf(t *testing.T, p *process) map[string]map[string]any {
	t.Helper()
	edges := make(map[string]map[string]any)
	for _, l := range decodeLines(t, p.stdout.Bytes()) {
		if l["event"] == "transition" {
			edges[fmt.Sprintf("%v %v", l["from"], l["to"])] = l
		}
	}
	return edges
}

// tracedRight starts a process that holds a connection, has it closed, and
// checks what finwait, which runs already, tells of it.
func tracedRight(t *testing.T, p *process, ns *sandbox.NS) {
	t.Helper()
	p.awaitSaid(t, "Ctrl-C")
	p.awaitConfined(t)
	h := startHolder(t, ns, "", nil)
	h.close()
	time.Sleep(100 * time.Millisecond) // FIN_WAIT_2 is not over when the process is
	p.finish(t)
	edges := edgesOf(t, p)
	for edge, reason := range map[string]string{
		"CLOSED LISTEN": "", "CLOSED SYN_SENT": "", "SYN_SENT ESTABLISHED": "", "LISTEN SYN_RECV": "", "SYN_RECV ESTABLISHED": "",
		"ESTABLISHED FIN_WAIT_1": "", "FIN_WAIT_1 FIN_WAIT_2": "", "ESTABLISHED CLOSE_WAIT": "fin_received",
		"CLOSE_WAIT LAST_ACK": "", "LAST_ACK CLOSED": "closed", "LISTEN CLOSED": "closed",
	} {
		e := edges[edge]
		if e == nil {
			t.Errorf("%s is missing in\n%s%s", edge, &p.stdout, p.said())
			continue
		}
		owner, _ := e["owner"].(map[string]any)
		if e["reason"] != reason || owner["pid"] != float64(h.Process.Pid) {
			t.Errorf("%s: reason %q, owner %v, want %q, %d", edge, e["reason"], owner, reason, h.Process.Pid)
		}
		if _, timed := e["duration_ns"].(float64); timed == (e["from"] == "CLOSED" || edge == "LISTEN SYN_RECV") {
			t.Errorf("%s after %v ns", edge, e["duration_ns"])
		}
	}
}

// traceIn starts trace inside the namespace: the own namespace needs no capability.
func traceIn(t *testing.T, ns *sandbox.NS, who *syscall.SysProcAttr, args ...string) *process {
	t.Helper()
	p := newFinwait(t, append([]string{"trace", "-o", "json", "--hooks", hooksToTest(), "--netns", "self"}, args...)...)
	p.SysProcAttr = who
	ns.Start(p.Cmd)
	return p
}

// warned wants one line of warning, of these capabilities and no other.
func warned(t *testing.T, p *process, missing ...uintptr) {
	t.Helper()
	said := p.said()
	lines := regexp.MustCompile(`(?m)^WRN not told.*$`).FindAllString(said, -1)
	if len(missing) == 0 && len(lines) == 0 {
		return
	}
	if len(lines) != 1 {
		t.Fatalf("want one warning, said: %s", said)
	}
	for _, c := range all {
		if strings.Contains(lines[0], capName(c)+":") != slices.Contains(missing, c) {
			t.Errorf("missing %v, of %s said: %s", missing, capName(c), lines[0])
		}
	}
}

// An ordinary user with the least traces, and has nothing left while it does.
func TestPrivilegeLeast(t *testing.T) {
	ns := sandbox.New(t)
	p := traceIn(t, ns, nobody(least...))
	tracedRight(t, p, ns)
	warned(t, p, unix.CAP_SYS_PTRACE, unix.CAP_SYS_ADMIN)
}

// inFull leaves out, on emulated machines, what starts finwait once more, which takes ten seconds there.
func inFull(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("the tests on the running kernel do it")
	}
}

// Root has nothing left either, and nothing to be warned of.
func TestPrivilegeOfRoot(t *testing.T) {
	inFull(t)
	ns := sandbox.New(t)
	p := traceIn(t, ns, nil)
	tracedRight(t, p, ns)
	warned(t, p)
}

// Each of those that it cannot do without is named.
func TestPrivilegeRequired(t *testing.T) {
	ns := sandbox.New(t)
	for _, c := range []uintptr{unix.CAP_BPF, unix.CAP_PERFMON} {
		p := traceIn(t, ns, nobody(without(least, c)...))
		err := p.Wait()
		if s := p.said(); p.ProcessState.ExitCode() != exitFailure || strings.Count(s, "\n") != 1 ||
			!strings.Contains(s, "not permitted without "+capName(c)+":") || !strings.Contains(s, "setcap cap_bpf,cap_perfmon,cap_syslog=ep") {
			t.Errorf("without %s: %v, said %q", capName(c), err, s)
		}
	}
}

// addressesOpen: kallsyms_show_value() (kernel/kallsyms.c) asks for no capability.
func addressesOpen(t *testing.T) bool {
	t.Helper()
	setting := func(name string) string {
		b, err := os.ReadFile("/proc/sys/kernel/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	return setting("kptr_restrict") == "0" && slices.Contains([]string{"-1", "0", "1"}, setting("perf_event_paranoid"))
}

// Without kernel addresses the tracepoint hooks are refused, in words; the others
// trace, and say of what only the stack tells that it is not known.
func TestPrivilegeSyslog(t *testing.T) {
	if addressesOpen(t) {
		t.Skip("this kernel shows its addresses to everybody")
	}
	fentry := hooksToTest() == "fentry"
	if hooksToTest() == "auto" {
		features, err := tracer.Features()
		if err != nil {
			t.Fatal(err)
		}
		fentry = slices.ContainsFunc(features, func(f tracer.Feature) bool { return f.Name == "fentry" && f.State == tracer.FeatureInUse })
	}
	ns := sandbox.New(t)
	p := traceIn(t, ns, nobody(without(all, unix.CAP_SYSLOG)...))
	if !fentry {
		err := p.Wait()
		if s := p.said(); p.ProcessState.ExitCode() != exitFailure || strings.Count(s, "\n") != 1 ||
			!strings.Contains(s, "CAP_SYSLOG") || !strings.Contains(s, "kptr_restrict") {
			t.Errorf("%v, said %q", err, s)
		}
		return
	}
	tracedRight(t, p, ns)
	warned(t, p, unix.CAP_SYSLOG)

	p = traceIn(t, ns, nobody(without(all, unix.CAP_SYSLOG)...))
	p.awaitSaid(t, "Ctrl-C")
	orphan := ns.Pair(sandbox.Families[0])
	orphan.Client.Orphan()
	orphan.Server.Reset()
	time.Sleep(100 * time.Millisecond)
	p.finish(t)
	if e := edgesOf(t, p)["FIN_WAIT_2 CLOSED"]; e == nil || e["reason"] != "killed" || e["source"] != "minisock" {
		t.Errorf("an RST to a minisock: %v", e)
	}
}

// What is told of a socket that was there before, in another namespace, held by
// root: all of it only with all capabilities, and of each that is missing it is said.
func TestPrivilegeOptional(t *testing.T) {
	ns := sandbox.New(t)
	for _, c := range []struct {
		missing      uintptr
		found, owned bool
	}{
		{0, true, true},
		{unix.CAP_SYS_PTRACE, false, false},    // nothing leads to the namespace
		{unix.CAP_DAC_READ_SEARCH, true, true}, // only ls without BPF lists descriptors
		{unix.CAP_SYS_ADMIN, false, false},     // it cannot be entered
	} {
		if testing.Short() && c.missing == 0 {
			continue // as on every kernel
		}
		h := startHolder(t, ns, "", nil)
		p := newFinwait(t, "trace", "-o", "json", "--hooks", hooksToTest(), "--port", fmt.Sprint(h.port))
		p.SysProcAttr = nobody(without(all, c.missing)...)
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		p.awaitSaid(t, "Ctrl-C")
		h.close()
		time.Sleep(100 * time.Millisecond)
		p.finish(t)
		if c.missing == 0 || c.missing == unix.CAP_DAC_READ_SEARCH {
			warned(t, p)
		} else {
			warned(t, p, c.missing)
		}
		e := edgesOf(t, p)["ESTABLISHED FIN_WAIT_1"]
		if e == nil {
			t.Fatalf("without %s: no ESTABLISHED -> FIN_WAIT_1 in\n%s", capName(c.missing), &p.stdout)
		}
		owner, _ := e["owner"].(map[string]any)
		if found := e["precision"] == "at_least"; found != c.found || (owner["pid"] == float64(h.Process.Pid)) != c.owned || (owner != nil) != c.owned {
			t.Errorf("without %s: precision %v, owner %v; want at_least: %v, owner %d: %v",
				capName(c.missing), e["precision"], owner, c.found, h.Process.Pid, c.owned)
		}
	}
}
