package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"finwait/internal/cgroup"
	"finwait/internal/sandbox"
	"finwait/internal/text"
)

// asHolder makes this binary a process that holds a listener and a connection to
// it, says so, and closes them, the client's end first, when its stdin ends.
const asHolder = "FINWAIT_TEST_HOLD"

// asNamed is what this binary calls itself before it becomes anything else.
const asNamed = "FINWAIT_TEST_NAME"

func rename() error {
	name, ok := os.LookupEnv(asNamed)
	if !ok {
		return nil
	}
	// The name of the process, which prctl(PR_SET_NAME) gives from its first thread.
	return os.WriteFile("/proc/self/comm", []byte(name), 0)
}

func hold() int {
	var plain net.ListenConfig
	plain.SetMultipathTCP(false) // whose listener closes in ways of its own
	l, err := plain.Listen(context.Background(), "tcp4", "127.0.0.1:0")
	if err == nil {
		var client, server net.Conn
		if client, err = net.Dial("tcp4", l.Addr().String()); err == nil {
			server, err = l.Accept()
		}
		if err == nil {
			fmt.Println("holds", l.Addr().(*net.TCPAddr).Port)
			_, _ = os.Stdin.Read(make([]byte, 1))
			client.Close()
			_, _ = server.Read(make([]byte, 1)) // the end
			server.Close()
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// A holder is such a process, in a namespace.
type holder struct {
	*exec.Cmd
	port  int
	close func() // and wait for it to end
}

func startHolder(t *testing.T, ns *sandbox.NS, name string, change func(*exec.Cmd)) *holder {
	t.Helper()
	h := &holder{Cmd: exec.Command("/proc/self/exe")}
	h.Env = append(os.Environ(), asHolder+"=1")
	if name != "" {
		h.Env = append(h.Env, asNamed+"="+name)
	}
	h.Stderr = os.Stderr
	stdin, err := h.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := h.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(h.Cmd)
	}
	ns.Start(h.Cmd)
	closed := false
	h.close = func() {
		if !closed {
			closed = true
			stdin.Close()
			_ = h.Wait()
		}
	}
	t.Cleanup(h.close)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if _, scan := fmt.Sscanf(line, "holds %d", &h.port); err != nil || scan != nil {
		t.Fatalf("%q, %v", line, err)
	}
	return h
}

// The worst 15 bytes: CSI in 7 bits and as C1, a direction, what is not UTF-8, a
// line's end, a bell, and what /proc/PID/stat has around a name.
const (
	hostileComm    = "\x1b[2J\u009b\u202e\xff\n\a) ("
	hostileAsText  = `\x1b[2J\u009b\u202e\xff\n\a) (`
	hostileAsJSON  = `"\u001b[2J\u009b\u202e` + "\ufffd" + `\u000a\u0007) (","comm_hex":"1b5b324ac29be280aeff0a07292028"`
	hostileAsGroup = "\x1b[2J\u009b\u202e\ufffd\n\a) ("
)

// allHarmless looks at each line of an output.
func allHarmless(t *testing.T, command, output string) {
	t.Helper()
	for line := range strings.Lines(output) {
		if !harmless(strings.TrimSuffix(line, "\n")) {
			t.Errorf("%s printed %q", command, line)
		}
	}
}

// A real process of that name, in every command, as text and as JSON.
func TestHostileComm(t *testing.T) {
	t.Parallel()
	if len(hostileComm) != 15 {
		t.Fatalf("%d bytes", len(hostileComm))
	}
	ns := sandbox.New(t)
	netns := pathOf(ns)
	for _, c := range []struct {
		args string
		json bool
		// Who is older than the command is asked of those that hold it now.
		holds bool
	}{
		{"trace --color always --count 5", false, false},
		{"trace --count 5 -o json", true, false},
		{"trace --raw --count 5", false, false},
		{"trace --raw --count 5 -o json", true, false},
		{"trace --from ESTABLISHED --count 1", false, true},
		{"stat --by comm --duration 2s", false, false},
		{"stat --by comm --duration 2s -o json", true, false},
		{"stat --by comm --duration 2s --interval 900ms", false, false},
		{"ls --sockets", false, true},
		{"ls --sockets -o json", true, true},
	} {
		t.Run(strings.ReplaceAll(c.args, " ", "_"), func(t *testing.T) {
			var p *process
			var h *holder
			args := append(strings.Fields(c.args), "--netns", netns)
			if c.holds {
				h = startHolder(t, ns, hostileComm, nil)
			}
			p = startFinwait(t, args...)
			if !strings.HasPrefix(c.args, "ls") {
				p.awaitSaid(t, "Ctrl-C")
				if h == nil {
					h = startHolder(t, ns, hostileComm, nil)
				}
				h.close()
			}
			if err := p.Wait(); err != nil {
				t.Fatalf("%v: %s", err, p.said())
			}
			out := p.stdout.String()
			if strings.Contains(c.args, "always") {
				for _, colour := range []string{text.Dim, text.Green, text.Yellow, text.Red, text.Plain} {
					out = strings.ReplaceAll(out, colour, "")
				}
			}
			allHarmless(t, c.args, out)
			allHarmless(t, c.args, p.said())
			if c.json {
				decodeLines(t, []byte(out))
				if want := hostileAsJSON; !strings.Contains(out, want) {
					t.Errorf("no %s in\n%s", want, out)
				}
			} else if !strings.Contains(out, hostileAsText) {
				t.Errorf("no %s in\n%s", hostileAsText, out)
			}
		})
	}
}

// finwait itself can be called so; the ladder names nobody.
func TestHostileCommOfDemo(t *testing.T) {
	t.Parallel()
	for _, output := range []string{"text", "json"} {
		p := newFinwait(t, "demo", "refused", "-o", output)
		p.Env = append(p.Env, asNamed+"="+hostileComm)
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		if err := p.Wait(); err != nil {
			t.Fatalf("%v: %s", err, p.said())
		}
		allHarmless(t, output, p.stdout.String())
		if want := hostileAsJSON; output == "json" && !strings.Contains(p.stdout.String(), want) {
			t.Errorf("no %s in\n%s", want, &p.stdout)
		}
	}
}

// The same of a cgroup: ls shows its path, and filters take it. The kernel
// permits no line's end in its name.
func TestHostileCgroup(t *testing.T) {
	t.Parallel()
	root, err := cgroup.Root()
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("finwait-\x1b[2J\u009b\u202e\xff-%d", os.Getpid())
	shown := fmt.Sprintf(`/finwait-\x1b[2J\u009b\u202e\xff-%d`, os.Getpid())
	dir := filepath.Join(root, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ns := sandbox.New(t)
	h := startHolder(t, ns, "", func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(f.Fd())}
	})
	defer h.close()
	netns := pathOf(ns)
	for _, args := range [][]string{
		{"ls", "--sockets", "--netns", netns, "--cgroup", name},
		{"ls", "--sockets", "--netns", netns, "--cgroup", name, "-o", "json"},
		{"trace", "--cgroup", name + "-gone"},
		{"trace", "--netns", "\x1b[2J\u009b"},
		{"trace", "--comm", "\x1b[2J\u009b0123456789abcdef"},
		{"stat", "--write", "/nowhere/\x1b[2J\u009b"},
		{"stat", "--", "/nowhere/\x1b[2J\u009b"},
	} {
		p := startFinwait(t, args...)
		_ = p.Wait()
		allHarmless(t, fmt.Sprint(args), p.stdout.String())
		allHarmless(t, fmt.Sprint(args), p.said())
		if args[0] == "ls" && (p.ProcessState.ExitCode() != 0 || strings.Count(p.stdout.String(), "ESTABLISHED") != 2) {
			t.Errorf("%q: %s%s", args, &p.stdout, p.said())
		}
		if args[0] == "ls" && len(args) == 6 && strings.Count(p.stdout.String(), shown) != 3 {
			t.Errorf("no %s in\n%s", shown, &p.stdout)
		}
		if args[0] != "ls" && (p.ProcessState.ExitCode() == 0 || !strings.Contains(p.said(), `\x1b[2J`)) {
			t.Errorf("%q: exit code %d, %s", args, p.ProcessState.ExitCode(), p.said())
		}
	}
}
