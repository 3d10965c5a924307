package sockets

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"finwait/internal/sockdiag"
	"finwait/internal/text"
	"finwait/tracer"

	"github.com/google/go-cmp/cmp"
)

// groupRows are those of rows and a few more, in two namespaces of which the usable ports are known.
func groupRows() []Row {
	all := rows()
	usable, _ := parsePorts("50000 50009", "50009")
	first, second := &space{usable: usable, heldKnown: true}, &space{usable: usable}
	for _, port := range []uint16{443, 50002} {
		first.listened.add(port)
	}
	for _, port := range []uint16{50002, 50008, 50009} {
		first.bound.add(port)
	}
	first.finish()
	second.finish()
	for i := range 3 { // two local ports, one of them twice
		r := all[1]
		r.Cookie = uint64(100 + i)
		r.Local = netip.AddrPortFrom(r.Local.Addr(), uint16(50000+i/2))
		all = append(all, r)
	}
	for i := range all {
		all[i].space, all[i].netNSCookie = first, 1
		if all[i].NetNS == 7 {
			all[i].space, all[i].netNSCookie = second, 2
		}
	}
	return all
}

func grouped(t *testing.T, by, sort string, top int) *Table {
	t.Helper()
	tickRate(t, 250)
	g, err := NewGrouping(strings.Split(by, ","), sort, top)
	if err != nil {
		t.Fatal(err)
	}
	g.Name(testNames())
	for _, r := range groupRows() {
		g.Use(&r)
		if err := g.Count(&r); err != nil {
			t.Fatal(err)
		}
	}
	return g.Table()
}

func groupText(t *testing.T, wide int, table *Table) string {
	t.Helper()
	var b bytes.Buffer
	out := bufio.NewWriter(&b)
	if err := NewText(out, text.Form{Width: func() int { return wide }}, text.Columns[Entry]{}, nil).Groups(table); err != nil {
		t.Fatal(err)
	}
	out.Flush()
	return b.String()
}

func TestGroupsText(t *testing.T) {
	for _, c := range []struct {
		by, sort string
		top      int
		want     string
	}{
		{"state", "", 0, `STATE         SOCKETS    OLDEST  STATES
TIME_WAIT           4  >43.155s  TIME_WAIT 4
FIN_WAIT_2          2   >1.996s  FIN_WAIT_2 2
ESTABLISHED         1      >0ms  ESTABLISHED 1
LISTEN              1         -  LISTEN 1
NEW_SYN_RECV        1         -  NEW_SYN_RECV 1
`},
		{"pid", "name", 1, `PID        COMM      SOCKETS    OLDEST  STATES
17         ngi\x1bx        1         -  LISTEN 1
(1 others)                 1   >1.996s  FIN_WAIT_2 1
-                          7  >43.155s  ESTABLISHED 1, FIN_WAIT_2 1, TIME_WAIT 4, NEW_SYN_RECV 1
`},
		{"destination", "", 0, `NETNS      LOCAL       REMOTE           SOCKETS    OLDEST       PORTS BOUND  STATES
4026531840 10.0.0.1    192.0.2.9:443          5  >43.155s         2/9     2  FIN_WAIT_2 1, TIME_WAIT 4
7          10.0.0.1    192.0.2.9:6            1      >0ms         0/9     -  ESTABLISHED 1
7          10.0.0.1    192.0.2.9:443          1   >1.996s         1/9     -  FIN_WAIT_2 1
7          2001:db8::1 [2001:db8::2]:5        1         -         0/9     -  NEW_SYN_RECV 1
-                                             1         -           -     -  LISTEN 1
`},
		{"destination,state", "-ports", 2, `LOCAL      REMOTE        STATE       SOCKETS    OLDEST       PORTS BOUND  STATES
10.0.0.1   192.0.2.9:443 FIN_WAIT_2        1         -         2/9     2  FIN_WAIT_2 1
10.0.0.1   192.0.2.9:443 TIME_WAIT         4  >43.155s         2/9     2  TIME_WAIT 4
(4 others)                                 4   >1.996s           -     -  LISTEN 1, ESTABLISHED 1, FIN_WAIT_2 1, NEW_SYN_RECV 1
`},
		{"cgroup,uid", "-oldest", 0, `CGROUP UID   SOCKETS    OLDEST  STATES
89     1000        1   >1.996s  FIN_WAIT_2 1
/web   0           1         -  LISTEN 1
-                  7  >43.155s  ESTABLISHED 1, FIN_WAIT_2 1, TIME_WAIT 4, NEW_SYN_RECV 1
`},
		{"port", "FIN_WAIT_2", 0, `PORT  SOCKETS    OLDEST  STATES
5           1         -  NEW_SYN_RECV 1
6           1      >0ms  ESTABLISHED 1
443         7  >43.155s  LISTEN 1, FIN_WAIT_2 2, TIME_WAIT 4
`},
		{"handler", "", 0, `HANDLER  SOCKETS    OLDEST  STATES
-              9  >43.155s  LISTEN 1, ESTABLISHED 1, FIN_WAIT_2 2, TIME_WAIT 4, NEW_SYN_RECV 1
`},
		{"netns,remote", "-ports", 2, `NETNS      NAME REMOTE       SOCKETS    OLDEST  STATES
7          blue 192.0.2.9          2   >1.996s  ESTABLISHED 1, FIN_WAIT_2 1
7          blue 2001:db8::2        1         -  NEW_SYN_RECV 1
(2 others)                         6  >43.155s  LISTEN 1, FIN_WAIT_2 1, TIME_WAIT 4
`},
	} {
		if d := cmp.Diff(c.want, groupText(t, 0, grouped(t, c.by, c.sort, c.top))); d != "" {
			t.Errorf("--by %s --sort %s --top %d: %s", c.by, c.sort, c.top, d)
		}
	}
	// A terminal that is too narrow gets fewer states.
	for line := range strings.Lines(groupText(t, 60, grouped(t, "netns", "", 0))) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 60 || n == 60 && !strings.HasSuffix(line, "…\n") {
			t.Errorf("%d columns: %q", n, line)
		}
	}
}

