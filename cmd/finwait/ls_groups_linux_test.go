package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"finwait/internal/sandbox"
	"finwait/internal/sockdiag"
	"finwait/internal/sockets"
	"finwait/internal/test/testnet"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// A jsonGroup is one line of ls --by --output json.
type jsonGroup struct {
	Event       string         `json:"event"`
	By          string         `json:"by"`
	Name        *string        `json:"name"`
	ThenBy      string         `json:"then_by"`
	ThenName    *string        `json:"then_name"`
	NetNS       *uint32        `json:"netns"`
	NetNSCookie *uint64        `json:"netns_cookie"`
	NetNSName   *string        `json:"netns_name"`
	LocalAddr   *string        `json:"local_addr"`
	Comm        *string        `json:"comm"`
	CgroupID    *uint64        `json:"cgroup_id"`
	PortsUsed   *int           `json:"ports_used"`
	PortsUsable *int           `json:"ports_usable"`
	HeldByBind  *int           `json:"held_by_bind"`
	Groups      int            `json:"groups"`
	Sockets     int            `json:"sockets"`
	States      map[string]int `json:"states"`
	OldestNS    *int64         `json:"oldest_ns"`
	Precision   string         `json:"precision"`
}

func lsGroups(t *testing.T, args ...string) (all []jsonGroup) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(ls(t, args...)))
	d.DisallowUnknownFields()
	for d.More() {
		var g jsonGroup
		if err := d.Decode(&g); err != nil {
			t.Fatal(err)
		}
		all = append(all, g)
	}
	return all
}

// Whatever the groups are, they are all sockets that ss lists, in their states.
func TestLsGroupsAddUp(t *testing.T) {
	n := sandbox.New(t)
	testnet.Fill(t, n, testnet.Loopback()...)
	want := make(map[string]int)
	for _, row := range ssRows(t, n) {
		want[row.state]++
	}
	for _, by := range append(sockets.KeyWords(), "comm,state", "destination,uid", "port,netns") {
		for _, top := range []string{"0", "2", "10"} {
			got := make(map[string]int)
			for _, g := range lsGroups(t, "--netns", n.Path(), "--by", by, "--top", top) {
				sum := 0
				for state, n := range g.States {
					if state == "NEW_SYN_RECV" {
						state = "SYN_RECV" // one and the same to ss
					}
					got[state] += n
					sum += n
				}
				if sum != g.Sockets {
					t.Errorf("--by %s --top %s: %d sockets, by state %d: %+v", by, top, g.Sockets, sum, g)
				}
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("--by %s --top %s: ss (-) and ls (+): %s", by, top, d)
			}
		}
	}
}

// What is said of each group is what was made.
func TestLsGroups(t *testing.T) {
	n := sandbox.New(t)
	made := testnet.Fill(t, n, testnet.Loopback()...)
	total := 0
	for _, count := range made {
		total += count
	}
	one := func(by string) jsonGroup {
		t.Helper()
		all := lsGroups(t, "--netns", n.Path(), "--by", by)
		if len(all) == 0 {
			t.Fatalf("--by %s: no groups", by)
		}
		return all[0]
	}
	if g := one("netns"); *g.Name != strconv.Itoa(int(n.Inode)) || *g.NetNSCookie != n.Cookie || g.Sockets != total {
		t.Errorf("by netns: %+v", g)
	}
	own := len(lsSockets(t, "--netns", n.Path(), "--pid", strconv.Itoa(os.Getpid())))
	if g := one("pid"); *g.Name != strconv.Itoa(os.Getpid()) || g.Comm == nil || g.Sockets != own || g.OldestNS == nil || g.Precision != "at_least" {
		t.Errorf("by pid: %+v, want %d sockets", g, own)
	}
	if g := one("handler"); g.Name != nil || g.Sockets != total {
		t.Errorf("by handler: %+v", g)
	}
	// IPv4 and v4-mapped addresses are one remote; a listener has none.
	remotes := make(map[string]int)
	for _, g := range lsGroups(t, "--netns", n.Path(), "--by", "remote") {
		if g.Name == nil {
			remotes["-"] = g.Sockets
			continue
		}
		remotes[*g.Name] = g.Sockets
	}
	listeners := made[unix.BPF_TCP_LISTEN]
	want := map[string]int{"127.0.0.1": (total - listeners) * 2 / 3, "::1": (total - listeners) / 3, "-": listeners}
	if d := cmp.Diff(want, remotes); d != "" {
		t.Errorf("by remote: %s", d)
	}
	// A filter on a state leaves groups of that state only, and says what may belong to them.
	for _, g := range lsGroups(t, "--netns", n.Path(), "--by", "state", "--state", "TIME_WAIT") {
		if *g.Name != "TIME_WAIT" || g.Sockets != made[unix.BPF_TCP_TIME_WAIT] || len(g.States) != 1 {
			t.Errorf("with --state: %+v", g)
		}
	}
}

