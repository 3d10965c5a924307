package main

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"finwait/internal/sandbox"

	"golang.org/x/sys/unix"
)

// A finding is an id and what its evidence has, of which the numbers are those of the set-up.
type wantFinding struct {
	id       string // with its severity
	evidence map[string]any
}

func checkFindings(t *testing.T, ids []string, findings []map[string]any, want ...wantFinding) {
	t.Helper()
	var wantIDs []string
	for _, w := range want {
		wantIDs = append(wantIDs, w.id)
	}
	if strings.Join(ids, ", ") != strings.Join(wantIDs, ", ") {
		t.Fatalf("got %q, want %q: %v", ids, wantIDs, findings)
	}
	for _, w := range want {
		for _, f := range findings {
			if f["id"].(string)+" "+f["severity"].(string) != w.id {
				continue
			}
			for key, value := range w.evidence {
				if got := f["evidence"].(map[string]any)[key]; got != value {
					t.Errorf("%s: %s is %v, want %v: %v", w.id, key, got, value, f)
				}
			}
		}
	}
}

// What one reading tells of ends that do not come, of ports, handshakes and listeners.
func TestDoctorSnapshot(t *testing.T) {
	t.Parallel()
	v4, v6 := sandbox.Families[0], sandbox.Families[1]
	shape := wantFinding{id: "port-range-shape note"}
	// bound holds all ports of a range of 20 but those that are left.
	bound := func(t *testing.T, ns *sandbox.NS, left int) *sandbox.Sock {
		ns.Sysctl("ip_local_port_range", "40000 40019")
		p := connected(ns, 5000, 3)
		n := 0
		for port := uint16(40000); port <= 40019 && n < 17-left; port++ {
			if ns.Socket(v4).TryBind(port) == nil {
				n++
			}
		}
		if n != 17-left {
			t.Fatalf("%d ports could be bound", n)
		}
		return p.listener
	}
	unanswered := func(ns *sandbox.NS, n int) {
		l := ns.Socket(v4).Bind(5000).Listen()
		for range n {
			s := ns.Socket(v4)
			s.DropIncoming(false) // the SYN-ACK
			s.Connecting(l.Local)
		}
		time.Sleep(1500 * time.Millisecond) // the SYN-ACK is sent again after a second
	}
	handshakes := []string{"--set", "handshake-not-finished.retries=1", "--set", "handshake-not-finished.least=3"}
	filled := func(_ *testing.T, ns *sandbox.NS) {
		p := connected(ns, 5000, 1)
		p.servers[0].Fill()
		p.servers[0].Close()
		time.Sleep(300 * time.Millisecond)
	}
	for name, c := range map[string]struct {
		set  func(t *testing.T, ns *sandbox.NS)
		args []string
		want []wantFinding
	}{
		"no port left beside bind()": {func(t *testing.T, ns *sandbox.NS) {
			if err := ns.Socket(v4).TryConnect(bound(t, ns, 0).Local); err != unix.EADDRNOTAVAIL {
				t.Fatalf("connect: %v", err)
			}
		}, nil, []wantFinding{shape, {"ports-held-by-binders will_fail", map[string]any{"held": 17.0, "used": 3.0, "bound_by_process": 17.0}}}},
		"a port left beside bind()": {func(t *testing.T, ns *sandbox.NS) { bound(t, ns, 1) }, nil, []wantFinding{shape}},

		"a peer that does not read": {filled, []string{"--set", "fin-wait-1-stuck.age=0.2", "--set", "fin-wait-1-stuck.bytes=1"},
			[]wantFinding{{"fin-wait-1-stuck risk", map[string]any{"sockets": 1.0, "why": "window"}}}},
		"a peer that does not read yet": {filled, nil, nil},
		"a peer that is gone": {func(_ *testing.T, ns *sandbox.NS) {
			p := connected(ns, 5000, 1)
			p.clients[0].DropIncoming(false)
			p.servers[0].Close()
			time.Sleep(2 * time.Second)
		}, []string{"--set", "fin-wait-1-stuck.retries=2"}, []wantFinding{{"fin-wait-1-stuck note", map[string]any{"sockets": 1.0, "why": "silent"}}}},
		"a last ACK that does not come": {func(_ *testing.T, ns *sandbox.NS) {
			p := connected(ns, 5000, 1)
			p.clients[0].ShutdownWrite()
			p.clients[0].WaitState(unix.BPF_TCP_FIN_WAIT2)
			p.clients[0].DropIncoming(false)
			p.servers[0].Close()
			time.Sleep(2 * time.Second)
		}, nil, []wantFinding{{"last-ack-stuck note", map[string]any{"sockets": 1.0}}}},

		"a leak of many clients": {func(t *testing.T, ns *sandbox.NS) {
			l := ns.Socket(v4).Bind(5000).Listen()
			for i := range byte(5) {
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2+i)}}
				ns.Try(func() error {
					c, err := d.Dial("tcp4", l.Local.String())
					if err != nil {
						return err
					}
					l.Accept()
					return c.Close()
				})
			}
			time.Sleep(300 * time.Millisecond)
		}, []string{"--set", "close-wait-leak.age=0.2"}, []wantFinding{{"close-wait-leak risk", map[string]any{"sockets": 5.0}}}},

		"handshakes": {func(_ *testing.T, ns *sandbox.NS) { unanswered(ns, 3) }, handshakes,
			[]wantFinding{{"handshake-not-finished note", map[string]any{"handshakes": 3.0, "peers": 1.0}}}},
		"few handshakes": {func(_ *testing.T, ns *sandbox.NS) { unanswered(ns, 2) }, handshakes, nil},

		"IPv6 only": {func(_ *testing.T, ns *sandbox.NS) {
			ns.Sysctl("ip_local_port_range", "20000 59999")
			ns.Sysctl("ip_local_reserved_ports", "30000-59999")
			ns.Socket(v6).Set(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1).BindAny().Listen()
		}, nil, []wantFinding{{id: "ipv6-only-listener note"}, {id: "listener-in-ephemeral-range note"}}},
		"both families": {func(_ *testing.T, ns *sandbox.NS) {
			ns.Socket(v6).Set(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0).BindAny().Listen()
		}, nil, []wantFinding{{id: "listener-in-ephemeral-range note"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := sandbox.New(t)
			c.set(t, ns)
			ids, findings := doctorsView(t, ns, append(c.args, "--snapshot")...)
			checkFindings(t, ids, findings, c.want...)
		})
	}
}

