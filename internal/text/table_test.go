package text

import (
	"bufio"
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"finwait/tracer"

	"github.com/google/go-cmp/cmp"
)

// A thing is what the table of these tests shows.
type thing struct {
	name   string
	n      int
	remote string
	scope  tracer.Scope
	why    string
}

var thingColumns = []Column[thing]{
	{Name: "name", About: "what it is called", Width: 10, Goes: 2, Cut: Middle, Cell: func(b []byte, r thing) []byte { return append(b, r.name...) }},
	{Name: "n", About: "how many", Width: 5, Least: 3, Goes: 1, Right: true, Cell: func(b []byte, r thing) []byte { return fmt.Append(b, r.n) }},
	Endpoint("remote", "the other end", Never, func(r thing) (netip.AddrPort, tracer.Scope) {
		return netip.MustParseAddrPort(r.remote), r.scope
	}),
	{Name: "hidden", About: "what is only shown if it is asked for", Width: 6, Cell: func(b []byte, _ thing) []byte { return b }},
	{Name: "why", About: "the reason", Width: 20, Least: 15, Goes: Never, Cut: Words, Blank: true, Cell: func(b []byte, r thing) []byte { return append(b, r.why...) }},
}

var things = []thing{
	{"a", 1, "10.0.0.9:80", tracer.Scope{}, "closed"},
	{"b", 22222222, "255.255.255.255:65535", tracer.Scope{}, "fin_received"},
	{"c", 3, "[2001:db8:1111:2222:3333:4444:5555:6666]:50443", tracer.Scope{}, "aborted unread_data closer=12/curl"},
	{"d", 4, "[fe80::1234:5678:9abc:def0]:50443", tracer.Scope{ID: 2, Interface: "enp0s31f6"}, ""},
	{"e", 5, "[::ffff:192.168.100.200]:50443", tracer.Scope{}, "netns_removed pod=shop/web"},
	{"a-name-that-is-as-long-as-it-gets", 6, "[::]:0", tracer.Scope{}, "time_wait_overflow"},
}

// thingText is what is written on a terminal that wide; 0: on none.
func thingText(t *testing.T, wide int, names ...string) string {
	t.Helper()
	columns, err := Choose(thingColumns, names)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	table := NewTable(w, Form{Width: func() int { return wide }}, columns)
	for _, r := range things {
		if err := table.Row(r); err != nil {
			t.Fatal(err)
		}
	}
	w.Flush()
	return b.String()
}

// What fits, what is cut and how, and what never is. Below 80 columns things are cut that are not
// longer than usual.
func TestTable(t *testing.T) {
	for _, c := range []struct {
		wide  int
		names []string
		want  string
	}{
		{0, nil, `NAME           N  REMOTE                WHY
a              1  10.0.0.9:80           closed
b       22222222  255.255.255.255:65535 fin_received
c              3  [2001:db8:1111:2222:3333:4444:5555:6666]:50443 aborted unread_data closer=12/curl
d              4  [fe80::1234:5678:9abc:def0%enp0s31f6]:50443
e              5  [::ffff:192.168.100.200]:50443 netns_removed pod=shop/web
a-name-that-is-as-long-as-it-gets 6  [::]:* time_wait_overflow
`},
		{40, nil, `REMOTE               WHY
10.0.0.9:80          closed
255.255.255.255:65535 fin_received
[2001:db…6666]:50443 aborted …
[fe80::1…31f6]:50443
[::ffff:….200]:50443 netns_removed …
[::]:*               time_wait_overflow
`},
		{80, nil, `NAME           N  REMOTE                                    WHY
a              1  10.0.0.9:80                               closed
b       22222222  255.255.255.255:65535                     fin_received
c             3  [2001:db8:1111:2…33:4444:5555:6666]:50443 aborted unread_data …
d              4  [fe80::1234:5678…bc:def0%enp0s31f6]:50443
e              5  [::ffff:192.168.100.200]:50443      netns_removed pod=shop/web
a-na…-gets     6  [::]:*                                    time_wait_overflow
`},
		{100, nil, `NAME           N  REMOTE                                         WHY
a              1  10.0.0.9:80                                    closed
b       22222222  255.255.255.255:65535                          fin_received
c              3  [2001:db8:1111:2222:3333:4444:5555:6666]:50443 aborted unread_data closer=12/curl
d              4  [fe80::1234:5678:9abc:def0%enp0s31f6]:50443
e              5  [::ffff:192.168.100.200]:50443                 netns_removed pod=shop/web
a-na…-gets     6  [::]:*                                         time_wait_overflow
`},
		{200, nil, `NAME           N  REMOTE                                         WHY
a              1  10.0.0.9:80                                    closed
b       22222222  255.255.255.255:65535                          fin_received
c              3  [2001:db8:1111:2222:3333:4444:5555:6666]:50443 aborted unread_data closer=12/curl
d              4  [fe80::1234:5678:9abc:def0%enp0s31f6]:50443
e              5  [::ffff:192.168.100.200]:50443                 netns_removed pod=shop/web
a-na…-gets     6  [::]:*                                         time_wait_overflow
`},
		{20, []string{"why", "hidden", "n", "remote"}, `WHY                  HIDDEN     N  REMOTE
closed               -          1  10.0.0.9:80
fin_received         -   22222222  255.255.255.255:65535
aborted unread_data closer=12/curl - 3  [2001:db8:1111:2222:3333:4444:5555:6666]:50443
                     -          4  [fe80::1234:5678:9abc:def0%enp0s31f6]:50443
netns_removed pod=shop/web -    5  [::ffff:192.168.100.200]:50443
time_wait_overflow   -          6  [::]:*
`},
	} {
		if d := cmp.Diff(c.want, thingText(t, c.wide, c.names...)); d != "" {
			t.Errorf("%d columns, %v: %s", c.wide, c.names, d)
		}
	}
}