func TestGroupsJSON(t *testing.T) {
	var b bytes.Buffer
	for _, c := range []struct {
		by  string
		top int
	}{{"destination", 1}, {"pid,state", 1}, {"cgroup", 0}} {
		if err := NewJSON(&b, new(Names)).Groups(grouped(t, c.by, "-oldest", c.top)); err != nil {
			t.Fatal(err)
		}
	}
	const want = `{"event":"ls_group","by":"destination","name":"192.0.2.9:443","netns":4026531840,"local_addr":"10.0.0.1","ports_used":2,"ports_usable":9,"held_by_bind":2,"sockets":5,"states":{"FIN_WAIT_2":1,"TIME_WAIT":4},"oldest_ns":43155000000,"precision":"at_least"}
{"event":"ls_others","by":"destination","groups":3,"sockets":3,"states":{"ESTABLISHED":1,"FIN_WAIT_2":1,"NEW_SYN_RECV":1},"oldest_ns":1996000000,"precision":"at_least"}
{"event":"ls_group","by":"destination","name":null,"netns":null,"local_addr":null,"ports_used":null,"ports_usable":null,"held_by_bind":null,"sockets":1,"states":{"LISTEN":1},"oldest_ns":null,"precision":"unknown"}
{"event":"ls_group","by":"pid","name":null,"comm":null,"then_by":"state","then_name":"TIME_WAIT","sockets":4,"states":{"TIME_WAIT":4},"oldest_ns":43155000000,"precision":"at_least"}
{"event":"ls_others","by":"pid","then_by":"state","groups":5,"sockets":5,"states":{"LISTEN":1,"ESTABLISHED":1,"FIN_WAIT_2":2,"NEW_SYN_RECV":1},"oldest_ns":1996000000,"precision":"at_least"}
{"event":"ls_group","by":"cgroup","name":"89","cgroup_id":89,"sockets":1,"states":{"FIN_WAIT_2":1},"oldest_ns":1996000000,"precision":"at_least"}
{"event":"ls_group","by":"cgroup","name":"/web","cgroup_id":88,"sockets":1,"states":{"LISTEN":1},"oldest_ns":null,"precision":"unknown"}
{"event":"ls_group","by":"cgroup","name":null,"cgroup_id":null,"sockets":7,"states":{"ESTABLISHED":1,"FIN_WAIT_2":1,"TIME_WAIT":4,"NEW_SYN_RECV":1},"oldest_ns":43155000000,"precision":"at_least"}
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
}

// Whatever the groups, their order and how many are shown: each socket is in one of them, and what is
// shown adds up to all, by state, too.
func TestGroupsAddUp(t *testing.T) {
	var all [tracer.NewSynRecv + 1]uint64
	for _, r := range groupRows() {
		all[r.State]++
	}
	by := KeyWords()
	for _, first := range KeyWords() {
		for _, second := range KeyWords() {
			if first != second {
				by = append(by, first+","+second)
			}
		}
	}
	for _, words := range by {
		for _, sort := range append(SortFields(), "CLOSE_WAIT", "-sockets") {
			for top := range 4 {
				table := grouped(t, words, sort, top)
				if n := len(table.Groups); top > 0 && n > top {
					t.Errorf("--by %s --top %d: %d groups", words, top, n)
				}
				sum := new(Group)
				for _, g := range append(slices.Clone(table.Groups), table.Others, table.Unknown) {
					if g != nil {
						sum.merge(g)
					}
				}
				if n := uint64(len(groupRows())); sum.Sockets != n || sum.States != all || sum.Oldest != grouped(t, "handler", "", 0).Unknown.Oldest {
					t.Errorf("--by %s --sort %s --top %d: %d sockets of %d, by state %v of %v", words, sort, top, sum.Sockets, n, sum.States, all)
				}
				jsonSum(t, table, len(groupRows()))
			}
		}
	}
}

// jsonSum: what JSON shows adds up, too, and no object has a field twice.
func jsonSum(t *testing.T, table *Table, want int) {
	t.Helper()
	var b bytes.Buffer
	if err := NewJSON(&b, new(Names)).Groups(table); err != nil {
		t.Fatal(err)
	}
	sockets, states := 0, 0
	for line := range strings.Lines(b.String()) {
		var o struct {
			Sockets int
			States  map[string]int
		}
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		sockets += o.Sockets
		for _, n := range o.States {
			states += n
		}
		if err := noFieldTwice(line); err != nil {
			t.Errorf("%v in %s", err, line)
		}
	}
	if sockets != want || states != want {
		t.Errorf("by %v: %d sockets, %d by state, want %d", table.By, sockets, states, want)
	}
}

func noFieldTwice(line string) error {
	d := json.NewDecoder(strings.NewReader(line))
	seen := make(map[string]bool)
	depth, name := 0, false
	for {
		token, err := d.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch token {
		case json.Delim('{'):
			depth++
			name = true
		case json.Delim('}'):
			depth--
			name = true
		default:
			if depth == 1 && name {
				if seen[token.(string)] {
					return fmt.Errorf("%v is there twice", token)
				}
				seen[token.(string)] = true
			}
			name = !name
		}
	}
}

func TestGroupingRefuses(t *testing.T) {
	for _, c := range []struct {
		by, sort, say string
	}{
		{"colour", "", "there are state, port, remote, destination"},
		{"pid,state,uid", "", "one or two"},
		{"pid,pid", "", "are groups by pid"},
		{"pid", "colour", "sockets, oldest, name, ports, and states"},
	} {
		if _, err := NewGrouping(strings.Split(c.by, ","), c.sort, 0); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("--by %s --sort %s: %v", c.by, c.sort, err)
		}
	}
}

// A link-local destination is another one at each interface.
func TestLinkLocalDestinations(t *testing.T) {
	g, err := NewGrouping([]string{"destination"}, "name", 0)
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"eth0", "eth1"} {
		r := Row{NetNS: 7, Scope: tracer.Scope{ID: uint32(i + 1), Interface: name}, space: new(space)}
		r.Socket = sockdiag.Socket{State: 1, Local: netip.MustParseAddrPort("[fe80::1]:50000"), Remote: netip.MustParseAddrPort("[fe80::2]:80")}
		if err := g.Count(&r); err != nil {
			t.Fatal(err)
		}
	}
	const want = `LOCAL        REMOTE             SOCKETS    OLDEST       PORTS BOUND  STATES
fe80::1%eth0 [fe80::2%eth0]:80        1         -           -     -  ESTABLISHED 1
fe80::1%eth1 [fe80::2%eth1]:80        1         -           -     -  ESTABLISHED 1
`
	if d := cmp.Diff(want, groupText(t, 0, g.Table())); d != "" {
		t.Error(d)
	}
}

// Groups by names: several cgroups can have one, and a socket without a cgroup, or one whose name
// nobody knows, is counted where nothing is known.
func TestGroupsByName(t *testing.T) {
	for by, want := range map[string]string{"pod": "shop/web-0", "container": "web", "unit": "web\x1b.service"} {
		table := grouped(t, by, "-sockets", 0)
		if len(table.Groups) != 1 || table.Groups[0].Sockets != 1 || table.name(0, &table.Groups[0].values[0]) != want || table.Unknown == nil {
			t.Errorf("by %s: %+v, unknown %+v", by, table.Groups, table.Unknown)
		}
		if sum := table.Groups[0].Sockets + table.Unknown.Sockets; sum != uint64(len(groupRows())) {
			t.Errorf("by %s: %d sockets in all, want %d", by, sum, len(groupRows()))
		}
		if text := groupText(t, 0, table); strings.Contains(text, "\x1b") {
			t.Errorf("by %s: a control character in %q", by, text)
		}
	}
	var b bytes.Buffer
	if err := NewJSON(&b, testNames()).Groups(grouped(t, "netns", "name", 0)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), `"name":"7","netns_cookie":2,"netns_name":"blue"`) || !strings.Contains(b.String(), `"netns_name":null`) {
		t.Error(b.String())
	}
}
