package sockets

import (
	"bufio"
	"bytes"
	"net/netip"
	"testing"
	"time"

	"finwait/internal/sockdiag"
	"finwait/tracer"

	"github.com/google/go-cmp/cmp"
)

func comm(name string) (c tracer.Comm) {
	copy(c[:15], name)
	return c
}

// rows are one socket of each kind: listener, minisocks in both states, held FIN_WAIT_2, and a request.
func rows() []Row {
	ends := func(local, remote string) sockdiag.Socket {
		return sockdiag.Socket{Local: netip.MustParseAddrPort(local), Remote: netip.MustParseAddrPort(remote)}
	}
	listener := Row{Socket: ends("[::]:443", "[::]:0"), NetNS: 4026531840, Owner: tracer.Process{PID: 17, Comm: comm("ngi\x1bx")}}
	listener.State, listener.Cookie, listener.Inode, listener.UIDKnown, listener.CgroupID = uint8(tracer.Listen), 3, 9, true, 88

	timeWait := Row{Socket: ends("10.0.0.1:50000", "192.0.2.9:443"), NetNS: 4026531840}
	timeWait.State, timeWait.Cookie, timeWait.Kind = uint8(tracer.TimeWait), 4098, sockdiag.Minisock
	timeWait.Timer, timeWait.TimerLeft = sockdiag.TimeWait, 16841*time.Millisecond

	orphan := timeWait
	orphan.State, orphan.Cookie = uint8(tracer.FinWait2), 4099

	held := Row{Socket: ends("10.0.0.1:50002", "192.0.2.9:443"), NetNS: 7, Owner: tracer.Process{PID: 18, Comm: comm("curl")}}
	held.State, held.Cookie, held.Inode, held.UID, held.UIDKnown, held.CgroupID = uint8(tracer.FinWait2), 4100, 10, 1000, true, 89

	request := Row{Socket: ends("[2001:db8::1]:443", "[2001:db8::2]:5"), NetNS: 7}
	request.State, request.Cookie, request.Kind = uint8(tracer.NewSynRecv), 5, sockdiag.Request
	request.Timer, request.TimerLeft = sockdiag.Retransmit, 0
	return []Row{listener, timeWait, orphan, held, request}
}

func TestLsText(t *testing.T) {
	var b bytes.Buffer
	out := bufio.NewWriter(&b)
	s := NewText(out, false, func(id uint64) (string, bool) { return "/web", id == 88 })
	for _, r := range rows() {
		if err := s.Socket(&r); err != nil {
			t.Fatal(err)
		}
	}
	out.Flush()
	const want = `NETNS      STATE        LOCAL                 REMOTE                PID      COMM            UID    TIMER      LEFT     AGE      HELD   CGROUP
4026531840 LISTEN       [::]:443              [::]:*                17       ngi\x1bx        0      -          -        -        held   /web
4026531840 TIME_WAIT    10.0.0.1:50000        192.0.2.9:443         -        -               -      timewait   16.841s  >43.159s -      -
4026531840 FIN_WAIT_2   10.0.0.1:50000        192.0.2.9:443         -        -               -      timewait   16.841s  -        orphan -
7          FIN_WAIT_2   10.0.0.1:50002        192.0.2.9:443         18       curl            1000   -          -        -        held   89
7          NEW_SYN_RECV [2001:db8::1]:443     [2001:db8::2]:5       -        -               -      retransmit 0.000us  -        -      -
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
}

func TestLsJSON(t *testing.T) {
	var b bytes.Buffer
	s := NewJSON(&b)
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
	const want = `{"netns":4026531840,"cookie":3,"family":"ipv6","local_addr":"::","local_port":443,"remote_addr":"::","remote_port":0,"state":"LISTEN","owner":{"pid":17,"comm":"ngi\u001bx","holder":true},"uid":0,"cgroup_id":88,"timer":null,"timer_left_ms":null,"age_ms":null,"precision":"unknown","orphan":false}
{"netns":4026531840,"cookie":4098,"family":"ipv4","local_addr":"10.0.0.1","local_port":50000,"remote_addr":"192.0.2.9","remote_port":443,"state":"TIME_WAIT","owner":null,"uid":null,"cgroup_id":null,"timer":"timewait","timer_left_ms":16841,"age_ms":43159,"precision":"at_least","orphan":null}
{"netns":4026531840,"cookie":4099,"family":"ipv4","local_addr":"10.0.0.1","local_port":50000,"remote_addr":"192.0.2.9","remote_port":443,"state":"FIN_WAIT_2","owner":null,"uid":null,"cgroup_id":null,"timer":"timewait","timer_left_ms":16841,"age_ms":null,"precision":"unknown","orphan":true}
{"netns":7,"cookie":4100,"family":"ipv4","local_addr":"10.0.0.1","local_port":50002,"remote_addr":"192.0.2.9","remote_port":443,"state":"FIN_WAIT_2","owner":{"pid":18,"comm":"curl","holder":true},"uid":1000,"cgroup_id":89,"timer":null,"timer_left_ms":null,"age_ms":null,"precision":"unknown","orphan":false}
{"netns":7,"cookie":5,"family":"ipv6","local_addr":"2001:db8::1","local_port":443,"remote_addr":"2001:db8::2","remote_port":5,"state":"NEW_SYN_RECV","owner":null,"uid":null,"cgroup_id":null,"timer":"retransmit","timer_left_ms":0,"age_ms":null,"precision":"unknown","orphan":null}
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
	r := rows()[1]
	for left, want := range map[time.Duration]time.Duration{
		60 * time.Second: 0, 0: 60 * time.Second, 61 * time.Second: -1,
	} {
		r.TimerLeft = left
		age, known := r.Age()
		if known != (want >= 0) || known && age != want {
			t.Errorf("%v left: age %v, known %v; want %v", left, age, known, want)
		}
	}
}

