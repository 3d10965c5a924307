package sockets

import (
	"bufio"
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"finwait/internal/label"
	"finwait/internal/sockdiag"
	"finwait/internal/text"
	"finwait/tracer"

	"github.com/google/go-cmp/cmp"
)

func comm(name string) (c tracer.Comm) {
	copy(c[:15], name)
	return c
}

// rows are one socket of each kind: listener, minisocks in both states, held FIN_WAIT_2, a request, and
// one that waits for accept(2).
func rows() []Row {
	ends := func(local, remote string) sockdiag.Socket {
		return sockdiag.Socket{Local: netip.MustParseAddrPort(local), Remote: netip.MustParseAddrPort(remote)}
	}
	listener := Row{Socket: ends("[::]:443", "[::]:0"), NetNS: 4026531840, Owner: tracer.Process{PID: 17, Comm: comm("ngi\x1bx")}}
	listener.State, listener.Cookie, listener.Inode, listener.UIDKnown, listener.CgroupID = uint8(tracer.Listen), 3, 9, true, 88

	listener.RecvQueue, listener.SendQueue, listener.FD = 2, 128, 3

	timeWait := Row{Socket: ends("10.0.0.1:50000", "192.0.2.9:443"), NetNS: 4026531840}
	timeWait.State, timeWait.Cookie, timeWait.Kind = uint8(tracer.TimeWait), 4098, sockdiag.Minisock
	timeWait.Timer, timeWait.TimerLeft = sockdiag.TimeWait, 16841*time.Millisecond

	orphan := timeWait
	orphan.State, orphan.Cookie = uint8(tracer.FinWait2), 4099

	held := Row{Socket: ends("10.0.0.1:50002", "192.0.2.9:443"), NetNS: 7, Owner: tracer.Process{PID: 18, Comm: comm("curl")}}
	held.State, held.Cookie, held.Inode, held.UID, held.UIDKnown, held.CgroupID = uint8(tracer.FinWait2), 4100, 10, 1000, true, 89

	held.FD, held.RecvQueue = 5, 7
	held.Info = sockdiag.Info{Known: true, DataSent: 2 * time.Second, DataReceived: 3 * time.Second, AckReceived: 2 * time.Second}

	request := Row{Socket: ends("[2001:db8::1]:443", "[2001:db8::2]:5"), NetNS: 7}
	request.State, request.Cookie, request.Kind = uint8(tracer.NewSynRecv), 5, sockdiag.Request
	request.Timer, request.TimerLeft = sockdiag.Retransmit, 0
	request.Retries = 4

	waiting := Row{Socket: ends("10.0.0.1:443", "192.0.2.9:6"), NetNS: 7} // nobody has accepted it
	waiting.State, waiting.Cookie, waiting.Info.Known = uint8(tracer.Established), 6, true
	return []Row{listener, timeWait, orphan, held, request, waiting}
}

// tickRate makes the kernel's tick rate for this test: what is expected of made rows does not depend
// on the kernel that runs.
func tickRate(t *testing.T, hz uint32) {
	before := tick
	tick = func() uint32 { return hz }
	t.Cleanup(func() { tick = before })
}

// texts are the lines of the rows on a terminal that wide, or on none.
func texts(t *testing.T, wide int, names ...string) string {
	t.Helper()
	tickRate(t, 250)
	columns, err := text.Choose(Columns, names)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	out := bufio.NewWriter(&b)
	s := NewText(out, text.Form{Width: func() int { return wide }}, columns, testNames())
	for _, r := range rows() {
		if err := s.Socket(&r); err != nil {
			t.Fatal(err)
		}
	}
	out.Flush()
	return b.String()
}

