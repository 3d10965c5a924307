package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/internal/test/testnet"

	"golang.org/x/sys/unix"
)

var ipv4 = sandbox.Families[0]

// watchedBy runs finwait doctor with all rules, calls during while it watches, and gives what it says.
// missed says that transitions were lost, of whatever namespace, if so: see testnet.Attempts.
func watchedBy(t *testing.T, ns *sandbox.NS, args []string, during func()) (ids []string, findings []map[string]any, missed string) {
	t.Helper()
	p := startFinwait(t, append([]string{"doctor", "--for", "1h", "--json", "--netns", pathOf(ns), "--root", t.TempDir()}, args...)...)
	p.awaitSaid(t, "Ctrl-C")
	during()
	if err := p.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Fatalf("%v: %s", err, p.said())
	}
	for _, l := range decodeLines(t, p.stdout.Bytes()) {
		if l["event"] == "finding" {
			ids = append(ids, l["id"].(string)+" "+l["severity"].(string))
			findings = append(findings, l)
		}
		if l["event"] == "checkup" {
			for _, n := range l["not_checked"].([]any) {
				switch why := n.(map[string]any)["why"].(string); {
				case strings.HasPrefix(why, "transitions were lost: "):
					missed = why
				case strings.Contains(why, "transitions"):
					t.Errorf("not checked: %v", n)
				}
			}
		}
	}
	slices.Sort(ids)
	return ids, findings, missed
}

func refuse(t *testing.T, ns *sandbox.NS, to netip.AddrPort, n int, want error) {
	t.Helper()
	for range n {
		if err := ns.Socket(ipv4).TryConnect(to); !errors.Is(err, want) {
			t.Errorf("connect to %v: %v, want %v", to, err, want)
		}
	}
}

// faultsOf tells what was wrong, or that it is to be tried again: what was missed is counted for the whole
// host, and need not be the test's own.
func faultsOf(t *testing.T, faults []string, missed string) (again string) {
	t.Helper()
	if faults != nil && missed != "" {
		return missed + ": " + strings.Join(faults, "; ")
	}
	for _, f := range faults {
		t.Error(f)
	}
	return ""
}

// loseSYNs connects n sockets whose first SYN is lost.
func loseSYNs(ns *sandbox.NS, l *sandbox.Sock, n int) {
	l.DropIncoming(false)
	var all []*sandbox.Sock
	for range n {
		all = append(all, ns.Socket(ipv4).Connecting(l.Local))
	}
	l.LetIncoming()
	for _, s := range all {
		s.WaitState(unix.BPF_TCP_ESTABLISHED)
		l.Accept()
	}
}

// comeBackOlder has n connections that the server closed first meet SYNs of older sequence numbers,
// and come back a second later.
func comeBackOlder(ns *sandbox.NS, n int) {
	p := connected(ns, 5000, n)
	sequences := make([]uint32, n)
	for i, c := range p.clients {
		sequences[i] = c.Sequence()
	}
	closeAll(p.servers, p.clients)
	for i, c := range p.clients {
		ns.Send(c.Local, p.listener.Local, sandbox.SYN, sequences[i]-1000, 0)
	}
	time.Sleep(1100 * time.Millisecond)
	for _, c := range p.clients {
		ns.Socket(ipv4).Bind(c.Local.Port()).Connect(p.listener.Local)
		p.listener.Accept()
	}
}

// loseLastACKs repeats the FIN of n servers to the clients' TIME_WAITs, which an RST then ends.
func loseLastACKs(ns *sandbox.NS, n int) {
	p := connected(ns, 5000, n)
	sequences := make([]uint32, n)
	for i, s := range p.servers {
		sequences[i] = s.Sequence()
	}
	closeAll(p.clients, p.servers)
	time.Sleep(50 * time.Millisecond) // a timer that is set to the same jiffy is not set again
	for i, c := range p.clients {
		ns.Send(p.listener.Local, c.Local, sandbox.FIN|sandbox.ACK, sequences[i], 1)
		ns.Send(p.listener.Local, c.Local, sandbox.RST, sequences[i]+1, 0)
	}
}

