package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"finwait/internal/privilege"
	"finwait/internal/sandbox"
	"finwait/internal/test/testnet"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// What trace, stat and demo keep of all, until they end.
func TestPrivilegeKept(t *testing.T) {
	for args, kept := range map[string][]uintptr{
		"stat --duration 1h":                {unix.CAP_SYS_PTRACE, unix.CAP_SYS_ADMIN}, // for the audit at the end
		"stat --duration 1h --port 9":       nil,
		"stat --all --port 9 -- sleep 3600": {unix.CAP_KILL}, // to pass SIGTERM on
		"stat --all -- sleep 3600":          {unix.CAP_KILL, unix.CAP_SYS_PTRACE, unix.CAP_SYS_ADMIN},
		"conns":                             nil,
		"conns --names":                     {unix.CAP_SYS_PTRACE, unix.CAP_DAC_READ_SEARCH},
		"stat --port 9 --by pod":            {unix.CAP_SYS_PTRACE, unix.CAP_DAC_READ_SEARCH},
		"trace --stack kernel":              nil,
		"trace --stack user":                {unix.CAP_SYS_PTRACE, unix.CAP_DAC_READ_SEARCH},            // for other processes' mappings and files
		"demo close":                        {unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW}, // its namespace
	} {
		p := startFinwait(t, strings.Fields(args)...)
		p.awaitConfined(t, kept...)
		if err := p.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		_ = p.Wait()
		if s := p.said(); strings.Contains(s, "ermi") || strings.Contains(s, "EPERM") {
			t.Errorf("%s: %s", args, s)
		}
	}
}

// To remove the command's cgroup takes no capability where finwait's own is its user's to write
// to. The root of the hierarchy is nobody's. In either case Landlock permits it.
func TestPrivilegeToRemoveACgroup(t *testing.T) {
	for place, kept := range map[string][]uintptr{
		fmt.Sprintf("/finwait-kept-%d", os.Getpid()): {unix.CAP_KILL},
		"/": {unix.CAP_KILL, unix.CAP_DAC_OVERRIDE},
	} {
		in := testnet.Cgroup(t, place)
		p := newFinwait(t, "stat", "--", "sleep", "3600")
		p.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(in.Fd())}
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		p.awaitConfined(t, kept...)
		made, err := filepath.Glob(in.Name() + "/finwait-stat-*")
		if err != nil || len(made) == 0 {
			t.Errorf("%s: no cgroup: %v", place, err)
		}
		if err := p.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		_ = p.Wait()
		if code := p.ProcessState.ExitCode(); code != exitBySignal+int(syscall.SIGTERM) || strings.Contains(p.said(), "WRN") {
			t.Errorf("%s: exit code %d, %s", place, code, p.said())
		}
		if _, err := os.Stat(made[0]); place != "/" && err == nil { // at the root it may be another test's
			t.Errorf("%s is still there: %s", made[0], p.said())
		}
	}
}

// The audit of a user without any optional capability is of the own namespace.
func TestPrivilegeAudit(t *testing.T) {
	inFull(t)
	p := newFinwait(t, "stat", "--audit", "--duration", "1s", "--hooks", "auto")
	p.SysProcAttr = nobody(least...)
	if err := p.Run(); err != nil {
		t.Errorf("%v: %s", err, p.said())
	}
	if !strings.Contains(p.stdout.String(), "9 counters in 1 network namespaces") {
		t.Errorf("the own namespace is not compared: %s", &p.stdout)
	}
}

// What trace keeps is enough to look for sockets whose end was missed, as long as it runs.
func TestPrivilegeSweep(t *testing.T) {
	inFull(t)
	pair := sandbox.New(t).Pair(sandbox.Families[0])
	p := newFinwait(t, "trace", "--hooks", "auto", "--duration", "25s", "--port", fmt.Sprint(pair.Listener.Local.Port()))
	p.SysProcAttr = nobody(least...)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	p.awaitConfined(t)
	pair.Client.Orphan()
	if err := p.Wait(); err != nil {
		t.Errorf("%v: %s", err, p.said())
	}
	if strings.Contains(p.said(), "cannot look") || !strings.Contains(p.stdout.String(), "FIN_WAIT_2") {
		t.Errorf("%s%s", p.stdout.String(), p.said())
	}
}

