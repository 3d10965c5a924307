package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/internal/test/testnet"

	"github.com/spf13/cobra"
)

// commands are all that can be called, with their flags, as a user sees them.
func commands() (all []*cobra.Command) {
	root := newRoot(io.Discard)
	addCompletion(root)
	root.InitDefaultHelpCmd()
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		cmd.InitDefaultHelpFlag()
		cmd.InitDefaultVersionFlag()
		all = append(all, cmd)
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(root)
	return all
}

// examplesOf are the lines to paste, each with the comment above it.
func examplesOf(cmd *cobra.Command) (lines [][2]string, err error) {
	comment := ""
	for line := range strings.Lines(cmd.Example) {
		line = strings.TrimSpace(line)
		switch isComment := strings.HasPrefix(line, "# "); {
		case isComment == (comment != ""):
			return nil, fmt.Errorf("%q: a line that says what it answers stands above each example", line)
		case isComment:
			comment = line
		default:
			lines, comment = append(lines, [2]string{comment, line}), ""
		}
	}
	if len(lines) == 0 || comment != "" {
		return nil, errors.New("an example is missing")
	}
	return lines, nil
}

// asBusy makes this binary a process that connects to itself until its stdin ends.
const asBusy = "FINWAIT_TEST_BUSY"

// beBusy has listeners on the ports of the examples, a connection that it never closes although
// its peer has, and on each port connections that end with FINs and with RSTs.
func beBusy() int {
	for _, port := range []string{"80", "443", "5432"} {
		l, err := net.Listen("tcp4", "127.0.0.1:"+port)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		go func() {
			var kept []net.Conn // the collector closes what nothing refers to
			for i := 0; ; i++ {
				client, err := net.Dial("tcp4", l.Addr().String())
				if err != nil {
					continue
				}
				server, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = client.Write([]byte("hello"))
				_, _ = io.ReadFull(server, make([]byte, 5))
				if i%2 == 1 {
					_ = client.(*net.TCPConn).SetLinger(0)
				}
				client.Close()
				_, _ = server.Read(make([]byte, 1)) // the end
				if kept = append(kept, server); i > 0 {
					server.Close()
					kept = kept[:1]
				}
				time.Sleep(20 * time.Millisecond)
			}
		}()
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// counted are examples whose output has numbers below its first line, if there are connections.
var counted = regexp.MustCompile(`^finwait($| --| (trace|stat|ls|conns)\b)`)

var number = regexp.MustCompile(`[\s:][1-9]`)

// Each example works when it is pasted into a shell, and shows something. What runs until Ctrl-C
// gets it.
func TestExamples(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", bin+"/finwait", ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// The connections are those of a pod.
	unique := fmt.Sprintf("%012x", os.Getpid())
	uid, id := "12345678-1111-4000-8000-"+unique, unique+strings.Repeat("c", 52)
	podLogs(t, "shop", "busy-"+unique, uid, "nginx", id)
	in, ns := testnet.Cgroup(t, "/finwait-examples"+unique+".slice/kubepods/pod"+uid+"/"+id), sandbox.New(t)
	busy := exec.Command("/proc/self/exe")
	busy.Env = append(os.Environ(), asBusy+"=1", asNamed+"=nginx")
	busy.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(in.Fd())}
	busy.Stderr = os.Stderr
	stop, err := busy.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	ns.Start(busy)
	t.Cleanup(func() { stop.Close(); _ = busy.Wait() })

	var ended sync.WaitGroup
	room := make(chan struct{}, 6)
	for _, cmd := range commands() {
		examples, err := examplesOf(cmd)
		if err != nil {
			t.Errorf("%s: %v", cmd.CommandPath(), err)
		}
		for _, e := range examples {
			if len(e[0]) > 78 || len(e[1]) > 78 {
				t.Errorf("%s: wider than 80 columns: %q", cmd.CommandPath(), e)
			}
			if !strings.HasPrefix(e[1]+" ", cmd.CommandPath()+" ") && cmd.HasParent() && cmd.Name() != "completion" {
				t.Errorf("%q is no example of %s", e[1], cmd.CommandPath())
			}
			ended.Go(func() {
				room <- struct{}{}
				defer func() { <-room }()
				stdout, err := paste(ns, bin, t.TempDir(), e[1])
				first, rest, _ := strings.Cut(stdout, "\n")
				switch shown := counted.MatchString(e[1]) && !strings.HasPrefix(first, "{"); {
				case err != nil:
					t.Errorf("%s: %v", e[1], err)
				case first == "" || shown && !number.MatchString(rest):
					t.Errorf("%s: nothing worth showing:\n%s", e[1], stdout)
				case strings.Contains(e[1], "--by pod") && !strings.Contains(stdout, "shop/busy-"+unique):
					t.Errorf("%s: the pod is missing:\n%s", e[1], stdout)
				}
			})
		}
	}
	ended.Wait()
}

// paste runs a line in a shell, as at a terminal: Ctrl-C reaches all of its processes. Any exit
// code but 0 is an error.
func paste(ns *sandbox.NS, bin, home, line string) (string, error) {
	var stdout bytes.Buffer
	stderr, err := os.Create(filepath.Join(home, "stderr"))
	if err != nil {
		return "", err
	}
	defer stderr.Close()
	said := func() string { b, _ := os.ReadFile(stderr.Name()); return string(b) }
	sh := exec.Command("bash", "-c", line)
	sh.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "HOME="+home)
	sh.Dir, sh.Stdout, sh.Stderr = home, &stdout, stderr
	sh.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	ns.Start(sh)
	ended := make(chan error, 1)
	go func() { ended <- sh.Wait() }()
	defer func() { _ = syscall.Kill(-sh.Process.Pid, syscall.SIGKILL) }()
	limit, interrupt := time.After(time.Minute), time.Time{}
	for {
		select {
		case err := <-ended:
			if err != nil {
				err = fmt.Errorf("%w\n%s%s", err, said(), &stdout)
			}
			return stdout.String(), err
		case <-limit:
			return "", fmt.Errorf("a minute, and Ctrl-C does not end it\n%s", said())
		case <-time.After(100 * time.Millisecond):
		}
		switch now := time.Now(); {
		case !strings.Contains(said(), "Ctrl-C"):
		case interrupt.IsZero():
			interrupt = now.Add(5 * time.Second) // what ends by itself has ended by then
		case now.After(interrupt):
			_ = syscall.Kill(-sh.Process.Pid, syscall.SIGINT) // it may have ended
			interrupt = now.Add(time.Minute)
		}
	}
}
