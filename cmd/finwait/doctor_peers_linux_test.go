package main

import (
	"fmt"
	"math"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/internal/test/testnet"

	"golang.org/x/sys/unix"
)

var ipv6 = sandbox.Families[1]

// A watchCase is a set-up of which every transition is watched, and the findings that it gives: all of
// them.
type watchCase struct {
	set    func(t *testing.T, ns *sandbox.NS)
	during func(t *testing.T, ns *sandbox.NS)
	args   []string
	want   string
	check  func(evidence, scope map[string]any) string // of the first finding: what is wrong; nil: not looked at
}

func (c *watchCase) run(t *testing.T) {
	t.Parallel()
	testnet.Attempts(t, func(t *testing.T) string {
		ns := sandbox.New(t)
		if c.set != nil {
			c.set(t, ns)
		}
		got, findings, missed := watchedBy(t, ns, append(c.args, "--ignore", "hidden-namespaces"), func() { c.during(t, ns) })
		wrong := ""
		if all := strings.Join(got, ", "); all != c.want {
			wrong = fmt.Sprintf("got %q, want %q: %v", all, c.want, findings)
		} else if c.check != nil {
			wrong = c.check(findings[0]["evidence"].(map[string]any), findings[0]["scope"].(map[string]any))
		}
		if wrong != "" && missed != "" {
			return missed + ": " + wrong
		}
		if wrong != "" {
			t.Errorf("%s: %v", wrong, findings)
		}
		return ""
	})
}

// differs says which values are not as wanted.
func differs(got map[string]any, want map[string]any) string {
	for key, value := range want {
		if g, known := got[key]; !known || g != value {
			return fmt.Sprintf("%s is %v, want %v", key, g, value)
		}
	}
	return ""
}

// tryBoth connects as a program does that tries the addresses of a name in order.
func tryBoth(t *testing.T, ns *sandbox.NS, port uint16, n int) {
	t.Helper()
	for range n {
		if ns.Socket(ipv6).TryConnect(sandbox.At(ipv6, port)) == nil {
			continue
		}
		if err := ns.Socket(ipv4).TryConnect(sandbox.At(ipv4, port)); err != nil {
			t.Error(err)
		}
	}
}

// openEvery opens n connections to a port, one in each of these steps, and has both ends close: the
// client first. It says how regular they were: the standard deviation of the times between them, as a
// share of the mean.
func openEvery(ns *sandbox.NS, port uint16, n int, step func(i int) time.Duration, use func(client, server *sandbox.Sock)) (variation float64) {
	l := ns.Socket(ipv4).Bind(port).Listen()
	next, last := time.Now(), time.Time{}
	var sum, squares float64
	for i := range n {
		time.Sleep(time.Until(next))
		c := ns.Socket(ipv4).Connect(l.Local)
		now := time.Now()
		if gap := now.Sub(last).Seconds(); i > 0 {
			sum, squares = sum+gap, squares+gap*gap
		}
		last = now
		s := l.Accept()
		use(c, s)
		s.Close()
		next = next.Add(step(i))
	}
	mean := sum / float64(n-1)
	return math.Sqrt(max(0, squares/float64(n-1)-mean*mean)) / mean
}

// Connections that only look whether the server is there.
func TestDoctorProbes(t *testing.T) {
	t.Parallel()
	const loose = 0.3
	steady := func(int) time.Duration { return 200 * time.Millisecond }
	closes := func(c, _ *sandbox.Sock) { c.Orphan() }
	for name, c := range map[string]struct {
		n    int
		step func(int) time.Duration
		use  func(client, server *sandbox.Sock)
		want string
	}{
		"probes":            {12, steady, closes, "probes note"},
		"probes that reset": {12, steady, func(c, s *sandbox.Sock) { c.Reset(); s.WaitState(unix.BPF_TCP_CLOSE) }, "probes note, reset-by-linger-zero note"},
		"a greeting":        {12, steady, func(c, s *sandbox.Sock) { s.WriteBytes(20); c.ReadBytes(20); c.Orphan() }, "probes note"},
		"four":              {4, steady, closes, ""},
		"requests":          {12, steady, func(c, s *sandbox.Sock) { c.Write(); s.Read(); c.Orphan() }, ""},
		"readers":           {12, steady, func(c, s *sandbox.Sock) { s.WriteBytes(2000); c.ReadBytes(2000); c.Orphan() }, ""},
		"no rhythm":         {8, func(i int) time.Duration { return 25 * time.Millisecond << i }, closes, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testnet.Attempts(t, func(t *testing.T) string {
				ns := sandbox.New(t)
				var variation float64
				got, findings, missed := watchedBy(t, ns, []string{"--ignore", "hidden-namespaces", "--set", fmt.Sprintf("probes.variation=%v", loose)},
					func() { variation = openEvery(ns, 5000, c.n, c.step, c.use) })
				switch all := strings.Join(got, ", "); {
				case all != c.want && missed != "":
					return missed + ": " + all
				case c.step(0) == c.step(1) && variation > loose-0.1:
					return fmt.Sprintf("the machine is too busy: the times differ by %.2f", variation)
				case all != c.want:
					t.Errorf("got %q, want %q (the times differ by %.2f): %v", all, c.want, variation, findings)
				case c.want != "":
					e := findings[slices.IndexFunc(findings, func(f map[string]any) bool { return f["id"] == "probes" })]["evidence"].(map[string]any)
					if wrong := differs(e, map[string]any{"connections": float64(c.n), "closed": float64(c.n), "clients": 1.0, "probes": 1.0}); wrong != "" {
						t.Errorf("%s: %v", wrong, e)
					}
					if every := e["every_ns"].(float64); every < 0.15e9 || every > 0.4e9 {
						t.Errorf("every %v ns: %v", every, e)
					}
				}
				return ""
			})
		})
	}
}

