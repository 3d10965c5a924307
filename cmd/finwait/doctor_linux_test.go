package main

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"finwait/internal/sandbox"

	"golang.org/x/sys/unix"
)

// doctorsView runs finwait doctor in the namespace, and gives the ids with their severities.
func doctorsView(t *testing.T, ns *sandbox.NS, args ...string) (ids []string, findings []map[string]any) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	args = append([]string{"doctor", "--json", "--netns", pathOf(ns), "--root", t.TempDir()}, args...)
	if code := run(args, &stdout, &stderr); code != exitOK {
		t.Fatalf("%v: exit code %d: %s", args, code, &stderr)
	}
	for _, l := range decodeLines(t, stdout.Bytes()) {
		if l["event"] == "finding" {
			ids = append(ids, l["id"].(string)+" "+l["severity"].(string))
			findings = append(findings, l)
		}
	}
	slices.Sort(ids)
	return ids, findings
}

// pairsOf are both ends of connections to a port.
type pairsOf struct {
	listener         *sandbox.Sock
	clients, servers []*sandbox.Sock
}

func connected(ns *sandbox.NS, port uint16, n int) (p pairsOf) {
	f := sandbox.Families[0]
	p.listener = ns.Socket(f).Bind(port).Listen()
	for range n {
		p.clients = append(p.clients, ns.Socket(f).Connect(p.listener.Local))
		p.servers = append(p.servers, p.listener.Accept())
	}
	return p
}

func closeAll(first, second []*sandbox.Sock) {
	for i := range first {
		first[i].Orphan()
		second[i].Close()
	}
}