// openDir is a directory that others can reach, as those of a test cannot be.
func openDir(t *testing.T, mode os.FileMode) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "finwait-privilege-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, mode); err != nil {
		t.Fatal(err)
	}
	return dir
}

// The command that stat runs is as privileged as without finwait, and as free.
func TestPrivilegeOfCommand(t *testing.T) {
	dir := openDir(t, 0o777)
	// Long enough after its start for what finwait does to itself to be seen, if it were.
	script := `sleep 1; grep -E "^(Cap|NoNewPrivs|Seccomp:|Uid|Gid)" /proc/self/status; cd ` + dir + ` && echo >file && rm file && echo written`
	// What a user may make cgroups in.
	given := testnet.Cgroup(t, fmt.Sprintf("/finwait-given-%d", os.Getpid()))
	for _, file := range []string{given.Name(), given.Name() + "/cgroup.procs"} {
		if err := os.Chown(file, 65534, -1); err != nil {
			t.Fatal(err)
		}
	}
	user := nobody(least...)
	user.UseCgroupFD, user.CgroupFD = true, int(given.Fd())
	for _, who := range []*syscall.SysProcAttr{user, nil} {
		bare := exec.Command("sh", "-c", script)
		bare.SysProcAttr = who
		want, err := bare.Output()
		if err != nil {
			t.Fatal(err)
		}
		p := newFinwait(t, append([]string{"stat", "--port", "9", "--write", "/dev/null", "--"}, bare.Args...)...)
		p.SysProcAttr = who
		if err := p.Run(); err != nil {
			t.Fatalf("%v: %s", err, p.said())
		}
		if strings.Contains(p.said(), "WRN cannot") {
			t.Error(p.said())
		}
		if got := p.stdout.String(); got != string(want) || !strings.Contains(got, "written") {
			t.Errorf("the command has %q, without finwait %q", got, want)
		}
	}
}

// The line that features prints works: capabilities of the file, which also make
// it a process that nobody may look into.
func TestPrivilegeOfFile(t *testing.T) {
	binary := filepath.Join(openDir(t, 0o755), "finwait")
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(binary, self, 0o755); err != nil {
		t.Fatal(err)
	}
	set, err := cap.FromText(strings.TrimPrefix(privilege.Setcap(false), "setcap "))
	if err != nil {
		t.Fatal(err)
	}
	if err := set.SetFile(binary); err != nil {
		t.Fatal(err)
	}
	ns := sandbox.New(t)
	p := newFinwait(t, "trace", "-o", "json", "--hooks", hooksToTest(), "--netns", "self")
	p.Path = binary
	p.SysProcAttr = nobody()
	ns.Start(p.Cmd)
	tracedRight(t, p, ns)
	warned(t, p, unix.CAP_SYS_PTRACE, unix.CAP_SYS_ADMIN)
}

// features says what each capability is for, to those as well that have none.
func TestPrivilegeFeatures(t *testing.T) {
	for _, c := range []struct {
		caps []uintptr
		code int
	}{{nil, exitFailure}, {least, exitOK}, {all, exitOK}} {
		p := newFinwait(t, "features")
		p.SysProcAttr = nobody(c.caps...)
		_ = p.Run()
		out := p.stdout.String()
		if p.ProcessState.ExitCode() != c.code || !strings.Contains(out, "setcap cap_bpf,cap_perfmon,cap_syslog=ep /") {
			t.Errorf("with %v: exit code %d: %s%s", c.caps, p.ProcessState.ExitCode(), out, p.said())
		}
		for _, one := range all {
			state := "missing"
			if slices.Contains(c.caps, one) {
				state = "in use"
			}
			if one == unix.CAP_SYSLOG && addressesOpen(t) {
				state = "in use"
			}
			if !regexp.MustCompile(`(?m)^` + capName(one) + ` +[\d.]+ +` + state).MatchString(out) {
				t.Errorf("with %v: %s is not said to be %s:\n%s", c.caps, capName(one), state, out)
			}
		}
	}
}