func TestSortPutsTheUnknownLast(t *testing.T) {
	for field, want := range map[string][]uint64{ // cookies
		"age":    {4098, 3, 4099, 4100, 5},
		"-age":   {4098, 3, 4099, 4100, 5},
		"pid":    {3, 4100, 4098, 4099, 5},
		"-pid":   {4100, 3, 4098, 4099, 5},
		"comm":   {4100, 3, 4098, 4099, 5},
		"timer":  {5, 4098, 4099, 3, 4100},
		"-timer": {4098, 4099, 5, 3, 4100},
		"uid":    {3, 4100, 4098, 4099, 5},
		"-uid":   {4100, 3, 4098, 4099, 5},
		"cgroup": {3, 4100, 4098, 4099, 5},
		"state":  {4099, 4100, 4098, 3, 5},
		"netns":  {4100, 5, 3, 4098, 4099},
		"local":  {4098, 4099, 4100, 3, 5},
		"remote": {4098, 4099, 4100, 3, 5},
	} {
		compare, err := Order(field)
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
	for _, k := range SortFields() {
		if _, err := Order(k); err != nil {
			t.Error(err)
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

func (cookieSink) Count(*StateCount) error { return nil }

func TestSelection(t *testing.T) {
	for name, tc := range map[string]struct {
		filter tracer.Filter
		want   []uint64
	}{
		"nothing asked":  {tracer.Filter{}, []uint64{3, 4098, 4099, 4100, 5}},
		"port":           {tracer.Filter{Ports: []uint16{443, 1}}, []uint64{3, 4098, 4099, 4100, 5}},
		"local port":     {tracer.Filter{LocalPorts: []uint16{443}}, []uint64{3, 5}},
		"remote port":    {tracer.Filter{RemotePorts: []uint16{443}}, []uint64{4098, 4099, 4100}},
		"address":        {tracer.Filter{Addrs: addrs(netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("::2/128"))}, []uint64{4098, 4099, 4100}},
		"pid":            {tracer.Filter{PIDs: []uint32{18}}, []uint64{4100}},
		"comm":           {tracer.Filter{Comms: []string{"curl"}}, []uint64{4100}},
		"cgroup":         {tracer.Filter{Cgroups: []tracer.Cgroup{{ID: 80, Level: 1}}}, []uint64{3}},
		"root cgroup":    {tracer.Filter{Cgroups: []tracer.Cgroup{{ID: 1}}}, []uint64{3, 4100}},
		"removed cgroup": {tracer.Filter{Cgroups: []tracer.Cgroup{{ID: 12345, Level: 1}}}, nil},
		"IPv4":           {tracer.Filter{IPv4: true}, []uint64{4098, 4099, 4100}},
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
ESTABLISHED  0         0
SYN_SENT     0         0
SYN_RECV     0         0
FIN_WAIT_1   0         0
FIN_WAIT_2   1         1
TIME_WAIT    -         1
CLOSE_WAIT   0         0
LAST_ACK     0         0
LISTEN       0         0
CLOSING      0         0
NEW_SYN_RECV -         1
`},
		"held by no such process": {tracer.Filter{Comms: []string{"nobody"}, States: []tracer.State{tracer.FinWait2, tracer.Listen}}, `STATE        COUNT     OWNER_UNKNOWN
FIN_WAIT_2   -         1
LISTEN       0         0
`},
		"another port": {tracer.Filter{PIDs: []uint32{18}, LocalPorts: []uint16{50002}, States: []tracer.State{tracer.FinWait2, tracer.TimeWait}}, `STATE        COUNT     OWNER_UNKNOWN
FIN_WAIT_2   1         0
TIME_WAIT    -         0
`},
		"in a cgroup": {tracer.Filter{Cgroups: []tracer.Cgroup{{ID: 89}}, States: []tracer.State{tracer.FinWait2, tracer.TimeWait, tracer.Listen}}, `STATE        COUNT     OWNER_UNKNOWN
FIN_WAIT_2   1         1
TIME_WAIT    -         1
LISTEN       0         0
`},
	} {
		sel, err := Select(c.filter)
		if err != nil {
			t.Fatal(err)
		}
		sel.below(map[uint64]string{88: "/web", 89: "/curl"})
		var b bytes.Buffer
		out := bufio.NewWriter(&b)
		show, finish := Count(sel, NewText(out, false, nil))
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

func addrs(prefixes ...netip.Prefix) (list []tracer.AddrFilter) {
	for _, p := range prefixes {
		list = append(list, tracer.AddrFilter{Prefix: p})
	}
	return list
}
