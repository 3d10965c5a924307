package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"finwait/internal/cgroup"
	"finwait/internal/sandbox"
	"finwait/internal/test/testnet"
)

// asPeer makes this binary one end of connections: "listen PORT N" listens, and has a child
// accept N; "accept N" is that child, with the listener as its stdin; "call PORT N" connects N
// times. Who connects closes first.
const asPeer = "FINWAIT_TEST_PEER"

func peer(what string) error {
	var port, n int
	if _, err := fmt.Sscanf(what, "accept %d", &n); err == nil {
		l, err := net.FileListener(os.Stdin)
		if err != nil {
			return err
		}
		for range n {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			if _, err := io.Copy(io.Discard, c); err != nil {
				return err
			}
			c.Close()
		}
		return nil
	}
	if _, err := fmt.Sscanf(what, "listen %d %d", &port, &n); err == nil {
		l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil {
			return err
		}
		return acceptor(l, n).Run()
	}
	if _, err := fmt.Sscanf(what, "call %d %d", &port, &n); err != nil {
		return err
	}
	for n > 0 {
		c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		if errors.Is(err, syscall.ECONNREFUSED) {
			time.Sleep(10 * time.Millisecond) // it does not listen yet
			continue
		}
		if err != nil {
			return err
		}
		c.Close()
		n--
	}
	return nil
}