// A server that has all files open that it may have, and a connection that waits.
func TestDoctorTooManyFiles(t *testing.T) {
	t.Parallel()
	ns := sandbox.New(t)
	pid, says := startCrowd(t, ns, 3)
	if line, err := says.ReadString('\n'); line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"--snapshot", "--only", "too-many-files"}
	limit := func(n int) {
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(n), Max: uint64(n)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	limit(len(fds))
	ids, findings := doctorsView(t, ns, args...)
	checkFindings(t, ids, findings) // nobody waits
	ns.Socket(sandbox.Families[0]).Connect(listenerIn(t, ns))
	ids, findings = doctorsView(t, ns, args...)
	checkFindings(t, ids, findings, wantFinding{"too-many-files failing", map[string]any{"files": float64(len(fds)), "file_limit": float64(len(fds)), "waiting": 1.0}})
}

// listenerIn is where the only listener of a namespace listens.
func listenerIn(t *testing.T, ns *sandbox.NS) netip.AddrPort {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := run([]string{"ls", "--sockets", "--json", "--state", "listen", "--netns", pathOf(ns)}, &stdout, &stderr); code != exitOK {
		t.Fatal(stderr.String())
	}
	lines := decodeLines(t, stdout.Bytes())
	addr, err := netip.ParseAddr(lines[0]["local_addr"].(string))
	if err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(addr, uint16(lines[0]["local_port"].(float64)))
}

// The table of tracked connections has those that the kernel counts.
func TestDoctorConntrack(t *testing.T) {
	t.Parallel()
	nft, err := exec.LookPath("nft")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("nft is not installed")
	}
	ns := sandbox.New(t)
	rules := exec.Command(nft, "-f", "-")
	rules.Stdin = strings.NewReader("table ip t { chain c { type filter hook input priority 0; ct state new counter; }; }")
	ns.Try(func() error {
		out, err := rules.CombinedOutput()
		if err != nil {
			t.Logf("%s", out)
		}
		return err
	})
	connected(ns, 5000, 4)
	args := []string{"--snapshot", "--only", "conntrack-table"}
	ids, findings := doctorsView(t, ns, args...)
	checkFindings(t, ids, findings)
	ids, findings = doctorsView(t, ns, append(args, "--set", "conntrack-table.share=0.000001")...)
	checkFindings(t, ids, findings, wantFinding{"conntrack-table will_fail", map[string]any{"entries": 4.0}})
}

// A SYN queue that is full drops clients, or answers with cookies.
func TestDoctorSynQueue(t *testing.T) {
	t.Parallel()
	f := sandbox.Families[0]
	for name, c := range map[string]struct {
		cookies, want, evidence, counter string
	}{
		"without cookies": {"0", "syn-queue-cookies failing", "dropped", "TcpExt.TCPReqQFullDrop"},
		"with cookies":    {"1", "syn-queue-cookies note", "sent", "TcpExt.SyncookiesSent"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := sandbox.New(t)
			ns.Sysctl("tcp_syncookies", c.cookies)
			ns.Do(func() {
				if err := os.WriteFile("/proc/sys/net/core/somaxconn", []byte("1"), 0); err != nil {
					t.Fatal(err)
				}
			})
			l := ns.Socket(f).Bind(5000).Listen()
			p := startFinwait(t, "doctor", "--for", "1h", "--json", "--netns", pathOf(ns), "--root", t.TempDir())
			p.awaitSaid(t, "Ctrl-C")
			for range 4 { // there is room for 2
				s := ns.Socket(f)
				s.DropIncoming(false) // the SYN-ACK
				s.Connecting(l.Local)
			}
			least := ns.Counter(c.counter)
			if err := p.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			if err := p.Wait(); err != nil {
				t.Fatalf("%v: %s", err, p.said())
			}
			lines := decodeLines(t, p.stdout.Bytes())
			if len(lines) != 2 || lines[0]["id"].(string)+" "+lines[0]["severity"].(string) != c.want {
				t.Fatalf("%v", lines)
			}
			// Clients send their SYNs again meanwhile.
			if got := lines[0]["evidence"].(map[string]any)[c.evidence].(float64); least == 0 || got < float64(least) || got > float64(ns.Counter(c.counter)) {
				t.Errorf("%s is %v, the kernel counts %d to %d", c.evidence, got, least, ns.Counter(c.counter))
			}
		})
	}
}
