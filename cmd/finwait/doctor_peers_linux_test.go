package main

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

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
