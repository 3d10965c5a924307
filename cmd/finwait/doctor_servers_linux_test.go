package main

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/internal/test/testnet"

	"golang.org/x/sys/unix"
)

// A scene is a network namespace in which programs run that know nothing of finwait, with a
// configuration that makes trouble, or with one close by that does not.
type scene struct {
	*testing.T
	ns     *sandbox.NS
	dir    string // of configurations and files; every user may read it
	wrong  bool
	before map[string]float64 // what nstat said when the watch began
	slow   bool               // the machine was too slow for what should have happened
}

func newScene(t *testing.T, ns *sandbox.NS) *scene {
	t.Helper()
	s := &scene{T: t, ns: ns, dir: t.TempDir()}
	if err := os.Chmod(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return s
}

// either is what the configuration says that makes trouble, or that which does not.
func (s *scene) either(wrong, right string) string {
	if s.wrong {
		return wrong
	}
	return right
}

// command is a program in the namespace.
func (s *scene) command(program string, args ...string) *exec.Cmd {
	s.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("CI") != "" {
			s.Fatal(err)
		}
		s.Skipf("there is no %s", program)
	}
	c := exec.Command(program, args...)
	c.Dir, c.SysProcAttr, c.WaitDelay = s.dir, &syscall.SysProcAttr{Setpgid: true}, 5*time.Second
	return c
}

// server is a program that runs until it is ended. If this test no longer can, timeout(1) ends it,
// and what it has started.
func (s *scene) server(program string, args ...string) *exec.Cmd {
	s.Helper()
	s.command(program)
	return s.command("timeout", append([]string{"--kill-after=1", "120", program}, args...)...)
}

// start starts a program that the end of the test ends.
func (s *scene) start(c *exec.Cmd) *exec.Cmd {
	s.Helper()
	var said bytes.Buffer
	if c.Stdout == nil {
		c.Stdout, c.Stderr = &said, &said
	}
	s.ns.Start(c)
	done := make(chan struct{})
	go func() { _ = c.Wait(); close(done) }()
	s.Cleanup(func() {
		_ = unix.Kill(-c.Process.Pid, unix.SIGCONT)
		_ = unix.Kill(-c.Process.Pid, unix.SIGTERM)
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			_ = unix.Kill(-c.Process.Pid, unix.SIGKILL)
			<-done
		}
		if s.Failed() {
			s.Logf("%v said: %s", c.Args, said.String())
		}
	})
	return c
}

// output runs a program to its end, and gives what it says on stdout. Its exit code may be any.
func (s *scene) output(program string, args ...string) string {
	s.Helper()
	c := s.command(program, args...)
	var out bytes.Buffer
	c.Stdout = &out
	s.ns.Start(c)
	_ = c.Wait()
	return out.String()
}

// together runs programs at the same time, each to its end.
func (s *scene) together(n int, program string, args ...string) {
	s.Helper()
	var all []*exec.Cmd
	for range n {
		c := s.command(program, args...)
		s.ns.Start(c)
		all = append(all, c)
	}
	for _, c := range all {
		_ = c.Wait()
	}
}

// write writes a file, and gives its path.
func (s *scene) write(name, text string) string {
	s.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		s.Fatal(err)
	}
	return path
}

// listens waits until something listens on the ports.
func (s *scene) listens(ports ...uint16) {
	s.Helper()
	for _, port := range ports {
		s.await(fmt.Sprintf("a listener on port %d", port), func() bool { return s.ns.PortStates(port)[unix.BPF_TCP_LISTEN] > 0 })
	}
}

func (s *scene) await(what string, ok func() bool) {
	s.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.Fatalf("waited 20 s for %s; ss says:\n%s", what, s.output("ss", "-tanop"))
		}
	}
}

// nginx starts nginx with the blocks of a configuration: http, and what stands outside of it.
func (s *scene) nginx(http, main string, ports ...uint16) *exec.Cmd {
	s.Helper()
	conf := s.write("nginx.conf", fmt.Sprintf(`daemon off; user root; pid %[1]s/pid; error_log %[1]s/error; worker_processes 1; %[2]s
events { worker_connections 512; }
http { access_log off; %[3]s }
`, s.dir, main, http))
	nginx := s.start(s.server("nginx", "-p", s.dir, "-c", conf))
	s.listens(ports...)
	return nginx
}