// Each set-up on real sockets gives these findings and no others: every rule is asked.
func TestDoctorScenarios(t *testing.T) {
	t.Parallel()
	const hold = 300 * time.Millisecond
	young := []string{"--set", "close-wait-leak.age=0.2", "--set", "half-closed-held.age=0.2", "--set", "accept-stall.age=0.2"}
	for name, c := range map[string]struct {
		set  func(t *testing.T, ns *sandbox.NS)
		args []string
		want string
	}{
		"idle":              {func(*testing.T, *sandbox.NS) {}, nil, ""},
		"open connections":  {func(_ *testing.T, ns *sandbox.NS) { connected(ns, 5000, 20) }, young, ""},
		"closed by servers": {func(_ *testing.T, ns *sandbox.NS) { p := connected(ns, 5000, 20); closeAll(p.servers, p.clients) }, young, ""},
		"closed by clients": {func(_ *testing.T, ns *sandbox.NS) { p := connected(ns, 5000, 20); closeAll(p.clients, p.servers) }, young, ""},
		"many TIME_WAITs of a server": {func(_ *testing.T, ns *sandbox.NS) { p := connected(ns, 5000, 20); closeAll(p.servers, p.clients) },
			[]string{"--set", "time-wait-harmless.least=20"}, "time-wait-harmless ok"},
		"a leak": {func(_ *testing.T, ns *sandbox.NS) {
			for _, c := range connected(ns, 5000, 5).clients {
				c.Close()
			}
			time.Sleep(hold)
		}, young, "close-wait-leak risk"},
		"not yet a leak": {func(_ *testing.T, ns *sandbox.NS) {
			for _, c := range connected(ns, 5000, 4).clients {
				c.Close()
			}
			time.Sleep(hold)
		}, young, ""},
		"half-closed": {func(_ *testing.T, ns *sandbox.NS) {
			p := connected(ns, 5000, 1)
			p.clients[0].ShutdownWrite()
			p.clients[0].WaitState(unix.BPF_TCP_FIN_WAIT2)
			time.Sleep(hold)
		}, young, "half-closed-held risk"},
		"closed and not by the peer": {func(_ *testing.T, ns *sandbox.NS) {
			connected(ns, 5000, 1).clients[0].Orphan()
			time.Sleep(hold)
		}, young, ""},
		"nobody accepts": {func(_ *testing.T, ns *sandbox.NS) {
			l := connected(ns, 5000, 0).listener
			ns.Socket(sandbox.Families[0]).Connect(l.Local)
			ns.Socket(sandbox.Families[0]).Connect(l.Local).Close() // CLOSE_WAIT, which is no leak
			time.Sleep(hold)
		}, young, "accept-stall failing"},
		"a full queue": {func(t *testing.T, ns *sandbox.NS) {
			ns.Do(func() {
				if err := os.WriteFile("/proc/sys/net/core/somaxconn", []byte("2"), 0); err != nil {
					t.Fatal(err)
				}
			})
			l := connected(ns, 5000, 0).listener
			for range 3 {
				ns.Socket(sandbox.Families[0]).Connect(l.Local)
			}
		}, []string{"--set", "accept-stall.age=1000"}, "listen-overflow will_fail"},
		"no port left": {func(_ *testing.T, ns *sandbox.NS) {
			ns.Sysctl("ip_local_port_range", "40000 40019")
			connected(ns, 5000, 20)
		},
			nil, "port-exhausted will_fail, port-range-shape note"},
		"few ports left": {func(_ *testing.T, ns *sandbox.NS) {
			ns.Sysctl("ip_local_port_range", "40000 40019")
			connected(ns, 5000, 16)
		},
			nil, "port-pressure risk, port-range-shape note"},
		"enough ports left": {func(_ *testing.T, ns *sandbox.NS) {
			ns.Sysctl("ip_local_port_range", "40000 40019")
			connected(ns, 5000, 15)
		},
			nil, "port-range-shape note"},
		"no port left, and no reuse": {func(_ *testing.T, ns *sandbox.NS) {
			ns.Sysctl("tcp_tw_reuse", "0")
			ns.Sysctl("ip_local_port_range", "40000 40019")
			p := connected(ns, 5000, 20)
			closeAll(p.clients, p.servers)
		}, nil, "port-exhausted will_fail, port-range-shape note, tw-reuse-cannot-help note"},
		"TIME_WAITs that can be reused": {func(_ *testing.T, ns *sandbox.NS) {
			ns.Sysctl("ip_local_port_range", "40000 40019")
			p := connected(ns, 5000, 20)
			closeAll(p.clients, p.servers)
		}, nil, "port-pressure risk, port-range-shape note"},
		"a listener in the range": {func(_ *testing.T, ns *sandbox.NS) { connected(ns, 50051, 1) }, nil, "listener-in-ephemeral-range note"},
		"a reserved port": {func(_ *testing.T, ns *sandbox.NS) {
			ns.Sysctl("ip_local_reserved_ports", "50051")
			connected(ns, 50051, 1)
		}, nil, ""},
		"a short fin_timeout": {func(_ *testing.T, ns *sandbox.NS) {
			ns.Sysctl("tcp_fin_timeout", "10")
			p := connected(ns, 5000, 20)
			closeAll(p.servers, p.clients)
		}, []string{"--set", "fin-timeout-misunderstood.least=20"}, "fin-timeout-misunderstood note"},
		"near the limit": {func(_ *testing.T, ns *sandbox.NS) {
			ns.Sysctl("tcp_max_tw_buckets", "20")
			p := connected(ns, 5000, 19)
			closeAll(p.servers, p.clients)
		}, nil, "time-wait-overflow will_fail"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := sandbox.New(t)
			c.set(t, ns)
			got, findings := doctorsView(t, ns, append(c.args, "--snapshot")...)
			if strings.Join(got, ", ") != c.want {
				t.Errorf("got %q, want %q: %v", strings.Join(got, ", "), c.want, findings)
			}
		})
	}
}