func TestLsText(t *testing.T) {
	const want = `NETNS      STATE        LOCAL                 REMOTE                PID     COMM            UID    TIMER      LEFT     AGE      HELD   CGROUP
4026531840 LISTEN       [::]:443              [::]:*                17      ngi\x1bx        0      -          -        -        held   /web
4026531840 TIME_WAIT    10.0.0.1:50000        192.0.2.9:443         -       -               -      timewait   16.841s  >43.155s -      -
4026531840 FIN_WAIT_2   10.0.0.1:50000        192.0.2.9:443         -       -               -      timewait   16.841s  -        orphan -
7          FIN_WAIT_2   10.0.0.1:50002        192.0.2.9:443         18      curl            1000   -          -        >1.996s  held   89
7          NEW_SYN_RECV [2001:db8::1]:443     [2001:db8::2]:5       -       -               -      retransmit 0ms      -        -      -
7          ESTABLISHED  10.0.0.1:443          192.0.2.9:6           -       -               -      -          -        >0ms     queued -
`
	if d := cmp.Diff(want, texts(t, 0)); d != "" {
		t.Error(d)
	}
	const all = `NETNS      STATE        RECV-Q  SEND-Q  LOCAL                 REMOTE                PID     COMM            FD     UID    ROLE     TIMER      LEFT     RETRIES AGE      IDLE     HELD   NETNS-NAME       NAME                     CGROUP
4026531840 LISTEN       2       128     [::]:443              [::]:*                17      ngi\x1bx        3      0      listener -          -        -       -        -        held   -                shop/web-0               /web
`
	if got := texts(t, 80, "all"); !strings.HasPrefix(got, all) {
		t.Errorf("all columns: %s", cmp.Diff(all, got))
	}
	const some = "SEND-Q  RETRIES\n128     -\n-       -\n-       -\n0       -\n-       4\n0       -\n"
	if d := cmp.Diff(some, texts(t, 10, "send_q", "retries")); d != "" {
		t.Errorf("those that were asked for: %s", d)
	}
	if _, err := text.Choose(Columns, []string{"pid", "colour"}); err == nil || !strings.Contains(err.Error(), "recv-q") {
		t.Errorf("an unknown column: %v", err)
	}
}

// A terminal shows what it has room for, and what matters most.
func TestLsTextFits(t *testing.T) {
	for wide, head := range map[int]string{
		1:   "STATE        LOCAL           REMOTE",
		80:  "STATE        LOCAL                 REMOTE                PID     AGE      HELD",
		96:  "NETNS      STATE        LOCAL            REMOTE          PID     COMM            AGE      HELD",
		141: "NETNS      STATE        LOCAL                 REMOTE                PID     COMM            UID    TIMER      LEFT     AGE      HELD   CGROUP",
	} {
		got := texts(t, wide)
		if line, _, _ := strings.Cut(got, "\n"); line != head {
			t.Errorf("%d columns: %q, want %q", wide, line, head)
		}
		for line := range strings.Lines(got) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > wide && wide > 1 {
				t.Errorf("%d columns on %d: %q", n, wide, line)
			}
		}
	}
}