// nginxIn starts nginx in a namespace, with a line of configuration more. It serves a short answer.
func nginxIn(t *testing.T, ns *sandbox.NS, more string) (at netip.AddrPort) {
	t.Helper()
	newScene(t, ns).nginx(more+helloServer, "", 8080)
	return netip.MustParseAddrPort("127.0.0.1:8080")
}

// A server of nginx that gives a short answer.
const (
	hello       = `location / { return 200 "hello\n"; } `
	helloServer = `server { listen 127.0.0.1:8080; ` + hello + `}`
)

// haproxy starts HAProxy with sections of a configuration.
func (s *scene) haproxy(sections string, ports ...uint16) {
	s.Helper()
	s.start(s.server("haproxy", "-db", "-f", s.write("haproxy.cfg", sections+"\n")))
	s.listens(ports...)
}

// node runs a line of JavaScript.
func (s *scene) node(script string, ports ...uint16) {
	s.Helper()
	s.start(s.server("node", "-e", script))
	s.listens(ports...)
}

// python runs a program to its end.
func (s *scene) python(script string) string {
	s.Helper()
	return s.output("python3", s.write("script.py", script))
}

// idle are curls that connect, say what they are told, and then nothing more.
func (s *scene) idle(n int, port uint16, says string) (all []*exec.Cmd) {
	s.Helper()
	for range n {
		c := s.server("curl", "-s", fmt.Sprintf("telnet://127.0.0.1:%d", port))
		r, w, err := os.Pipe()
		if err != nil {
			s.Fatal(err)
		}
		s.Cleanup(func() { w.Close(); r.Close() })
		c.Stdin = r
		if _, err := io.WriteString(w, says); err != nil {
			s.Fatal(err)
		}
		all = append(all, s.start(c))
	}
	return all
}

// children are the processes that a process has started.
func (s *scene) children(pid int) (all []int) {
	s.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	if err != nil {
		s.Fatal(err)
	}
	for child := range strings.FieldsSeq(string(b)) {
		all = append(all, int(s.number(child)))
	}
	return all
}

// signal sends a signal to a program, and not to the timeout(1) that has started it.
func (s *scene) signal(c *exec.Cmd, sig syscall.Signal) {
	s.Helper()
	for _, pid := range s.children(c.Process.Pid) {
		if err := unix.Kill(pid, sig); err != nil {
			s.Fatal(err)
		}
	}
}

// nft adds rules to what arrives at the namespace's only device.
func (s *scene) nft(rules string) {
	s.Helper()
	c := s.command("nft", "-f", "-")
	c.Stdin = strings.NewReader("table inet t { set seen { type inet_service; flags dynamic; }\nchain c { type filter hook input priority 0;\n" + rules + "\n}\n}\n")
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	s.ns.Start(c)
	if err := c.Wait(); err != nil {
		s.Fatalf("nft: %v: %s", err, out.String())
	}
}

// counted is how many packets the only rule of nft with a counter has counted.
func (s *scene) counted() float64 {
	s.Helper()
	_, after, ok := strings.Cut(s.output("nft", "list", "table", "inet", "t"), "counter packets ")
	if !ok {
		s.Fatal("no rule of nft counts")
	}
	return s.number(strings.Fields(after)[0])
}

func (s *scene) number(text string) float64 {
	s.Helper()
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		s.Fatal(err)
	}
	return n
}

// ss gives the lines of ss(8) for a filter.
func (s *scene) ss(filter ...string) (lines []string) {
	s.Helper()
	for l := range strings.Lines(s.output("ss", append([]string{"-Htano"}, filter...)...)) {
		lines = append(lines, strings.TrimSpace(l))
	}
	return lines
}

// sockets is how many ss(8) lists.
func (s *scene) sockets(filter ...string) float64 {
	s.Helper()
	return float64(len(s.ss(filter...)))
}