// fromOnePort connects twice from one port; the first connection is in TIME_WAIT by then.
func fromOnePort(t *testing.T, ns *sandbox.NS, want error) {
	t.Helper()
	l := ns.Socket(ipv4).Bind(5000).Listen()
	c := ns.Socket(ipv4).Bind(20000).Connect(l.Local)
	s := l.Accept()
	closeAll([]*sandbox.Sock{c}, []*sandbox.Sock{s})
	if err := ns.Socket(ipv4).Bind(20000).TryConnect(l.Local); !errors.Is(err, want) {
		t.Errorf("connect again: %v, want %v", err, want)
	}
}

func unreachable(ns *sandbox.NS, n int) {
	deaf := ns.Socket(ipv4).Bind(5000).Listen()
	deaf.DropIncoming(false)
	for range n {
		sniffer := ns.Sniff(ipv4)
		c := ns.Socket(ipv4)
		failed := make(chan error, 1)
		go func() { failed <- c.TryConnect(deaf.Local) }()
		syn := sniffer.SYN(deaf.Local.Port())
		for over := false; !over; { // the kernel ignores an ICMP error while connect() has the socket locked
			ns.HostUnreachable(ipv4.Addr, ipv4.Addr, syn)
			select {
			case <-failed:
				over = true
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
}

// Each set-up on real sockets, of which every transition is watched, gives these findings and no
// others. The number is the kernel's where it counts such things, or else how many the test made.
func TestDoctorWatch(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		set     func(ns *sandbox.NS)
		during  func(t *testing.T, ns *sandbox.NS)
		args    []string
		want    string
		first   string         // the finding that is looked at
		numbers map[string]any // of its evidence
		after   string         // which evidence is a time of lasts, and a fifth more at most
		lasts   time.Duration
		counter string // the kernel's count of the same
		counts  string // which evidence that is
	}{
		"no port": {
			set: func(ns *sandbox.NS) { ns.Sysctl("ip_local_port_range", "40000 40019") },
			during: func(t *testing.T, ns *sandbox.NS) {
				p := connected(ns, 5000, 20)
				refuse(t, ns, p.listener.Local, 7, unix.EADDRNOTAVAIL)
			},
			want: "port-exhausted failing, port-range-shape note", first: "port-exhausted", numbers: map[string]any{"failed": 7.0, "used": 20.0, "usable": 20.0},
		},
		"short connections": {
			during: func(_ *testing.T, ns *sandbox.NS) {
				l := ns.Socket(ipv4).Bind(5000).Listen()
				for range 60 {
					c := ns.Socket(ipv4).Connect(l.Local)
					closeAll([]*sandbox.Sock{c}, []*sandbox.Sock{l.Accept()})
				}
			},
			args: []string{"--set", "short-connections.least=60", "--set", "short-connections.rate=1"},
			want: "short-connections note", first: "short-connections", numbers: map[string]any{"closed": 60.0},
		},
		"the server closes first": {
			during: func(_ *testing.T, ns *sandbox.NS) { p := connected(ns, 5000, 60); closeAll(p.servers, p.clients) },
			want:   "server-closes-first note", first: "server-closes-first", numbers: map[string]any{"closed_here": 60.0, "closed": 60.0},
		},
		"refused": {
			during: func(t *testing.T, ns *sandbox.NS) { refuse(t, ns, sandbox.At(ipv4, 5001), 12, unix.ECONNREFUSED) },
			want:   "refused-storm failing", first: "refused-storm", counter: "Tcp.AttemptFails", counts: "refused", numbers: map[string]any{"refused": 12.0, "why": "nothing", "listens_on": nil},
		},
		"refused, and the listener is on another address": {
			during: func(t *testing.T, ns *sandbox.NS) {
				connected(ns, 5000, 0)
				refuse(t, ns, netip.MustParseAddrPort("127.0.0.2:5000"), 10, unix.ECONNREFUSED)
			},
			want: "refused-storm failing", first: "refused-storm", counter: "Tcp.AttemptFails", counts: "refused", numbers: map[string]any{"refused": 10.0, "why": "elsewhere", "listens_on": "127.0.0.1:5000"},
		},
		"lost SYNs": {
			during: func(_ *testing.T, ns *sandbox.NS) { loseSYNs(ns, connected(ns, 5000, 0).listener, 3) },
			want:   "connect-retransmits slow", first: "connect-retransmits", counter: "TcpExt.TCPSynRetrans", counts: "late", numbers: map[string]any{"late": 3.0, "connected": 3.0, "seconds": "1"},
		},
		"unread data": {
			during: func(_ *testing.T, ns *sandbox.NS) {
				p := connected(ns, 5000, 4)
				for i := range p.clients {
					p.clients[i].WriteBytes(7)
					p.servers[i].Close()
				}
			},
			want: "reset-by-unread-data failing", first: "reset-by-unread-data", counter: "TcpExt.TCPAbortOnClose", counts: "resets", numbers: map[string]any{"resets": 4.0},
		},
		"linger zero": {
			during: func(_ *testing.T, ns *sandbox.NS) {
				for _, c := range connected(ns, 5000, 4).clients {
					c.Reset()
				}
			},
			want: "reset-by-linger-zero note", first: "reset-by-linger-zero", counter: "TcpExt.TCPAbortOnData", counts: "resets", numbers: map[string]any{"resets": 4.0, "unacknowledged": 0.0},
		},
		"a peer that does not close": {
			set: func(ns *sandbox.NS) { ns.Sysctl("tcp_fin_timeout", "1") },
			during: func(t *testing.T, ns *sandbox.NS) {
				for _, c := range connected(ns, 5000, 6).clients {
					c.Orphan()
				}
				for deadline := time.Now().Add(30 * time.Second); ns.States()[unix.BPF_TCP_FIN_WAIT2] > 0; time.Sleep(50 * time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatalf("FIN_WAIT_2 lasts: %v", ns.States())
					}
				}
			},
			want: "peer-does-not-close note", first: "peer-does-not-close", numbers: map[string]any{"sockets": 6.0, "fin_timeout": 1.0},
		},
		"a race of a request and a close": {
			during: func(_ *testing.T, ns *sandbox.NS) {
				p := connected(ns, 5000, 4)
				time.Sleep(600 * time.Millisecond)
				for i := range p.servers {
					p.servers[i].Orphan()
					p.clients[i].Write()
				}
			},
			want: "keepalive-race failing, keepalive-race failing", first: "keepalive-race", counter: "Tcp.EstabResets", counts: "resets", numbers: map[string]any{"resets": 4.0},
			after: "idle_ns", lasts: 600 * time.Millisecond,
		},
		"the program gives up": {
			during: func(_ *testing.T, ns *sandbox.NS) {
				l := connected(ns, 5000, 0).listener
				l.DropIncoming(false)
				var all []*sandbox.Sock
				var since []time.Time
				for range 10 {
					all = append(all, ns.Socket(ipv4))
					since = append(since, time.Now())
					all[len(all)-1].Connecting(l.Local)
				}
				for i, s := range all {
					time.Sleep(time.Until(since[i].Add(time.Second)))
					s.Close()
				}
			},
			want: "connect-times-out failing", first: "connect-times-out", numbers: map[string]any{"failed": 10.0, "given_up": 10.0, "timed_out": 0.0},
			after: "gave_up_after_ns", lasts: 900 * time.Millisecond,
		},
		"the kernel gives up": {
			set: func(ns *sandbox.NS) { ns.Sysctl("tcp_syn_retries", "1"); ns.Sysctl("tcp_syn_linear_timeouts", "0") },
			during: func(_ *testing.T, ns *sandbox.NS) {
				l := connected(ns, 5000, 0).listener
				l.DropIncoming(false)
				var all []*sandbox.Sock
				for range 3 {
					all = append(all, ns.Socket(ipv4).Connecting(l.Local))
				}
				for _, s := range all {
					s.WaitState(unix.BPF_TCP_CLOSE)
				}
			},
			want: "connect-times-out failing", first: "connect-times-out", counter: "Tcp.AttemptFails", counts: "failed", numbers: map[string]any{"failed": 3.0, "timed_out": 3.0, "given_up": 0.0},
		},
		"unreachable": {
			during: func(_ *testing.T, ns *sandbox.NS) { unreachable(ns, 3) },
			want:   "unreachable failing", first: "unreachable", counter: "Tcp.AttemptFails", counts: "failed", numbers: map[string]any{"failed": 3.0, "errno": "EHOSTUNREACH"},
		},
		"SYNs that a TIME_WAIT rejects": {
			during: func(_ *testing.T, ns *sandbox.NS) { comeBackOlder(ns, 3) },
			want:   "syn-rejected-by-time-wait slow", first: "syn-rejected-by-time-wait", numbers: map[string]any{"connections": 3.0},
		},
		"a fixed port, without timestamps": {
			set:    func(ns *sandbox.NS) { ns.Sysctl("tcp_timestamps", "0") },
			during: func(t *testing.T, ns *sandbox.NS) { fromOnePort(t, ns, unix.EADDRNOTAVAIL) },
			want:   "fixed-port-meets-itself failing", first: "fixed-port-meets-itself", numbers: map[string]any{"failed": 1.0, "port": "20000", "timestamps": false},
		},
		"last ACKs that are lost": {
			during: func(_ *testing.T, ns *sandbox.NS) { loseLastACKs(ns, 5) },
			want:   "time-wait-rearmed note", first: "time-wait-rearmed", numbers: map[string]any{"rearmed": 5.0, "ended": 5.0},
		},
		// Close by, and none of them.
		"healthy": {
			during: func(t *testing.T, ns *sandbox.NS) {
				refuse(t, ns, sandbox.At(ipv4, 5001), 9, unix.ECONNREFUSED)
				loseSYNs(ns, ns.Socket(ipv4).Bind(5002).Listen(), 2)
				fromOnePort(t, ns, nil)
				for i := range uint16(6) {
					p := connected(ns, 5010+i, 2)
					for j := range p.clients {
						c, s := p.clients[j], p.servers[j]
						c.WriteBytes(7)
						switch i {
						case 0: // two are few
							s.Close()
						case 1: // it was read
							s.ReadBytes(7)
							s.Close()
						case 2:
							c.Reset()
						case 3: // the client reads before it sends
							s.ReadBytes(7)
							s.Orphan()
							_ = c.TryRead()
							c.Close()
						case 4: // the client has closed, and what was not read is nobody's loss
							c.Orphan()
							s.Close()
						case 5:
							s.ReadBytes(7)
							s.Orphan()
							c.Write()
						}
					}
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testnet.Attempts(t, func(t *testing.T) string {
				ns := sandbox.New(t)
				if c.set != nil {
					c.set(ns)
				}
				before := 0
				if c.counter != "" {
					before = ns.Counter(c.counter)
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
					evidence := f["evidence"].(map[string]any)
					for key, want := range c.numbers {
						if got, known := evidence[key]; !known || got != want {
							wrong = append(wrong, fmt.Sprintf("%s is %v, want %v: %v", key, got, want, f))
						}
					}
					if got, _ := evidence[c.after].(float64); c.after != "" && (got < float64(c.lasts) || got > 1.2*float64(c.lasts)) {
						wrong = append(wrong, fmt.Sprintf("%s is %v, want %v: %v", c.after, got, c.lasts, f))
					}
					if c.counter == "" {
						continue
					}
					if moved := ns.Counter(c.counter) - before; evidence[c.counts] != float64(moved) {
						wrong = append(wrong, fmt.Sprintf("the kernel counts %s %d: %v", c.counter, moved, f))
					}
				}
				return faultsOf(t, wrong, missed)
			})
		})
	}
}

// Without the rights to watch, it says which findings that hides, and tells the others.
func TestDoctorWithoutWatch(t *testing.T) {
	t.Parallel()
	p := newFinwait(t, "doctor", "--for", "100ms", "--json")
	p.SysProcAttr = nobody()
	if err := p.Run(); err != nil {
		t.Fatalf("%v: %s", err, p.said())
	}
	lines := decodeLines(t, p.stdout.Bytes())
	why := make(map[string]string)
	for _, n := range lines[len(lines)-1]["not_checked"].([]any) {
		n := n.(map[string]any)
		why[n["id"].(string)] = fmt.Sprint(n["in_part"], " ", n["why"])
	}
	for id, want := range map[string]string{"refused-storm": "false transitions cannot be seen: ", "keepalive-race": "false transitions cannot be seen: ",
		"port-exhausted": "true transitions cannot be seen: ", "accept-stall": "", "time-wait-overflow": ""} {
		if got := why[id]; !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%s: not checked: %q, want %q", id, got, want)
		}
	}
}
