package main

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/internal/test/testnet"

	"golang.org/x/sys/unix"
)

// openAndClose opens a connection every 60 ms for so long. The end that first gives closes it first.
func openAndClose(ns *sandbox.NS, l *sandbox.Sock, lasts time.Duration, first func(c, s *sandbox.Sock) (_, _ *sandbox.Sock)) {
	for until := time.Now().Add(lasts); time.Now().Before(until); time.Sleep(60 * time.Millisecond) {
		c := ns.Socket(ipv4).Connect(l.Local)
		one, other := first(c, l.Accept())
		one.Orphan()
		other.Close()
	}
}

// closeEach opens n connections, each of which the client closes at once.
func closeEach(ns *sandbox.NS, l *sandbox.Sock, n int) {
	for range n {
		c := ns.Socket(ipv4).Connect(l.Local)
		s := l.Accept()
		c.Orphan()
		s.Close()
	}
}

// connectBound connects n sockets, which bind prepares, to four listeners by turns.
func connectBound(ns *sandbox.NS, n int, bind func(i int, s *sandbox.Sock)) (all []*sandbox.Sock) {
	var to []*sandbox.Sock
	for i := range uint16(4) {
		to = append(to, ns.Socket(ipv4).Bind(5000+i).Listen())
	}
	for i := range n {
		s := ns.Socket(ipv4)
		bind(i, s)
		all = append(all, s.Connect(to[i%len(to)].Local))
		to[i%len(to)].Accept()
	}
	return all
}

func clientFirst(c, s *sandbox.Sock) (_, _ *sandbox.Sock) { return c, s }
func serverFirst(c, s *sandbox.Sock) (_, _ *sandbox.Sock) { return s, c }

// few leaves so many ports to connect(2), and no TIME_WAIT to take over.
func few(ports int) func(ns *sandbox.NS) {
	return func(ns *sandbox.NS) {
		ns.Sysctl("ip_local_port_range", fmt.Sprintf("40000 %d", 40000+ports-1))
		ns.Sysctl("tcp_tw_reuse", "0")
	}
}

// reuse leaves 20 ports to connect(2), and lets it take over TIME_WAITs.
func reuse(ns *sandbox.NS) {
	few(20)(ns)
	ns.Sysctl("tcp_tw_reuse", "1")
}