// acceptor accepts what comes to the listener.
func acceptor(l *net.TCPListener, n int) *exec.Cmd {
	f, err := l.File()
	if err != nil {
		panic(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=accept %d", asPeer, n))
	cmd.Stdin, cmd.Stderr = f, os.Stderr
	return cmd
}

// inNS starts this binary as a peer in the namespace, outside of any command.
func inNS(t *testing.T, ns *sandbox.NS, cmd *exec.Cmd) {
	t.Helper()
	ns.Start(cmd)
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
}

// noise makes connections in the namespace until the test ends.
func noise(t *testing.T, ns *sandbox.NS) {
	t.Helper()
	inNS(t, ns, exec.Command("sh", "-c", "while "+strings.Join(clientsCommand(t, 3), " ")+" >/dev/null; do :; done"))
}

// A commandRun is a run of stat with a command, and noise.
type commandRun struct {
	statObject
	Counts string
	opened uint64 // connections that the kernel says were accepted in the namespace
	cgroup string // where the command was
}

// runCommand has stat run a shell script in the namespace, in which $SELF is this binary.
func runCommand(t *testing.T, ns *sandbox.NS, script string, flags ...string) *commandRun {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script = "unset " + asFinwait + "; cd " + dir + "; SELF=" + self + "; grep ^0:: /proc/self/cgroup >cgroup; " + script
	args := append([]string{"stat", "--output", "json", "--write", filepath.Join(dir, "stat.json")}, flags...)
	before := ns.Counter("Tcp.PassiveOpens")
	stdout, stderr, code := finwaitIn(t, ns, append(args, "--", "sh", "-c", script)...)
	r := &commandRun{opened: uint64(ns.Counter("Tcp.PassiveOpens") - before)}
	if code != 0 {
		t.Fatalf("exit code %d, %s%s", code, stdout, stderr)
	}
	b, err := os.ReadFile(filepath.Join(dir, "stat.json"))
	if err == nil {
		err = json.Unmarshal(b, r)
	}
	if err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	line, err := os.ReadFile(filepath.Join(dir, "cgroup"))
	if err != nil {
		t.Fatal(err)
	}
	r.cgroup = strings.TrimSpace(strings.TrimPrefix(string(line), "0::"))
	if said := strings.Contains(stderr, "counting the sockets of the command and of what it starts"); said != (r.Counts == "command") {
		t.Errorf("counts %q, stderr %s", r.Counts, stderr)
	}
	return r
}

// wantEntered compares how often states were entered.
func (r *commandRun) wantEntered(t *testing.T, want map[string]uint64) {
	t.Helper()
	for state, n := range want {
		var got uint64
		for _, e := range r.Edges {
			if e.To == state {
				got += e.Count
			}
		}
		if got != n {
			t.Errorf("%s was entered %d times, want %d: %+v", state, got, n, r.Edges)
		}
	}
}

// family makes 30 connections within one process; 20 in a daemon that leaves the session and
// outlives its parent; and a child accepts 40 of a caller outside.
const family = asClients + `=30 $SELF
	(setsid sh -c "sleep 0.1; ` + asClients + `=20 $SELF; echo >done" &)
	` + asPeer + `="listen 7001 40" $SELF
	until [ -e done ]; do sleep 0.05; done`

// What the command and its descendants do is counted, to the last one, and nothing else. With
// --all everything is.
func TestStatCountsTheCommand(t *testing.T) {
	t.Parallel()
	const connected, accepted = 30 + 20, 30 + 20 + 40
	for name, c := range map[string]struct {
		flags  []string
		counts string
		want   map[string]uint64
	}{
		"the command": {nil, "command", map[string]uint64{
			"LISTEN": 3, "SYN_SENT": connected, "SYN_RECV": accepted, "ESTABLISHED": connected + accepted, "FIN_WAIT_1": connected,
			"FIN_WAIT_2": connected, "TIME_WAIT": connected, "CLOSE_WAIT": accepted, "LAST_ACK": accepted, "CLOSED": accepted + 3}}, // 50 are in TIME_WAIT
		"a port of it": {[]string{"--local-port", "7001"}, "command", map[string]uint64{
			"LISTEN": 1, "SYN_SENT": 0, "SYN_RECV": 40, "ESTABLISHED": 40, "TIME_WAIT": 0, "LAST_ACK": 40, "CLOSED": 41}},
		"everything": {[]string{"--all"}, "host", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testnet.Attempts(t, func(t *testing.T) string {
				ns := sandbox.New(t)
				noise(t, ns)
				call := exec.Command("/proc/self/exe")
				call.Env = append(os.Environ(), asPeer+"=call 7001 40")
				inNS(t, ns, call)
				r := runCommand(t, ns, family, c.flags...)
				if why := r.missed(); why != "" {
					return why
				}
				if r.opened <= accepted {
					return "there was no noise"
				}
				r.wantEntered(t, c.want)
				if r.Counts != c.counts || (r.Audit == nil) != (c.counts == "command") {
					t.Errorf("counts %q, audit %v", r.Counts, r.Audit)
				}
				if n := r.entered("SYN_RECV"); c.want == nil && n <= accepted {
					t.Errorf("%d accepted, of %d with the noise", n, r.opened)
				}
				for _, row := range r.Audit {
					if row.NetNS == ns.Inode && row.Verdict == "disagrees" {
						t.Errorf("audit: %+v", row)
					}
				}
				root, err := cgroup.Root()
				if err != nil {
					t.Fatal(err)
				}
				if own := strings.Contains(r.cgroup, "finwait-stat-"); own != (c.counts == "command") {
					t.Errorf("the command was in cgroup %q", r.cgroup)
				} else if _, err := os.Stat(root + r.cgroup); own && !os.IsNotExist(err) {
					t.Errorf("cgroup %s is still there: %v", r.cgroup, err)
				}
				return ""
			})
		})
	}
}

// Not the command's: what comes to a listener that it was given, and what it does after it has
// moved to another cgroup.
func TestStatNotTheCommands(t *testing.T) {
	t.Parallel()
	root, err := cgroup.Root()
	if err != nil {
		t.Fatal(err)
	}
	ns := sandbox.New(t)
	var l *net.TCPListener
	ns.Try(func() (err error) {
		l, err = net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7002})
		return err
	})
	defer l.Close()
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		script string
		opened int
	}{
		"a listener that it was given": {asPeer + `="call 7002 5" $0 & ` + asPeer + `="accept 5" $0; wait`, 5},
		"another cgroup":               {"echo $$ >" + root + "/cgroup.procs && " + asClients + "=5 $0 >&2", 5},
	} {
		p := newFinwait(t, "stat", "--output", "json", "--", "sh", "-c", "unset "+asFinwait+"; "+c.script, self)
		p.Stdin = f
		before := ns.Counter("Tcp.PassiveOpens")
		ns.Start(p.Cmd)
		if err := p.Wait(); err != nil {
			t.Fatalf("%s: %v: %s", name, err, p.said())
		}
		o := statObjects(t, p.stdout.String())[0]
		if made := ns.Counter("Tcp.PassiveOpens") - before; made != c.opened || o.entered("SYN_RECV") != 0 || o.entered("LISTEN") != 0 {
			t.Errorf("%s: %d connections were made, %d counted as accepted: %s", name, made, o.entered("SYN_RECV"), &p.stdout)
		}
	}
}

