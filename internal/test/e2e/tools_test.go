package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"
)

// inside says that the process is in the network namespace of the test.
const inside = "FINWAIT_E2E_INSIDE"

// TestMain runs the tests in a network namespace of their own, which ends with the last process in it.
func TestMain(m *testing.M) {
	if os.Getenv(inside) != "" {
		if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%v: %s", err, out)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests trace the kernel: run them as root")
		os.Exit(1)
	}
	// Modules come from outside.
	for what := range tools {
		if err := build(what); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		os.Exit(1)
	}
}

type tool struct {
	dir, pkg string
	flags    []string
}

// tools are built from Go modules: a package, from a directory, with flags. Those of clients of clouds
// leave out what takes minutes.
var tools = map[string]tool{
	"prometheus": {".", "github.com/prometheus/prometheus/cmd/prometheus", []string{"-tags", "remove_all_sd"}},
	"promtool":   {".", "github.com/prometheus/prometheus/cmd/promtool", []string{"-tags", "remove_all_sd"}},
	"collector":  {"collector", ".", []string{"-ldflags", "-s -w"}},
}

// built is where a program is kept that was built from these versions.
func built(what string) (string, error) {
	sums := sha256.New()
	for _, name := range []string{"go.sum", "main.go"} {
		b, err := os.ReadFile(filepath.Join(tools[what].dir, name))
		if err != nil && !(os.IsNotExist(err) && name == "main.go") {
			return "", err
		}
		sums.Write(b)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "finwait-e2e", fmt.Sprintf("%s-%x", what, sums.Sum(nil)[:8])), nil
}

// build builds it, if that was not done before.
func build(what string) error {
	file, err := built(what)
	if err != nil {
		return err
	}
	if _, err := os.Stat(file); err == nil {
		return nil
	}
	cmd := exec.Command("go", append(append([]string{"build", "-o", file}, tools[what].flags...), tools[what].pkg)...)
	cmd.Dir = tools[what].dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", what, err, out)
	}
	return nil
}

// A process is a program, running.
type process struct {
	*exec.Cmd
	stdout bytes.Buffer
	stderr string // a file
}

func start(t *testing.T, program string, args ...string) *process {
	t.Helper()
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stderr.Close() })
	p := &process{Cmd: exec.Command(program, args...), stderr: stderr.Name()}
	p.Stdout, p.Stderr = &p.stdout, stderr
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Process.Kill() })
	return p
}

func (p *process) said() string {
	b, _ := os.ReadFile(p.stderr)
	return string(b)
}

func (p *process) end(t *testing.T) {
	t.Helper()
	_ = p.Process.Signal(syscall.SIGINT)
	if err := p.Wait(); err != nil {
		t.Fatalf("%v: %v: %s", p.Args, err, p.said())
	}
}

// until waits for something that a slow machine may take long for.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(4 * time.Minute); !done(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within four minutes: %s", what)
		}
	}
}

// finwait is built from the module around this one.
func finwait(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "finwait")
	cmd := exec.Command("go", "build", "-o", file, "./cmd/finwait")
	cmd.Dir = "../../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return file
}

// program is where a tool is.
func program(t *testing.T, what string) string {
	t.Helper()
	file, err := built(what)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// free is an address that nobody listens on. Nobody else is in this namespace.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err.Error()
	}
	return answer.StatusCode, string(b)
}

// Ports of the servers of tests: the TIME_WAITs of one are still there when the next begins.
const (
	port          = 5000
	collectorPort = 5001
	manyPort      = 5002 // TestManyHosts
)

// connect makes connections to a port one after the other. The client closes first, after some time.
func connect(t *testing.T, port, n int) {
	t.Helper()
	l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for i := range n {
		c, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i%20) * time.Millisecond)
		c.Close()
		_, _ = io.ReadAll(s)
		s.Close()
	}
}

var serving = regexp.MustCompile(`serving on (\S+);`)