// Each line fits every terminal that has room for the columns that stay, and what is not whole says so.
func TestTableFits(t *testing.T) {
	for wide := len("255.25…55:65535 time_wait_overflow"); wide < 200; wide++ {
		lines := strings.Split(thingText(t, wide), "\n")[1:]
		for i, r := range things {
			if n := utf8.RuneCountInString(lines[i]); n > wide {
				t.Errorf("%d columns of %d: %s", n, wide, lines[i])
			}
			remote := string(AppendEndpoint(nil, netip.MustParseAddrPort(r.remote), r.scope))
			if !strings.Contains(lines[i], remote) && !strings.Contains(lines[i], "…") {
				t.Errorf("%d columns: %s is cut silently: %s", wide, remote, lines[i])
			}
			port := remote[strings.LastIndexByte(remote, ':'):]
			if !strings.Contains(lines[i], port) {
				t.Errorf("%d columns have no port %s: %s", wide, port, lines[i])
			}
		}
	}
}

// A terminal that changes its width gets a new line of titles.
func TestTableResized(t *testing.T) {
	wide := 80
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	table := NewTable(w, Form{Width: func() int { return wide }}, Usual(thingColumns))
	for _, wide = range []int{80, 80, 40, 40, 80, 83} {
		if err := table.Row(things[0]); err != nil {
			t.Fatal(err)
		}
	}
	w.Flush()
	if n := strings.Count(b.String(), "REMOTE"); n != 4 {
		t.Errorf("%d lines of titles:\n%s", n, &b)
	}
}

// Colours are not counted, and no title is written that nobody wants.
func TestTableForm(t *testing.T) {
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	columns, err := Choose(thingColumns, []string{"hidden", "name"})
	if err != nil {
		t.Fatal(err)
	}
	if err := NewTable(w, Form{Colour: true, NoHead: true}, columns).Row(things[0]); err != nil {
		t.Fatal(err)
	}
	w.Flush()
	if want := Dim + "-" + Plain + "      a\n"; b.String() != want {
		t.Errorf("%q, want %q", &b, want)
	}
}

func TestChoose(t *testing.T) {
	for names, want := range map[string]string{
		"": "name n remote why", "all": "name n remote hidden why", "why,name": "why name", "hidden": "hidden",
	} {
		var asked []string
		if names != "" {
			asked = strings.Split(names, ",")
		}
		c, err := Choose(thingColumns, asked)
		if got := strings.Join(c.Names(), " "); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", names, got, err, want)
		}
	}
	if _, err := Choose(thingColumns, []string{"name", "colour"}); err == nil || !strings.Contains(err.Error(), "name, n, remote, hidden, why") {
		t.Errorf("no such column: %v", err)
	}
	kept := Usual(thingColumns)
	kept.Keep("n")
	kept.Remove("name")
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	if err := NewTable(w, Form{Width: func() int { return 20 }}, kept).Head(); err != nil {
		t.Fatal(err)
	}
	w.Flush()
	if got := strings.Join(strings.Fields(b.String()), " "); got != "N REMOTE WHY" {
		t.Errorf("columns that are kept: %q", got)
	}
	if got := Going(thingColumns); got != "N, NAME" {
		t.Errorf("a terminal loses %q", got)
	}
}

func TestExplain(t *testing.T) {
	var b bytes.Buffer
	if err := Explain(&b, thingColumns); err != nil {
		t.Fatal(err)
	}
	const want = "name    what it is called\nn       how many\nremote  the other end\nhidden  what is only shown if it is asked for\nwhy     the reason\n\n" +
		"Without --columns there are name, n, remote, why.\n"
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
}

// Items are cut to their column, also if they are all that there is; an item that has no room is not
// cut in itself.
func TestItems(t *testing.T) {
	items := []Column[string]{{Name: "items", Width: 9, Least: 5, Goes: Never, Cut: Items, Cell: func(b []byte, r string) []byte { return append(b, r...) }}}
	for wide, want := range map[int]string{
		0: "one 1, two 22, three 333", 24: "one 1, two 22, three 333", 23: "one 1, two 22, …", 15: "one 1, …", 7: "…",
	} {
		var b bytes.Buffer
		w := bufio.NewWriter(&b)
		if err := NewTable(w, Form{NoHead: true, Width: func() int { return wide }}, Usual(items)).Row("one 1, two 22, three 333"); err != nil {
			t.Fatal(err)
		}
		w.Flush()
		if got := strings.TrimSuffix(b.String(), "\n"); got != want {
			t.Errorf("%d columns: %q, want %q", wide, got, want)
		}
	}
}