// What moves between the two readings is failing now.
func TestDoctorWindow(t *testing.T) {
	t.Parallel()
	f := sandbox.Families[0]
	for name, c := range map[string]struct {
		set  func(ns *sandbox.NS) (during func())
		want string
		n    func(ns *sandbox.NS) float64
	}{
		"time-wait-overflow": {func(ns *sandbox.NS) func() {
			ns.Sysctl("tcp_max_tw_buckets", "2")
			p := connected(ns, 5000, 10)
			return func() { closeAll(p.servers, p.clients) }
		}, "overflows", func(ns *sandbox.NS) float64 { return float64(ns.Counter("TcpExt.TCPTimeWaitOverflow")) }},
		"listen-overflow": {func(ns *sandbox.NS) func() {
			ns.Do(func() { _ = os.WriteFile("/proc/sys/net/core/somaxconn", []byte("1"), 0) })
			l := ns.Socket(f).Bind(5000).Listen()
			ns.Socket(f).Connect(l.Local)
			ns.Socket(f).Connect(l.Local)
			return func() { ns.Socket(f).Connecting(l.Local); time.Sleep(500 * time.Millisecond) } // its SYN is dropped; a second later it tries again
		}, "dropped", func(ns *sandbox.NS) float64 { return float64(ns.Counter("TcpExt.ListenOverflows")) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := sandbox.New(t)
			during := c.set(ns)
			before := c.n(ns)
			p := startFinwait(t, "doctor", "--for", "1h", "--json", "--netns", pathOf(ns), "--only", name, "--root", t.TempDir())
			p.awaitSaid(t, "Ctrl-C")
			during()
			moved := c.n(ns) - before
			if err := p.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			if err := p.Wait(); err != nil {
				t.Fatalf("%v: %s", err, p.said())
			}
			after := c.n(ns) - before
			lines := decodeLines(t, p.stdout.Bytes())
			if lines[0]["id"] != name || lines[0]["severity"] != "failing" {
				t.Fatalf("%v", lines)
			}
			got := lines[0]["evidence"].(map[string]any)[c.want].(float64)
			if moved == 0 || got < moved || got > after {
				t.Errorf("%s %v, the kernel counts %v to %v", c.want, got, moved, after)
			}
		})
	}
}

// --fail-on decides by the worst finding; the other ways to be asked need no kernel.
func TestDoctorExit(t *testing.T) {
	t.Parallel()
	ns := sandbox.New(t)
	ns.Sysctl("ip_local_port_range", "40000 40019")
	connected(ns, 5000, 16) // port-pressure, a risk
	for args, want := range map[string]int{
		"--fail-on risk": exitFound, "--fail-on note": exitFound, "--fail-on slow": exitOK, "--fail-on failing": exitOK,
		"--fail-on risk --ignore port-pressure": exitOK, "--fail-on risk --only time-wait-overflow": exitOK,
		"--fail-on bad": exitUsage, "--only x": exitUsage, "--set port-pressure.x=1": exitUsage, "--lang fr": exitUsage, "--explain x": exitUsage, "--for 0": exitUsage,
	} {
		var stdout, stderr bytes.Buffer
		code := run(append([]string{"doctor", "--snapshot", "--netns", pathOf(ns), "--root", t.TempDir()}, strings.Fields(args)...), &stdout, &stderr)
		if code != want {
			t.Errorf("%s: exit code %d, want %d: %s%s", args, code, want, &stdout, &stderr)
		}
	}
	for lang, want := range map[string]string{"en": "are used from 127.0.0.1", "zh": "已使用 16 个端口"} {
		var stdout, stderr bytes.Buffer
		if code := run([]string{"doctor", "--snapshot", "--netns", pathOf(ns), "--root", t.TempDir(), "--lang", lang}, &stdout, &stderr); code != exitOK ||
			!strings.Contains(strings.ReplaceAll(stdout.String(), "\n  ", " "), want) {
			t.Errorf("%s: exit code %d, %s%s", lang, code, &stdout, &stderr)
		}
	}
	for _, args := range [][]string{{"doctor", "--list"}, {"doctor", "--explain", "close-wait-leak"}} {
		var stdout, stderr bytes.Buffer
		if code := run(args, &stdout, &stderr); code != exitOK || !strings.Contains(stdout.String(), "close-wait-leak") || stderr.Len() > 0 {
			t.Errorf("%v: exit code %d, %s%s", args, code, &stdout, &stderr)
		}
	}
}
