package main

import (
	"errors"
	"fmt"
	"maps"
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
		// connect() tries the 2,000 even ports first. The TIME_WAITs of that are no pace.
		"a search for a port": {
			set: few(4000), during: func(_ *testing.T, ns *sandbox.NS) { closeEach(ns, connected(ns, 5000, 0).listener, 2100) },
			args: []string{"--ignore", "port-pressure"},
			want: "port-range-shape note, port-search-slow slow, short-connections note", first: "port-search-slow",
			numbers: map[string]between{"first_used": {2000, 2000}, "first_usable": {2000, 2000}, "connections": {100, 100}, "used": {2100, 2100}},
		},
		"no search as yet": {
			set: few(4000), during: func(_ *testing.T, ns *sandbox.NS) { closeEach(ns, connected(ns, 5000, 0).listener, 2000) },
			args: []string{"--ignore", "port-pressure"},
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
				if wrong != nil && missed != "" { // it is counted for the whole host: these need not be ours
					return missed + ": " + strings.Join(wrong, "; ")
				}
				for _, w := range wrong {
					t.Error(w)
				}
				return ""
			})
		})
	}
}