// What is said of ports from what was seen of the connections that take them: these findings and no
// others. Numbers are bounds where they are rates.
func TestDoctorPorts(t *testing.T) {
	t.Parallel()
	const lasts = 8 * time.Second // in parts of 2 s at least
	type between [2]float64
	for name, c := range map[string]struct {
		set     func(ns *sandbox.NS)
		during  func(t *testing.T, ns *sandbox.NS)
		args    []string
		want    string
		first   string             // the finding that is looked at
		numbers map[string]between // of its evidence
	}{
		"a pace that takes all ports": {
			set: few(400), during: func(_ *testing.T, ns *sandbox.NS) {
				openAndClose(ns, connected(ns, 5000, 0).listener, lasts, clientFirst)
			},
			want: "port-pressure will_fail, port-range-shape note", first: "port-pressure",
			numbers: map[string]between{"rate": {7, 17}, "gone_in_ns": {10e9, 62e9}, "over_ns": {6e9, 30e9}, "used": {60, 140}},
		},
		"the same, and the server closes first": {
			set: few(400), during: func(_ *testing.T, ns *sandbox.NS) {
				openAndClose(ns, connected(ns, 5000, 0).listener, lasts, serverFirst)
			},
			want: "port-range-shape note, server-closes-first note",
		},
		"the same, and TIME_WAITs can be taken over": {
			set: func(ns *sandbox.NS) { few(400)(ns); ns.Sysctl("tcp_tw_reuse", "2") }, during: func(_ *testing.T, ns *sandbox.NS) {
				openAndClose(ns, connected(ns, 5000, 0).listener, lasts, clientFirst)
			},
			want: "port-range-shape note",
		},
		"the same, and it has ended": {
			set: few(400), during: func(_ *testing.T, ns *sandbox.NS) {
				openAndClose(ns, connected(ns, 5000, 0).listener, 3*time.Second, clientFirst)
				time.Sleep(lasts)
			},
			want: "port-range-shape note",
		},
		"most ports are used, and it has ended": {
			set: few(400), during: func(_ *testing.T, ns *sandbox.NS) {
				p := connected(ns, 5000, 350)
				closeAll(p.clients, p.servers)
				time.Sleep(lasts)
			},
			args: []string{"--ignore", "short-connections"}, // how short they are is chance
			want: "port-pressure note, port-range-shape note, tw-reuse-cannot-help note", first: "port-pressure",
			numbers: map[string]between{"used": {350, 350}, "time_waits": {350, 350}},
		},
		// connect() tries the 2,000 even ports first. How fast that goes is chance.
		"a search for a port": {
			set: few(4000), during: func(_ *testing.T, ns *sandbox.NS) { closeEach(ns, connected(ns, 5000, 0).listener, 2100) },
			args: []string{"--ignore", "port-pressure,load-test-limit"},
			want: "port-range-shape note, port-search-slow slow, short-connections note", first: "port-search-slow",
			numbers: map[string]between{"first_used": {2000, 2000}, "first_usable": {2000, 2000}, "connections": {100, 100}, "used": {2100, 2100}},
		},
		"no search as yet": {
			set: few(4000), during: func(_ *testing.T, ns *sandbox.NS) { closeEach(ns, connected(ns, 5000, 0).listener, 2000) },
			args: []string{"--ignore", "port-pressure,load-test-limit"},
			want: "port-range-shape note, short-connections note",
		},
		"ports that bind() chooses": {
			set: few(40), during: func(_ *testing.T, ns *sandbox.NS) { connectBound(ns, 20, func(_ int, s *sandbox.Sock) { s.Bind(0) }) },
			want: "bind-before-connect risk, port-range-shape note", first: "bind-before-connect",
			numbers: map[string]between{"bound": {20, 20}, "opened": {20, 20}, "held": {20, 20}, "usable": {40, 40}},
		},
		"all ports, and bind() chooses them": {
			set: few(20), during: func(t *testing.T, ns *sandbox.NS) {
				connectBound(ns, 20, func(_ int, s *sandbox.Sock) { s.Bind(0) })
				if err := ns.Socket(ipv4).TryBind(0); !errors.Is(err, unix.EADDRINUSE) {
					t.Errorf("bind: %v", err)
				}
				refuse(t, ns, sandbox.At(ipv4, 5000), 1, unix.EADDRNOTAVAIL) // five connections go there
			},
			want: "bind-before-connect will_fail, port-exhausted failing, port-range-shape note", first: "bind-before-connect",
			numbers: map[string]between{"opened": {21, 21}, "bound": {20, 20}, "held": {20, 20}, "usable": {20, 20}},
		},
		"an address without a port": {
			set: few(20), during: func(_ *testing.T, ns *sandbox.NS) {
				connectBound(ns, 40, func(_ int, s *sandbox.Sock) { s.Set(unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1).Bind(0) })
			},
			want: "port-range-shape note",
		},
		"ports that the program names": {
			set: few(40), during: func(_ *testing.T, ns *sandbox.NS) {
				connectBound(ns, 20, func(i int, s *sandbox.Sock) { s.Bind(uint16(40000 + i)) })
			},
			want: "port-range-shape note",
		},
		"ports that bind() chose, and that are free again": {
			set: few(40), during: func(_ *testing.T, ns *sandbox.NS) {
				for _, s := range connectBound(ns, 20, func(_ int, s *sandbox.Sock) { s.Bind(0) }) {
					s.Reset()
				}
			},
			args: []string{"--ignore", "reset-by-linger-zero"},
			want: "bind-before-connect note, port-range-shape note", first: "bind-before-connect", numbers: map[string]between{"bound": {20, 20}, "held": {0, 0}},
		},
		"reuse at work": {
			set: reuse, during: func(_ *testing.T, ns *sandbox.NS) {
				l := connected(ns, 5000, 0).listener
				closeEach(ns, l, 20)
				time.Sleep(1100 * time.Millisecond)
				closeEach(ns, l, 11)
			},
			args: []string{"--ignore", "port-pressure"}, // all ports are used, and the pace is chance
			want: "port-range-shape note, tw-reuse-verdict note", first: "tw-reuse-verdict",
			numbers: map[string]between{"reused": {11, 11}, "after_ns": {1e9, 60e9}},
		},
		"reuse of a port that was bound": {
			set: reuse, during: func(t *testing.T, ns *sandbox.NS) { fromOnePort(t, ns, nil) },
			want: "port-range-shape note",
		},
		"a load test without ports": {
			set: few(200), during: func(t *testing.T, ns *sandbox.NS) {
				l := connected(ns, 5000, 0).listener
				closeEach(ns, l, 200)
				refuse(t, ns, l.Local, 1000, unix.EADDRNOTAVAIL)
			},
			args: []string{"--set", "load-test-limit.rate=10", "--ignore", "short-connections"},
			want: "load-test-limit note, port-exhausted failing, port-range-shape note, tw-reuse-cannot-help note", first: "load-test-limit",
			numbers: map[string]between{"share": {1, 1}, "most": {3, 3}},
		},
		"a load without ports, and others": {
			set: few(200), during: func(t *testing.T, ns *sandbox.NS) {
				l := connected(ns, 5000, 0).listener
				closeEach(ns, l, 200)
				refuse(t, ns, l.Local, 1000, unix.EADDRNOTAVAIL)
				refuse(t, ns, sandbox.At(ipv4, 5001), 400, unix.ECONNREFUSED)
			},
			args: []string{"--set", "load-test-limit.rate=10", "--ignore", "short-connections,refused-storm"},
			want: "port-exhausted failing, port-range-shape note, tw-reuse-cannot-help note",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testnet.Attempts(t, func(t *testing.T) string {
				ns := sandbox.New(t)
				if c.set != nil {
					c.set(ns)
				}
				got, findings, missed := watchedBy(t, ns, c.args, func() { c.during(t, ns) })
				var wrong []string
				if all := strings.Join(got, ", "); all != c.want {
					wrong = append(wrong, fmt.Sprintf("got %q, want %q: %v", all, c.want, findings))
				}
				for _, f := range findings {
					if f["id"] != c.first {
						continue
					}
					t.Log(f["text"])
					numbers := f["evidence"].(map[string]any)
					for key, bounds := range maps.All(c.numbers) {
						if n, known := numbers[key].(float64); !known || n < bounds[0] || n > bounds[1] {
							wrong = append(wrong, fmt.Sprintf("%s is %v, want %v: %v", key, numbers[key], bounds, f))
						}
					}
				}
				return faultsOf(t, wrong, missed)
			})
		})
	}
}