// ofDestination is the group of what was connected to an address.
func ofDestination(t *testing.T, to netip.AddrPort, args ...string) jsonGroup {
	t.Helper()
	for _, g := range lsGroups(t, append([]string{"--by", "destination", "--top", "0"}, args...)...) {
		if g.Name != nil && *g.Name == to.String() {
			return g
		}
	}
	t.Fatalf("no destination %v", to)
	return jsonGroup{}
}

// What is used and what bind() holds is what connect() cannot have: it finds no port when, and
// only when, they are all that are usable.
func TestLsPorts(t *testing.T) {
	n := sandbox.New(t)
	n.Sysctl("ip_local_port_range", "40000 40019")
	n.Sysctl("ip_local_reserved_ports", "40003,40010-40012")
	n.Sysctl("tcp_tw_reuse", "0")
	const usable = 16
	var bindListed bool
	n.Try(func() (err error) {
		bindListed, err = sockdiag.ListsBound()
		return err
	})
	v4, mapped := sandbox.Families[0], sandbox.Family{Name: "mapped", AF: unix.AF_INET6, Addr: netip.MustParseAddr("::ffff:127.0.0.1")}
	l := n.Socket(v4).Bind(5000).Listen()
	other := n.Socket(v4).Bind(5001).Listen()
	n.Socket(v4).Bind(40019) // bound only
	n.Socket(v4).Bind(40018).Listen()
	n.Socket(v4).Bind(41000) // not a usable port
	const held = 2

	check := func(what string, used int, args ...string) {
		t.Helper()
		g := ofDestination(t, l.Local, append([]string{"--netns", n.Path()}, args...)...)
		if *g.PortsUsed != used || *g.PortsUsable != usable || *g.LocalAddr != "127.0.0.1" || *g.NetNS != n.Inode {
			t.Errorf("%s: %d of %d ports used, want %d of %d: %+v", what, *g.PortsUsed, *g.PortsUsable, used, usable, g)
		}
		if (g.HeldByBind != nil) != bindListed || bindListed && *g.HeldByBind != held {
			t.Errorf("%s: held by bind: %v; the kernel lists such sockets: %v", what, g.HeldByBind, bindListed)
		}
	}
	used := 0
	connect := func(f sandbox.Family, to netip.AddrPort) error {
		err := n.Socket(f).TryConnect(to)
		if err == nil && to == l.Local {
			l.Accept()
		}
		return err
	}
	for range 3 {
		if err := connect(v4, other.Local); err != nil { // another destination has ports of its own
			t.Fatal(err)
		}
	}
	for used < 3 {
		if err := connect(v4, l.Local); err != nil {
			t.Fatal(err)
		}
		used++
	}
	check("IPv4", used)
	if err := n.Socket(mapped).TryConnect(netip.AddrPortFrom(mapped.Addr, l.Local.Port())); err != nil {
		t.Fatal(err)
	}
	l.Accept()
	used++
	check("v4-mapped", used)

	client := n.Socket(v4).Connect(l.Local)
	server := l.Accept()
	client.Orphan()
	used++
	check("an orphan", used)
	server.Close()
	check("a TIME_WAIT", used)
	check("of all sockets, whatever is listed", used, "--state", "TIME_WAIT")
	check("of all sockets, whoever has them", used, "--pid", strconv.Itoa(os.Getpid()))

	var err error
	for err == nil {
		if err = connect(v4, l.Local); err == nil {
			used++
		}
	}
	if !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Fatal(err)
	}
	check("all", used)
	if used+held != usable {
		t.Errorf("no port is left, and %d are used and %d held of %d", used, held, usable)
	}
}

// The head and the lines stand below each other, in 80 columns.
func TestLsGroupsText(t *testing.T) {
	n := sandbox.New(t)
	l := n.Socket(sandbox.Families[0]).Bind(5000).Listen() // not one of the usable ports
	n.Socket(sandbox.Families[0]).Connect(l.Local)
	l.Accept()
	var out, errs bytes.Buffer
	if code := run([]string{"ls", "--netns", n.Path(), "--by", "destination", "--top", "1", "--sort", "-ports"}, &out, &errs); code != exitOK {
		t.Fatalf("exit code %d: %s", code, &errs)
	}
	lines := strings.Split(out.String(), "\n")
	if want := fmt.Sprintf("127.0.0.1  %-15v", l.Local); !strings.HasPrefix(lines[1], want) || !strings.HasPrefix(lines[2], "(1 others)") || !strings.HasPrefix(lines[3], "- ") {
		t.Errorf("want %q first, in\n%s", want, &out)
	}
	for _, l := range lines[:4] {
		if len(l) > 80 {
			t.Errorf("%d columns: %q", len(l), l)
		}
	}
}