// How each column is known and written: a table that a column cannot be forgotten in.
func TestEveryColumnCanBeReadAndSorted(t *testing.T) {
	for _, name := range text.Names(Columns) {
		if got := texts(t, 0, name); strings.Count(got, "\n") != 1+len(rows()) || strings.Trim(got, "-\n ") == strings.ToUpper(name) {
			t.Errorf("%s: %q", name, got)
		}
		for _, field := range []string{name, "-" + name} {
			if _, _, err := Order(field, new(Names)); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestLsJSON(t *testing.T) {
	tickRate(t, 250)
	var b bytes.Buffer
	s := NewJSON(&b, new(Names))
	for _, r := range rows() {
		if err := s.Socket(&r); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []StateCount{
		{State: tracer.TimeWait, Known: true, Count: 997}, {State: tracer.TimeWait, Owners: true, Unsure: 997},
		{State: tracer.FinWait2, Known: true, Count: 6, Owners: true, Unsure: 3},
	} {
		if err := s.Count(&c); err != nil {
			t.Fatal(err)
		}
	}
	const want = `{"netns":4026531840,"cookie":3,"family":"ipv6","local_addr":"::","local_port":443,"remote_addr":"::","remote_port":0,"state":"LISTEN","role":"listener","owner":{"pid":17,"comm":"ngi\u001bx","holder":true},"fd":3,"inode":9,"uid":0,"cgroup_id":88,"recv_q":null,"send_q":null,"accept_queue":2,"accept_queue_max":128,"timer":null,"timer_left_ms":null,"retransmits":null,"probes":null,"age_ms":null,"age_ns":null,"precision":"unknown","idle_ns":null,"idle_precision":"unknown","queued":false,"orphan":false}
{"netns":4026531840,"cookie":4098,"family":"ipv4","local_addr":"10.0.0.1","local_port":50000,"remote_addr":"192.0.2.9","remote_port":443,"state":"TIME_WAIT","role":null,"owner":null,"fd":null,"inode":null,"uid":null,"cgroup_id":null,"recv_q":null,"send_q":null,"accept_queue":null,"accept_queue_max":null,"timer":"timewait","timer_left_ms":16841,"retransmits":null,"probes":null,"age_ms":43155,"age_ns":43155000000,"precision":"at_least","idle_ns":null,"idle_precision":"unknown","queued":false,"orphan":null}
{"netns":4026531840,"cookie":4099,"family":"ipv4","local_addr":"10.0.0.1","local_port":50000,"remote_addr":"192.0.2.9","remote_port":443,"state":"FIN_WAIT_2","role":null,"owner":null,"fd":null,"inode":null,"uid":null,"cgroup_id":null,"recv_q":null,"send_q":null,"accept_queue":null,"accept_queue_max":null,"timer":"timewait","timer_left_ms":16841,"retransmits":null,"probes":null,"age_ms":null,"age_ns":null,"precision":"unknown","idle_ns":null,"idle_precision":"unknown","queued":false,"orphan":true}
{"netns":7,"cookie":4100,"family":"ipv4","local_addr":"10.0.0.1","local_port":50002,"remote_addr":"192.0.2.9","remote_port":443,"state":"FIN_WAIT_2","role":null,"owner":{"pid":18,"comm":"curl","holder":true},"fd":5,"inode":10,"uid":1000,"cgroup_id":89,"recv_q":7,"send_q":0,"accept_queue":null,"accept_queue_max":null,"timer":null,"timer_left_ms":null,"retransmits":null,"probes":null,"age_ms":1996,"age_ns":1996000000,"precision":"at_least","idle_ns":2000000000,"idle_precision":"jiffy","queued":false,"orphan":false}
{"netns":7,"cookie":5,"family":"ipv6","local_addr":"2001:db8::1","local_port":443,"remote_addr":"2001:db8::2","remote_port":5,"state":"NEW_SYN_RECV","role":"server","owner":null,"fd":null,"inode":null,"uid":null,"cgroup_id":null,"recv_q":null,"send_q":null,"accept_queue":null,"accept_queue_max":null,"timer":"retransmit","timer_left_ms":0,"retransmits":4,"probes":null,"age_ms":null,"age_ns":null,"precision":"unknown","idle_ns":null,"idle_precision":"unknown","queued":false,"orphan":null}
{"netns":7,"cookie":6,"family":"ipv4","local_addr":"10.0.0.1","local_port":443,"remote_addr":"192.0.2.9","remote_port":6,"state":"ESTABLISHED","role":"server","owner":null,"fd":null,"inode":null,"uid":null,"cgroup_id":null,"recv_q":0,"send_q":0,"accept_queue":null,"accept_queue_max":null,"timer":null,"timer_left_ms":null,"retransmits":null,"probes":null,"age_ms":0,"age_ns":0,"precision":"at_least","idle_ns":0,"idle_precision":"jiffy","queued":true,"orphan":null}
{"state":"TIME_WAIT","live":997}
{"state":"TIME_WAIT","live":null,"owner_unknown":997}
{"state":"FIN_WAIT_2","live":6,"owner_unknown":3}
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
}

// TIME_WAIT is at least as old as the timer says; one with more left than 60 s is no TIME_WAIT that we know.
func TestAge(t *testing.T) {
	tickRate(t, 250)
	r := rows()[1]
	for left, want := range map[time.Duration]time.Duration{
		60 * time.Second: 0, 0: 60*time.Second - 4*time.Millisecond, 61 * time.Second: -1,
	} {
		r.TimerLeft = left
		age, p := r.Age()
		known := p != tracer.PrecisionUnknown
		if known != (want >= 0) || known && age != want {
			t.Errorf("%v left: age %v, known %v; want %v", left, age, known, want)
		}
	}
}

// Two jiffies that are n apart can be hardly more than n - 1 of them apart, and ms are rounded up
// where a jiffy is no whole number of them.
func TestLeastSince(t *testing.T) {
	for hz, want := range map[uint32]time.Duration{
		100: 990 * time.Millisecond, 250: 996 * time.Millisecond, 300: 995 * time.Millisecond, 1000: 999 * time.Millisecond,
	} {
		tickRate(t, hz)
		if got := leastSince(time.Second); got != want {
			t.Errorf("1 s at %d Hz: %v, want %v", hz, got, want)
		}
		if got := leastSince(0); got != 0 {
			t.Errorf("nothing at %d Hz: %v", hz, got)
		}
	}
}

func TestSortPutsTheUnknownLast(t *testing.T) {
	tickRate(t, 250)
	for field, want := range map[string][]uint64{ // cookies
		"age":      {6, 4100, 4098, 3, 4099, 5},
		"-age":     {4098, 4100, 6, 3, 4099, 5},
		"pid":      {3, 4100, 4098, 4099, 5, 6},
		"-pid":     {4100, 3, 4098, 4099, 5, 6},
		"comm":     {4100, 3, 4098, 4099, 5, 6},
		"timer":    {5, 4098, 4099, 3, 4100, 6},
		"-timer":   {4098, 4099, 5, 3, 4100, 6},
		"uid":      {3, 4100, 4098, 4099, 5, 6},
		"-uid":     {4100, 3, 4098, 4099, 5, 6},
		"cgroup":   {3, 4100, 4098, 4099, 5, 6},
		"state":    {6, 4099, 4100, 4098, 3, 5},
		"netns":    {4100, 5, 6, 3, 4098, 4099},
		"local":    {6, 4098, 4099, 4100, 3, 5},
		"remote":   {6, 4098, 4099, 4100, 3, 5},
		"recv-q":   {6, 3, 4100, 4098, 4099, 5},
		"-recv_q":  {4100, 3, 6, 4098, 4099, 5},
		"-send-q":  {3, 4100, 6, 4098, 4099, 5},
		"-fd":      {4100, 3, 4098, 4099, 5, 6},
		"role":     {5, 6, 3, 4098, 4099, 4100},
		"-retries": {5, 3, 4098, 4099, 4100, 6},
		"-idle":    {4100, 6, 3, 4098, 4099, 5},
		"held":     {3, 4100, 4099, 6, 4098, 5},
	} {
		compare, _, err := Order(field, new(Names))
		if err != nil {
			t.Fatal(err)
		}
		var got []uint64
		show, finish := Collect(compare, cookies(&got))
		for _, r := range rows() {
			if err := show(&r); err != nil {
				t.Fatal(err)
			}
		}
		if err := finish(); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("--sort %s: %s", field, d)
		}
	}
}

// cookieSink keeps which sockets it was shown.
type cookieSink struct{ to *[]uint64 }

func cookies(to *[]uint64) cookieSink { return cookieSink{to} }

func (c cookieSink) Socket(r *Row) error {
	*c.to = append(*c.to, r.Cookie)
	return nil
}

func (cookieSink) Reading(*Reading) error { return nil }

func (cookieSink) Count(*StateCount) error { return nil }

func (cookieSink) Groups(*Table) error { return nil }

func TestSelection(t *testing.T) {
	for name, tc := range map[string]struct {
		filter tracer.Filter
		want   []uint64
	}{
		"nothing asked":  {tracer.Filter{}, []uint64{3, 4098, 4099, 4100, 5, 6}},
		"port":           {tracer.Filter{Ports: []tracer.PortRange{tracer.Port(443), tracer.Port(1)}}, []uint64{3, 4098, 4099, 4100, 5, 6}},
		"local port":     {tracer.Filter{LocalPorts: []tracer.PortRange{tracer.Port(443)}}, []uint64{3, 5, 6}},
		"remote port":    {tracer.Filter{RemotePorts: []tracer.PortRange{tracer.Port(443)}}, []uint64{4098, 4099, 4100}},
		"ports":          {tracer.Filter{LocalPorts: []tracer.PortRange{{First: 442, Last: 444}}}, []uint64{3, 5, 6}},
		"not port":       {tracer.Filter{NotPorts: []tracer.PortRange{{First: 2, Last: 443}}}, nil},
		"cookies":        {tracer.Filter{Cookies: []uint64{5, 4100, 12}}, []uint64{4100, 5}},
		"endpoint":       {tracer.Filter{Addrs: []tracer.AddrFilter{{Prefix: netip.MustParsePrefix("192.0.2.9/32"), Port: 443}}}, []uint64{4098, 4099, 4100}},
		"other endpoint": {tracer.Filter{Addrs: []tracer.AddrFilter{{Prefix: netip.MustParsePrefix("10.0.0.1/32"), Port: 443}}}, []uint64{6}},
		"not address":    {tracer.Filter{NotAddrs: addrs(netip.MustParsePrefix("192.0.2.0/24"))}, []uint64{3, 5}},
		"not pid":        {tracer.Filter{NotPIDs: []uint32{18}}, []uint64{3, 4098, 4099, 5, 6}},
		"not comm":       {tracer.Filter{NotComms: []string{"curl"}}, []uint64{3, 4098, 4099, 5, 6}},
		"address":        {tracer.Filter{Addrs: addrs(netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("::2/128"))}, []uint64{4098, 4099, 4100, 6}},
		"pid":            {tracer.Filter{PIDs: []uint32{18}}, []uint64{4100}},
		"comm":           {tracer.Filter{Comms: []string{"curl"}}, []uint64{4100}},
		"cgroup":         {tracer.Filter{Cgroups: []tracer.Cgroup{{ID: 80, Level: 1}}}, []uint64{3}},
		"root cgroup":    {tracer.Filter{Cgroups: []tracer.Cgroup{{ID: 1}}}, []uint64{3, 4100}},
		"removed cgroup": {tracer.Filter{Cgroups: []tracer.Cgroup{{ID: 12345, Level: 1}}}, nil},
		"IPv4":           {tracer.Filter{IPv4: true}, []uint64{4098, 4099, 4100, 6}},
		"IPv6":           {tracer.Filter{IPv6: true}, []uint64{3, 5}},
		"state":          {tracer.Filter{States: []tracer.State{tracer.FinWait2, tracer.NewSynRecv}}, []uint64{4099, 4100, 5}},
		"two kinds":      {tracer.Filter{States: []tracer.State{tracer.FinWait2}, PIDs: []uint32{17, 18}}, []uint64{4100}},
	} {
		s, err := Select(tc.filter)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		s.below(map[uint64]string{1: "/", 80: "/w", 88: "/w/eb", 89: "/web"})
		var got []uint64
		for _, r := range rows() {
			if s.Matches(&r) {
				got = append(got, r.Cookie)
			}
		}
		if d := cmp.Diff(tc.want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// What cannot be known is not counted as none.
func TestCountByOwner(t *testing.T) {
	for name, c := range map[string]struct {
		filter tracer.Filter
		want   string
	}{
		"nothing asked": {tracer.Filter{States: []tracer.State{tracer.FinWait2, tracer.TimeWait}}, `STATE        COUNT
FIN_WAIT_2   2
TIME_WAIT    1
`},
		"held": {tracer.Filter{PIDs: []uint32{18}}, `STATE        COUNT     OWNER_UNKNOWN
LISTEN       0         0
SYN_SENT     0         0
SYN_RECV     0         0
ESTABLISHED  -         1
FIN_WAIT_1   0         0
FIN_WAIT_2   1         1
CLOSING      0         0
TIME_WAIT    -         1
CLOSE_WAIT   0         0
LAST_ACK     0         0
NEW_SYN_RECV -         1
`},
		"held by no such process": {tracer.Filter{Comms: []string{"nobody"}, States: []tracer.State{tracer.FinWait2, tracer.Listen}}, `STATE        COUNT     OWNER_UNKNOWN
LISTEN       0         0
FIN_WAIT_2   -         1
`},
		"another port": {tracer.Filter{PIDs: []uint32{18}, LocalPorts: []tracer.PortRange{tracer.Port(50002)}, States: []tracer.State{tracer.FinWait2, tracer.TimeWait}}, `STATE        COUNT     OWNER_UNKNOWN
FIN_WAIT_2   1         0
TIME_WAIT    -         0
`},
		"in a cgroup": {tracer.Filter{Cgroups: []tracer.Cgroup{{ID: 89}}, States: []tracer.State{tracer.FinWait2, tracer.TimeWait, tracer.Listen}}, `STATE        COUNT     OWNER_UNKNOWN
LISTEN       0         0
FIN_WAIT_2   1         1
TIME_WAIT    -         1
`},
	} {
		sel, err := Select(c.filter)
		if err != nil {
			t.Fatal(err)
		}
		sel.below(map[uint64]string{88: "/web", 89: "/curl"})
		var b bytes.Buffer
		out := bufio.NewWriter(&b)
		show, finish := Count(sel, NewText(out, text.Form{}, text.Columns[Entry]{}, nil))
		for _, r := range rows() {
			if sel.Matches(&r) {
				if err := show(&r); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := finish(); err != nil {
			t.Fatal(err)
		}
		out.Flush()
		if d := cmp.Diff(c.want, b.String()); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// --min-age lists what is known to be so old. What may be older than is known is counted apart.
func TestMinAge(t *testing.T) {
	tickRate(t, 250)
	for least, want := range map[time.Duration]struct {
		listed           []uint64
		younger, ageless uint64
		unknown          uint64 // if pid 18 is asked for, too
	}{
		0:                        {[]uint64{3, 4098, 4099, 4100, 5, 6}, 0, 0, 4},
		1996 * time.Millisecond:  {[]uint64{4098, 4100}, 1, 3, 3},
		2 * time.Second:          {[]uint64{4098}, 2, 3, 3},
		43156 * time.Millisecond: {nil, 3, 3, 2},
	} {
		for _, pids := range [][]uint32{nil, {18}} {
			sel, err := Select(tracer.Filter{PIDs: pids})
			if err != nil {
				t.Fatal(err)
			}
			sel.MinAge = least
			var got []uint64
			for _, r := range rows() {
				if sel.Matches(&r) {
					got = append(got, r.Cookie)
				}
			}
			younger, ageless := sel.NotOldEnough()
			if pids != nil {
				if sel.Unknown() != want.unknown || ageless != 0 || younger+uint64(len(got)) != 1 {
					t.Errorf("%v, with a pid: %d, younger %d, of no age %d, of no owner %d", least, got, younger, ageless, sel.Unknown())
				}
				continue
			}
			if d := cmp.Diff(want.listed, got); d != "" || younger != want.younger || ageless != want.ageless {
				t.Errorf("%v: younger %d, of no age %d: %s", least, younger, ageless, d)
			}
		}
	}
	// Where some may be old enough, there is no 0.
	sel, err := Select(tracer.Filter{States: []tracer.State{tracer.Established, tracer.FinWait2, tracer.Listen, tracer.LastAck}})
	if err != nil {
		t.Fatal(err)
	}
	sel.MinAge = time.Second
	var b bytes.Buffer
	out := bufio.NewWriter(&b)
	show, finish := Count(sel, NewText(out, text.Form{}, text.Columns[Entry]{}, nil))
	for _, r := range rows() {
		if sel.Matches(&r) {
			if err := show(&r); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := finish(); err != nil {
		t.Fatal(err)
	}
	out.Flush()
	const want = "STATE        COUNT\nLISTEN       -\nESTABLISHED  -\nFIN_WAIT_2   1\nLAST_ACK     0\n"
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
}

func addrs(prefixes ...netip.Prefix) (list []tracer.AddrFilter) {
	for _, p := range prefixes {
		list = append(list, tracer.AddrFilter{Prefix: p})
	}
	return list
}

// fixed names one cgroup, and one network namespace.
type fixed struct{}

func (fixed) Cgroup(id uint64) (label.Cgroup, bool) {
	if id != 88 {
		return label.Cgroup{}, false
	}
	return label.Cgroup{Path: "/web", Unit: "web\x1b.service", Container: "web", PodNamespace: "shop", Pod: "web-0", PodUID: "u"}, true
}

func (fixed) NetNS(inode uint32, _ uint64) string {
	if inode == 7 {
		return "blue"
	}
	return ""
}

func testNames() *Names { return &Names{Label: fixed{}, paths: map[uint64]string{88: "/web"}} }

// Addresses of IPv6 do not move the columns behind them: a narrow terminal shortens them, a wide one
// has room.
func TestLsLongAddresses(t *testing.T) {
	tickRate(t, 250)
	long := rows()[5]
	long.Local = netip.MustParseAddrPort("[2001:db8:1111:2222:3333:4444:5555:6666]:50443")
	long.Remote = netip.MustParseAddrPort("[fe80::1234:5678:9abc:def0]:9090")
	long.Scope = tracer.Scope{ID: 2, Interface: "enp0s31f6"}
	for wide, want := range map[int]string{
		80:  "ESTABLISHED  [2001:db…:6666]:50443 [fe80::1…0s31f6]:9090 -       >0ms     queued",
		100: "7          ESTABLISHED  [2001:d…666]:50443 [fe80::…1f6]:9090 -       -               >0ms     queued",
		200: "7          ESTABLISHED  [2001:db8:1111:2222:3333:4444:5555:6666]:50443 [fe80::1234:5678:9abc:def0%enp0s31f6]:9090     -       -               -      -          -        >0ms     queued -",
		0:   "7          ESTABLISHED  [2001:db8:1111:2222:3333:4444:5555:6666]:50443 [fe80::1234:5678:9abc:def0%enp0s31f6]:9090 - - - - - >0ms queued -",
	} {
		var b bytes.Buffer
		out := bufio.NewWriter(&b)
		s := NewText(out, text.Form{Width: func() int { return wide }}, text.Usual(Columns), testNames())
		for _, r := range []Row{long, rows()[5]} {
			if err := s.Socket(&r); err != nil {
				t.Fatal(err)
			}
		}
		out.Flush()
		lines := strings.Split(b.String(), "\n")
		if lines[1] != want {
			t.Errorf("%d columns:\n%s\n%q, want\n%q", wide, lines[0], lines[1], want)
		}
		if wide > 0 && strings.Index(lines[2], "queued") != strings.Index(lines[0], "HELD") {
			t.Errorf("%d columns: HELD has moved:\n%s", wide, &b)
		}
	}
}
