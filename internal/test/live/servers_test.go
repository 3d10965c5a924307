//go:build linux

package live_test

import (
	"bytes"
	"fmt"
	"io"
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
	"finwait/tracer"

	"golang.org/x/sys/unix"
)

// A server listens in its own way.
type server struct {
	program string // without it the server is not installed
	port    uint16
	command func(t *testing.T, dir string) *exec.Cmd
	ask     func(ns *sandbox.NS, dir string) (answer string, err error) // for the pid of the process that answers
}

// Servers that do not handle a connection in the process that listens: nginx has workers that were
// forked before; sshd and postgres start a child for each connection, and so does what systemd
// starts for a socket. The process that answers says its own pid: that is the handler.
func TestHandlerOfServers(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]server{
		"nginx":    {"nginx", 8088, nginx, askNginx},
		"sshd":     {"/usr/sbin/sshd", 2222, sshd, askSSHD},
		"postgres": {"psql", 5433, postgres, askPostgres},
		"systemd":  {"systemd-socket-activate", 7002, activated, askActivated},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(s.program); err != nil {
				if os.Getenv("CI") != "" && !testing.Short() {
					t.Fatal(err)
				}
				t.Skipf("skipped: there is no %s here", s.program)
			}
			testnet.Attempts(t, func(t *testing.T) string { return askServer(t, &s) })
		})
	}
}

// askServer returns what was missing, or "".
func askServer(t *testing.T, s *server) string {
	ns := sandbox.New(t)
	dir, err := os.MkdirTemp("", "finwait-server-") // t.TempDir() lets only root in
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	kept := newRecorder(t)
	tr := start(t, tracer.Config{Handlers: true, Filter: tracer.Filter{NetNS: []uint64{ns.Cookie}}}, kept)
	listening := serve(t, ns, s, dir)
	answer, err := s.ask(ns, dir)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.ParseUint(strings.TrimSpace(answer), 10, 32)
	if err != nil {
		t.Fatalf("%q is no pid", answer)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		for _, x := range kept.snapshot() {
			if x.Role != tracer.RoleServer || x.Local.Port() != s.port || x.Handler.PID == 0 {
				continue
			}
			if x.Handler.PID != uint32(pid) || x.Owner.PID != listening {
				t.Errorf("handler %d %v, owner %d %v; process %d answered, and %d listens",
					x.Handler.PID, x.Handler.Comm, x.Owner.PID, x.Owner.Comm, pid, listening)
			}
			return ""
		}
		if time.Now().After(deadline) {
			if st := tr.stats(t); st.Lost.Missed > 0 {
				return fmt.Sprintf("lost: %+v", st.Lost)
			}
			t.Fatalf("no handler of port %d in\n%s", s.port, kept.dump())
		}
	}
}

// serve starts the server, waits until it listens, and returns its pid. The end of the test ends
// it and its children.
func serve(t *testing.T, ns *sandbox.NS, s *server, dir string) uint32 {
	t.Helper()
	cmd := s.command(t, dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.WaitDelay = 5 * time.Second
	ns.Start(cmd)
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	t.Cleanup(func() {
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGTERM)
		select {
		case <-done:
		case <-time.After(5 * time.Second):
		}
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		<-done
	})
	for deadline := time.Now().Add(30 * time.Second); ns.PortStates(s.port)[uint8(tracer.Listen)] == 0; time.Sleep(20 * time.Millisecond) {
		select {
		case <-done:
			t.Fatalf("%s ended: %s", s.program, out.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen", s.program)
		}
	}
	return uint32(cmd.Process.Pid)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// say connects, says something, and gives what it is told until the end.
func say(ns *sandbox.NS, port uint16, words string) (answer string, err error) {
	ns.Do(func() {
		var c net.Conn
		if c, err = net.Dial("tcp", fmt.Sprint("127.0.0.1:", port)); err != nil {
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err = io.WriteString(c, words); err == nil {
			var all []byte
			all, err = io.ReadAll(c)
			answer = string(all)
		}
	})
	return answer, err
}

// client runs a program in the namespace, and gives its output.
func client(ns *sandbox.NS, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	var out, failed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &failed
	ns.Start(cmd)
	if err := cmd.Wait(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, failed.String())
	}
	return out.String(), nil
}

func nginx(t *testing.T, dir string) *exec.Cmd {
	conf := filepath.Join(dir, "conf")
	write(t, conf, fmt.Sprintf(`daemon off; worker_processes 2; pid %[1]s/pid; error_log %[1]s/log;
events { worker_connections 64; }
http { access_log off; server { listen 127.0.0.1:8088; location / { return 200 "$pid"; } } }
`, dir))
	return exec.Command("nginx", "-c", conf)
}

func askNginx(ns *sandbox.NS, _ string) (string, error) {
	answer, err := say(ns, 8088, "GET / HTTP/1.0\r\n\r\n")
	_, body, _ := strings.Cut(answer, "\r\n\r\n")
	return body, err
}

func sshd(t *testing.T, dir string) *exec.Cmd {
	key, conf := filepath.Join(dir, "key"), filepath.Join(dir, "conf")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // where it confines itself to
		t.Fatal(err)
	}
	write(t, conf, fmt.Sprintf("Port 2222\nListenAddress 127.0.0.1\nHostKey %[1]s/key\nPidFile %[1]s/pid\n"+
		"UsePAM no\nStrictModes no\nPermitRootLogin yes\nAuthorizedKeysFile %[1]s/key.pub\n", dir))
	return exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", conf)
}

// The parent of the shell is the process that serves the connection of root.
func askSSHD(ns *sandbox.NS, dir string) (string, error) {
	return client(ns, "ssh", "-q", "-F", "none", "-p", "2222", "-i", filepath.Join(dir, "key"), "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", "root@127.0.0.1", "sh -c 'echo $PPID'")
}

func postgres(t *testing.T, dir string) *exec.Cmd {
	return testnet.Postgres(t, dir, "-p", "5433", "-c", "listen_addresses=127.0.0.1")
}

func askPostgres(ns *sandbox.NS, _ string) (string, error) {
	return client(ns, "psql", "-h", "127.0.0.1", "-p", "5433", "-U", "postgres", "-At", "-c", "select pg_backend_pid()", "postgres")
}

func activated(*testing.T, string) *exec.Cmd {
	return exec.Command("systemd-socket-activate", "-a", "-l", "127.0.0.1:7002", "--inetd", "sh", "-c", "read line; echo $$")
}

func askActivated(ns *sandbox.NS, _ string) (string, error) { return say(ns, 7002, "x\n") }