// nstat reads counters of the namespace.
func (s *scene) nstat() map[string]float64 {
	s.Helper()
	all := make(map[string]float64)
	for l := range strings.Lines(s.output("nstat", "-asz")) {
		if f := strings.Fields(l); len(f) > 1 && f[0][0] != '#' {
			all[f[0]] = s.number(f[1])
		}
	}
	return all
}

// moved is by how much a counter has moved since the watch began.
func (s *scene) moved(name string) float64 {
	s.Helper()
	now, known := s.nstat()[name]
	if !known {
		s.Fatalf("nstat has no %s", name)
	}
	return now - s.before[name]
}

// A truth is a number of a finding, and where another tool says the same.
type truth struct {
	id, key string
	says    func(s *scene) float64
	within  float64 // share by which the finding's may be larger; a tenth of it by which it may be smaller
}

// A serverScenario has programs that are as Debian has them. Its configuration makes trouble, or does
// not; what happens is the same.
type serverScenario struct {
	set, during func(s *scene)
	args        []string
	wrong       string // the ids with their severities, if the configuration makes trouble
	right       string // the same if it does not
	truths      []truth
	comm        string // of the process that the first truth's finding names
}

// moved is what nstat says.
func moved(id, key, name string) truth {
	return truth{id: id, key: key, says: func(s *scene) float64 { return s.moved(name) }}
}

// listed is how many sockets ss lists.
func listed(id, key string, filter ...string) truth {
	return truth{id: id, key: key, says: func(s *scene) float64 { return s.sockets(filter...) }}
}

// packets is what the only rule of nft with a counter has counted.
func packets(id, key string) truth { return truth{id: id, key: key, says: (*scene).counted} }

// play runs finwait doctor over the scene, with every rule, and compares.
func (c *serverScenario) play(t *testing.T, wrong bool) (spoilt string) {
	s := newScene(t, sandbox.New(t))
	s.wrong = wrong
	if c.set != nil {
		c.set(s)
	}
	early := s.nstat()
	var least []float64
	ids, findings, missed := watchedBy(t, s.ns, c.args, func() {
		s.before = s.nstat()
		if c.during != nil {
			c.during(s)
		}
		for _, truth := range c.truths {
			if wrong {
				least = append(least, truth.says(s))
			}
		}
	})
	s.before = early // what goes on by itself went on before and after, too
	want := c.right
	if wrong {
		want = c.wrong
	}
	if s.slow {
		return "the machine was too slow"
	}
	var faults []string
	if got := strings.Join(slices.Compact(ids), ", "); got != want {
		faults = append(faults, fmt.Sprintf("got %q, want %q: %v", got, want, findings))
	}
	for i := range least {
		truth := &c.truths[i]
		most := truth.says(s)
		for _, f := range findings {
			if f["id"] != truth.id {
				continue
			}
			got, known := f["evidence"].(map[string]any)[truth.key].(float64)
			// A server's clock of milliseconds may be ahead by one.
			if !known || got < least[i]*(1-truth.within/10) || got > most*(1+truth.within) || least[i] == 0 {
				faults = append(faults, fmt.Sprintf("%s: %s is %v, and not %v to %v: %v", truth.id, truth.key, got, least[i], most, f))
			}
			if p, _ := f["scope"].(map[string]any)["process"].(map[string]any); i == 0 && c.comm != "" && (p == nil || p["comm"] != c.comm) {
				faults = append(faults, fmt.Sprintf("%s is by %v, and not by %s", truth.id, p, c.comm))
			}
			break // the first is the worst
		}
	}
	return faultsOf(t, faults, missed)
}

func playAll(t *testing.T, all map[string]serverScenario) {
	t.Parallel()
	for name, c := range all {
		for _, wrong := range []bool{true, false} {
			t.Run(name+map[bool]string{true: "", false: ", put right"}[wrong], func(t *testing.T) {
				t.Parallel()
				testnet.Attempts(t, func(t *testing.T) string { return c.play(t, wrong) })
			})
		}
	}
}