// conntrackIn sets timeouts of connection tracking, and adds rules of nft.
func conntrackIn(t *testing.T, ns *sandbox.NS, rules string, settings map[string]string) {
	t.Helper()
	nft, err := exec.LookPath("nft")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("nft is not installed")
	}
	ns.Try(func() error {
		for key, value := range settings {
			if err := os.WriteFile("/proc/sys/net/netfilter/"+key, []byte(value), 0); err != nil {
				return err
			}
		}
		cmd := exec.Command(nft, "-f", "-")
		cmd.Stdin = strings.NewReader(rules)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// Connections that a firewall forgets while they are idle: the real one, with short timeouts.
func TestDoctorIdleCut(t *testing.T) {
	t.Parallel()
	const forgets, idle = 5 * time.Second, 7 * time.Second
	firewall := func(t *testing.T, ns *sandbox.NS) {
		conntrackIn(t, ns, "table ip t { chain c { type filter hook input priority 0; tcp flags & rst == 0 ct state invalid reject with tcp reset; }; }",
			map[string]string{"nf_conntrack_tcp_timeout_established": fmt.Sprint(forgets.Seconds()), "nf_conntrack_tcp_loose": "0"})
	}
	// used opens connections, leaves them alone for a while, and uses them again.
	used := func(t *testing.T, ns *sandbox.NS, n int, leave time.Duration, want error, options ...int) {
		p := connected(ns, 5000, n)
		for i, c := range p.clients {
			for _, o := range options {
				c.Set(unix.IPPROTO_TCP, o, 1)
			}
			if len(options) > 0 {
				c.Set(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
			}
			c.Write()
			p.servers[i].Read()
			p.servers[i].Write()
			c.Read()
		}
		time.Sleep(leave)
		for _, c := range p.clients {
			c.Write()
			if want != nil {
				c.WaitState(unix.BPF_TCP_CLOSE)
				if err := c.TryRead(); err != want {
					t.Errorf("read: %v, want %v", err, want)
				}
			}
		}
		for _, s := range p.servers {
			if want == nil {
				s.Read()
			}
		}
	}
	for name, c := range map[string]*watchCase{
		"idle": {
			set: firewall, args: []string{"--set", "idle-cut.idle=5"},
			during: func(t *testing.T, ns *sandbox.NS) { used(t, ns, 4, idle, unix.ECONNRESET) },
			want:   "idle-cut failing",
			check: func(evidence, _ map[string]any) string {
				if silence, _ := evidence["silence_ns"].(float64); silence < float64(idle-time.Second) || silence > float64(idle+20*time.Second) {
					return fmt.Sprintf("silence %v", silence)
				}
				return differs(evidence, map[string]any{"resets": 4.0, "once": true, "keepalive_time": 7200.0})
			},
		},
		"two": {
			set: firewall, args: []string{"--set", "idle-cut.idle=5"},
			during: func(t *testing.T, ns *sandbox.NS) { used(t, ns, 2, idle, unix.ECONNRESET) },
		},
		"not idle for long": {
			set:    firewall,
			during: func(t *testing.T, ns *sandbox.NS) { used(t, ns, 4, idle, unix.ECONNRESET) },
		},
		"keepalive": {
			set: firewall, args: []string{"--set", "idle-cut.idle=5"},
			during: func(t *testing.T, ns *sandbox.NS) { used(t, ns, 4, idle, nil, unix.TCP_KEEPIDLE, unix.TCP_KEEPINTVL) },
		},
	} {
		t.Run(name, c.run)
	}
}

// Half-closed connections to an address that a NAT changes, which conntrack forgets after a short time.
func TestDoctorConntrackHalfClose(t *testing.T) {
	t.Parallel()
	const (
		nat   = "table ip t { chain o { type nat hook output priority -100; ip daddr 127.0.0.9 tcp dport 5000 dnat to 127.0.0.1:5000; }; }"
		track = "table ip t { chain c { type filter hook input priority 0; ct state new counter; }; }"
	)
	timeouts := func(seconds string) map[string]string {
		return map[string]string{"nf_conntrack_tcp_timeout_close_wait": seconds, "nf_conntrack_tcp_timeout_fin_wait": seconds}
	}
	soon := []string{"--set", "conntrack-half-close.share=0.05"} // 2 s of 40
	behind, itself := netip.MustParseAddrPort("127.0.0.9:5000"), sandbox.At(ipv4, 5000)
	both := func(forgotten float64) []wantFinding { // the client's side, and the server's
		one := wantFinding{"conntrack-half-close risk", map[string]any{"sockets": 2.0, "forgotten": forgotten}}
		return []wantFinding{one, one}
	}
	for name, c := range map[string]struct {
		rules    string
		timeouts map[string]string
		to       netip.AddrPort
		args     []string
		want     []wantFinding
	}{
		"a NAT that will forget":      {nat, timeouts("40"), behind, soon, both(0)},
		"a NAT that has forgotten":    {nat, timeouts("2"), behind, nil, both(2)},
		"a NAT with its own timeouts": {nat, nil, behind, nil, nil},
		"tracked, and no NAT":         {track, timeouts("40"), itself, soon, nil},
		"forgotten, and no NAT":       {track, timeouts("2"), itself, nil, nil},
		"not the NAT's destination":   {nat, timeouts("40"), itself, soon, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := sandbox.New(t)
			conntrackIn(t, ns, c.rules, c.timeouts)
			l := ns.Socket(ipv4).Bind(5000).Listen()
			for range 2 {
				client := ns.Socket(ipv4).Connect(c.to)
				l.Accept()
				client.ShutdownWrite()
				client.WaitState(unix.BPF_TCP_FIN_WAIT2)
			}
			ns.Socket(ipv4).Connect(c.to) // tells that this destination is changed, whatever is forgotten
			l.Accept()
			time.Sleep(5 * time.Second)
			ids, findings := doctorsView(t, ns, append(c.args, "--snapshot")...)
			checkFindings(t, ids, findings, c.want...)
		})
	}
}

// Programs that try IPv6 first.
func TestDoctorV6First(t *testing.T) {
	t.Parallel()
	// curl asks nginx for its page n times, with both addresses of the name; each time it is another process.
	curl := func(t *testing.T, ns *sandbox.NS, n int) {
		for range n {
			ns.Try(func() error {
				out, err := exec.Command("curl", "-sS", "--max-time", "20", "--resolve", "x:8080:[::1],127.0.0.1", "http://x:8080/").CombinedOutput()
				if err != nil || string(out) != "hello\n" {
					t.Errorf("curl: %v: %s", err, out)
				}
				return nil
			})
		}
	}
	for name, c := range map[string]*watchCase{
		"localhost": {
			set:    func(_ *testing.T, ns *sandbox.NS) { ns.Socket(ipv4).Bind(5000).Listen() },
			during: func(t *testing.T, ns *sandbox.NS) { tryBoth(t, ns, 5000, 4) },
			want:   "v6-first-refused note",
			check: func(evidence, scope map[string]any) string {
				return differs(evidence, map[string]any{"connections": 4.0, "refused": 4.0, "why": "elsewhere", "listens_on": "127.0.0.1:5000"}) +
					differs(scope, map[string]any{"remote": "[::1]:5000", "fallback": "127.0.0.1:5000"})
			},
		},
		"often": {
			set:    func(_ *testing.T, ns *sandbox.NS) { ns.Socket(ipv4).Bind(5000).Listen() },
			during: func(t *testing.T, ns *sandbox.NS) { tryBoth(t, ns, 5000, 12) },
			want:   "v6-first-refused note", // and no refused-storm
		},
		"both families": {
			set: func(_ *testing.T, ns *sandbox.NS) {
				ns.Socket(ipv4).Bind(5000).Listen()
				ns.Socket(ipv6).Bind(5000).Listen()
			},
			during: func(t *testing.T, ns *sandbox.NS) { tryBoth(t, ns, 5000, 4) },
		},
		"nobody": {
			during: func(t *testing.T, ns *sandbox.NS) {
				for range 4 {
					if err := ns.Socket(ipv6).TryConnect(sandbox.At(ipv6, 5000)); err != unix.ECONNREFUSED {
						t.Errorf("connect: %v", err)
					}
					refuse(t, ns, sandbox.At(ipv4, 5000), 1, unix.ECONNREFUSED)
				}
			},
		},
		"curl and nginx": {
			set:    func(t *testing.T, ns *sandbox.NS) { nginxIn(t, ns, "") },
			during: func(t *testing.T, ns *sandbox.NS) { curl(t, ns, 5) },
			want:   "v6-first-refused note",
			check: func(evidence, scope map[string]any) string {
				return differs(evidence, map[string]any{"connections": 5.0, "refused": 5.0, "listens_on": "127.0.0.1:8080", "more_processes": true}) +
					differs(scope["process"].(map[string]any), map[string]any{"comm": "curl"})
			},
		},
		"curl and nginx, which listens on both": {
			set: func(t *testing.T, ns *sandbox.NS) {
				nginxIn(t, ns, `server { listen [::1]:8080; location / { return 200 "hello\n"; } }`)
			},
			during: func(t *testing.T, ns *sandbox.NS) { curl(t, ns, 5) },
		},
	} {
		t.Run(name, c.run)
	}
}