// A cgroup with a process in it stays, and it is said which. One with other cgroups in it stays too.
func TestStatLeavesACgroup(t *testing.T) {
	t.Parallel()
	for say, script := range map[string]string{
		"because process [pid] of the command is still in it": "sleep 60 >&2 & echo $!",
		"because the command has made others in it":           "mkdir $CGROUP/inner; sleep 60 >&2 & echo $! | tee $CGROUP/inner/cgroup.procs",
	} {
		root, err := cgroup.Root()
		if err != nil {
			t.Fatal(err)
		}
		p := startFinwait(t, "stat", "--write", os.DevNull, "--", "sh", "-c",
			`PLACE=$(sed -n s/^0:://p /proc/self/cgroup); CGROUP=`+root+`$PLACE; echo $CGROUP; `+script)
		if err := p.Wait(); err != nil {
			t.Fatalf("%v: %s", err, p.said())
		}
		words := strings.Fields(p.stdout.String())
		if len(words) != 2 {
			t.Fatalf("the command said %q", words)
		}
		dir, pid := words[0], words[1]
		if want := "cgroup " + dir + " stays, " + strings.ReplaceAll(say, "[pid]", pid); strings.Count(p.said(), want) != 1 {
			t.Errorf("no %q in %s", want, p.said())
		}
		if out, err := exec.Command("kill", "-KILL", pid).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		for _, left := range []string{filepath.Join(dir, "inner"), dir} {
			for range 100 {
				if err = os.Remove(left); err == nil || os.IsNotExist(err) {
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// mounting makes the process run in mount and cgroup namespaces of its own, after these commands.
func (p *process) mounting(t *testing.T, commands string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p.Args[0] = self
	shell := exec.Command("unshare", append([]string{"--mount", "--cgroup", "sh", "-c", commands + ` && exec "$0" "$@"`}, p.Args...)...)
	p.Path, p.Args = shell.Path, shell.Args
}

// Where the command's sockets cannot be told apart, it is not started, and it is said why. With
// --all it is.
func TestStatNotApart(t *testing.T) {
	t.Parallel()
	root, err := cgroup.Root()
	if err != nil {
		t.Fatal(err)
	}
	in := func(cgroup string, who *syscall.SysProcAttr) *syscall.SysProcAttr {
		if who == nil {
			who = new(syscall.SysProcAttr)
		}
		f := testnet.Cgroup(t, fmt.Sprintf("%s-%d", cgroup, os.Getpid()))
		var err error
		switch cgroup {
		case "finwait-threaded":
			err = os.WriteFile(filepath.Join(f.Name(), "cgroup.type"), []byte("threaded"), 0)
		case "finwait-half":
			err = f.Chown(int(who.Credential.Uid), -1)
		}
		if err != nil {
			t.Fatal(err)
		}
		who.UseCgroupFD, who.CgroupFD = true, int(f.Fd())
		return who
	}
	for name, c := range map[string]struct {
		mount string // what is done in a mount namespace before
		who   *syscall.SysProcAttr
		say   string
	}{
		"read-only":          {"mount -o remount,bind,ro " + root, nil, "no cgroup can be made in " + root + ": read-only file system"},
		"no cgroup v2":       {"umount " + root, nil, "cgroup v2 is not mounted here"},
		"a container":        {"umount " + root + " && mount -t cgroup2 none " + root, in("finwait-part", nil), "only a part of the cgroup tree is to be seen here"},
		"a threaded cgroup":  {"", in("finwait-threaded", nil), "no process can be started in a cgroup below " + root + "/finwait-threaded"},
		"no right to do so":  {"", in("finwait-denied", nobody(least...)), "no cgroup can be made in " + root + "/finwait-denied"},
		"half of the rights": {"", in("finwait-half", nobody(least...)), "no process can be moved out of cgroup " + root + "/finwait-half"},
		"nor to do anything": {"", in("finwait-none", nobody()), "not permitted without CAP_BPF and CAP_PERFMON"},
	} {
		for _, flag := range []string{"--write=/dev/null", "--all"} {
			p := newFinwait(t, "stat", flag, "--", "echo", "started")
			if c.mount != "" {
				p.mounting(t, c.mount)
			}
			p.SysProcAttr = c.who
			_ = p.Run()
			started := strings.HasPrefix(p.stdout.String(), "started\n")
			code := p.ProcessState.ExitCode()
			if flag == "--all" && name != "nor to do anything" {
				if !started || code != exitOK {
					t.Errorf("%s, --all: exit code %d, %s%s", name, code, &p.stdout, p.said())
				}
			} else if started || code != exitFailure || !strings.Contains(p.said(), c.say) || strings.Count(p.said(), "ERR ") != 1 {
				t.Errorf("%s: exit code %d, want %q, stdout %s, stderr %s", name, code, c.say, &p.stdout, p.said())
			} else if name != "nor to do anything" && !strings.Contains(p.said(), "--all ") {
				t.Errorf("%s: --all is not named: %s", name, p.said())
			}
		}
	}
}

// In a container's part of the cgroup tree nobody can tell the level of a cgroup. A filter that would
// match nothing is refused; ls, which compares paths, has it.
func TestCgroupOfAPart(t *testing.T) {
	t.Parallel()
	root, err := cgroup.Root()
	if err != nil {
		t.Fatal(err)
	}
	part := testnet.Cgroup(t, fmt.Sprintf("finwait-filter-%d", os.Getpid()))
	for command, code := range map[string]int{"trace": exitFailure, "stat": exitFailure, "conns": exitFailure, "ls": exitOK} {
		p := newFinwait(t, command, "--cgroup", "/")
		p.mounting(t, "umount "+root+" && mount -t cgroup2 none "+root)
		p.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(part.Fd())}
		_ = p.Run()
		if got := p.ProcessState.ExitCode(); got != code || (code != exitOK) != strings.Contains(p.said(), "only a part of the cgroup tree") {
			t.Errorf("%s: exit code %d, want %d: %s", command, got, code, p.said())
		}
	}
}