// A server whose clients are on another host: tcp_tw_reuse does nothing for it.
func TestDoctorReuseOfServer(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("ip"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("iproute2 is not installed")
	}
	testnet.Attempts(t, func(t *testing.T) string {
		here, there := sandbox.New(t), sandbox.New(t)
		here.Sysctl("tcp_tw_reuse", "1")
		at := func(ns *sandbox.NS, args ...string) {
			ip := exec.Command("ip", args...)
			ns.Start(ip)
			if err := ip.Wait(); err != nil {
				t.Fatalf("%v: %v", ip, err)
			}
		}
		at(here, "link", "add", "veth0", "type", "veth", "peer", "name", "veth1", "netns", pathOf(there))
		for i, ns := range []*sandbox.NS{here, there} {
			name := fmt.Sprintf("veth%d", i)
			at(ns, "address", "add", fmt.Sprintf("10.77.0.%d/24", i+1), "dev", name)
			at(ns, "link", "set", name, "up")
		}
		family := sandbox.Family{Name: "ipv4", AF: unix.AF_INET, Addr: netip.MustParseAddr("10.77.0.1")}
		l := here.Socket(family).Bind(5000).Listen()
		for _, c := range []struct {
			connects bool
			want     string
		}{{false, "server-closes-first note, tw-reuse-verdict note"}, {true, "server-closes-first note"}} {
			got, findings, missed := watchedBy(t, here, []string{"--set", "tw-reuse-verdict.least=60"}, func() {
				for range 60 {
					c := there.Socket(ipv4).Connect(l.Local)
					s := l.Accept()
					s.Orphan()
					c.Close()
				}
				if c.connects {
					here.Socket(family).Connect(l.Local)
				}
			})
			if all := strings.Join(got, ", "); all != c.want {
				if missed != "" {
					return missed + ": " + all
				}
				t.Errorf("it connects: %v: got %q, want %q: %v", c.connects, all, c.want, findings)
			}
		}
		return ""
	})
}
