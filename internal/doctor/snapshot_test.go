package doctor

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

// host is the initial network namespace, with so many orphans of at most 1000.
func host(orphans int64, changes ...func(*Space)) *Space {
	return quiet(both(append(changes, sysctl("tcp_max_orphans", "1000"), func(s *Space) {
		s.Counters = map[string]int64{"sockstat.TCP.orphan": orphans}
	})...))
}

func moved(counters map[string]int64) func(*Space) {
	return func(s *Space) {
		for name, n := range counters {
			s.Moved["TcpExt."+name] = n
		}
	}
}

func listener(l Listener) func(*Space) {
	return func(s *Space) { s.Listeners = append(s.Listeners, l) }
}

func stuck(full []Full, unanswered ...uint8) []Stuck {
	return []Stuck{{Local: 443, Example: netip.MustParseAddrPort("203.0.113.4:50000"), Full: full, Unanswered: unanswered}}
}

func handshakes(retries uint8, ofOne, others int) func(*Space) {
	return func(s *Space) {
		h := Handshakes{Local: 443, Peers: map[netip.Addr][]uint8{netip.MustParseAddr("10.1.0.9"): slices.Repeat([]uint8{retries}, ofOne)}}
		for a := netip.MustParseAddr("10.1.1.1"); others > 0; others, a = others-1, a.Next() {
			h.Peers[a] = []uint8{retries, 0}
		}
		s.Handshakes = []Handshakes{h}
	}
}

// held has a range of 20 ports, of which so many are used towards a destination, and so many are held
// by bind().
func held(used uint64, by int, known bool) func(*Space) {
	return func(s *Space) {
		s.Low, s.High, s.Usable, s.Held, s.HeldKnown = 40000, 40019, 20, by, known
		s.Destinations[0].Used, s.Destinations[0].TimeWaits = used, 0
		s.Binder, s.Binders = Process{PID: 91, Comm: "proxy"}, uint64(by)
	}
}

func init() {
	at := netip.MustParseAddrPort
	app := Process{PID: 44, Comm: "app"}
	for name, sc := range map[string]struct {
		in   *Input
		want string
	}{
		"ports that bind() holds":       {input(quiet(held(3, 17, true))), "ports-held-by-binders will_fail, port-range-shape note"},
		"ports that all hold together":  {input(quiet(held(15, 5, true))), "ports-held-by-binders will_fail, port-range-shape note"},
		"a port that is left":           {input(quiet(held(3, 16, true))), "port-range-shape note"},
		"ports that are held twice":     {input(quiet(both(held(3, 17, true), func(s *Space) { s.Destinations[0].Held = 1 }))), "port-range-shape note"},
		"holders that are not known":    {input(quiet(held(3, 17, false))), "port-range-shape note"},
		"all ports held, and none used": {input(quiet(both(held(0, 20, true), func(s *Space) { s.Destinations = nil }))), "ports-held-by-binders will_fail, port-range-shape note"},
		"held, and reuse may help": {input(quiet(both(held(15, 5, true), sysctl("tcp_tw_reuse", "1"), func(s *Space) { s.Destinations[0].TimeWaits = 10 }))),
			"port-range-shape note"},

		"a peer that does not read":          {input(quiet(func(s *Space) { s.FinWait1s = stuck([]Full{{41 * time.Second, 3782145}, {time.Second, 9000}}) })), "fin-wait-1-stuck risk"},
		"a peer that does not read a little": {input(quiet(func(s *Space) { s.FinWait1s = stuck([]Full{{10 * time.Second, 1<<20 - 1}}) })), "fin-wait-1-stuck note"},
		"a peer that reads slowly":           {input(quiet(func(s *Space) { s.FinWait1s = stuck([]Full{{9 * time.Second, 3782145}}) })), ""},
		"a peer that is gone":                {input(quiet(func(s *Space) { s.FinWait1s = stuck(nil, 3, 8, 2) })), "fin-wait-1-stuck note"},
		"peers that lost a segment":          {input(quiet(func(s *Space) { s.FinWait1s = stuck(nil, 2, 1, 2) })), ""},
		"peers of both kinds":                {input(quiet(func(s *Space) { s.FinWait1s = stuck([]Full{{time.Minute, 2 << 20}}, 3) })), "fin-wait-1-stuck risk, fin-wait-1-stuck note"},
		"a destination that is gone": {input(quiet(func(s *Space) {
			s.FinWait1s = []Stuck{{Remote: at("10.0.0.8:80"), Example: at("10.0.0.8:80"), Unanswered: []uint8{5}}}
		})), "fin-wait-1-stuck note"},
		"last ACKs":           {input(quiet(func(s *Space) { s.LastAcks = stuck(nil, 2, 3) })), "last-ack-stuck note"},
		"last ACKs under way": {input(quiet(func(s *Space) { s.LastAcks = stuck(nil, 1) })), ""},

		"handshakes of one":            {input(quiet(handshakes(2, 10, 0))), "handshake-not-finished note"},
		"handshakes of many":           {input(quiet(handshakes(3, 2, 38))), "handshake-not-finished note"},
		"a few handshakes":             {input(quiet(handshakes(2, 4, 5))), ""},
		"many handshakes just started": {input(quiet(handshakes(1, 100, 100))), ""},

		"dropped by a SYN queue": {input(quiet(moved(map[string]int64{"TCPReqQFullDrop": 7}))), "syn-queue-cookies failing"},
		"cookies of clients": {input(quiet(moved(map[string]int64{"TCPReqQFullDoCookies": 100, "SyncookiesSent": 100, "SyncookiesRecv": 97}))),
			"syn-queue-cookies note"},
		"cookies of nobody":       {input(quiet(moved(map[string]int64{"TCPReqQFullDoCookies": 100, "SyncookiesSent": 100, "SyncookiesRecv": 3}))), "syn-queue-cookies note"},
		"cookies for all clients": {input(quiet(moved(map[string]int64{"SyncookiesSent": 100, "SyncookiesRecv": 100}))), ""},

		"a table nearly full":   {input(quiet(func(s *Space) { conntrack(s, "196608", "262144") })), "conntrack-table will_fail"},
		"a table with room":     {input(quiet(func(s *Space) { conntrack(s, "196607", "262144") })), ""},
		"a table without limit": {input(quiet(func(s *Space) { conntrack(s, "196608", "0") })), ""},

		"orphans":                 {input(host(250)), "orphans-near-limit risk"},
		"many orphans":            {input(host(500)), "orphans-near-limit will_fail"},
		"few orphans":             {input(host(249)), ""},
		"orphans that were reset": {input(host(3), &Space{Inode: 7, Moved: map[string]int64{"TcpExt.TCPAbortOnMemory": 4}}), "orphans-near-limit failing"},

		"no file left": {input(quiet(listener(Listener{Local: at("0.0.0.0:8080"), Accepter: app, Waiting: 9, Limit: 128, Files: 1024, FileLimit: 1024}))),
			"too-many-files failing"},
		"few files left": {input(quiet(listener(Listener{Local: at("0.0.0.0:8080"), Accepter: app, Waiting: 1, Limit: 128, Files: 973, FileLimit: 1024}))),
			"too-many-files will_fail"},
		"files left":                {input(quiet(listener(Listener{Local: at("0.0.0.0:8080"), Accepter: app, Waiting: 9, Limit: 128, Files: 972, FileLimit: 1024}))), ""},
		"no file, none waits":       {input(quiet(listener(Listener{Local: at("0.0.0.0:8080"), Owner: app, Limit: 128, Files: 1024, FileLimit: 1024}))), ""},
		"files are not known":       {input(quiet(listener(Listener{Local: at("0.0.0.0:8080"), Accepter: app, Waiting: 9, Limit: 128}))), ""},
		"IPv6 only":                 {input(quiet(listener(Listener{Local: at("[::]:8080"), Owner: app, Limit: 128, V6Only: true}))), "ipv6-only-listener note"},
		"IPv6 only, or so it seems": {filtered(input(quiet(listener(Listener{Local: at("[::]:8080"), Owner: app, Limit: 128, V6Only: true})))), ""},
		"both families":             {input(quiet(listener(Listener{Local: at("[::]:8080"), Owner: app, Limit: 128}))), ""},
		"IPv6 on one address":       {input(quiet(listener(Listener{Local: at("[::1]:8080"), Owner: app, Limit: 128, V6Only: true}))), ""},
		"a socket each":             {input(quiet(listener(Listener{Local: at("[::]:443"), Owner: app, Limit: 128, V6Only: true}))), ""},
		"IPv4 on one address":       {input(quiet(both(listener(Listener{Local: at("[::]:1"), V6Only: true}), listener(Listener{Local: at("10.0.0.4:1")})))), ""},
		"IPv6 beside the rest":      {input(quiet(both(listener(Listener{Local: at("[::]:1"), V6Only: true}), listener(Listener{Local: at("[::]:1")})))), ""},

		"a setting of the host": {input(host(0, sysctl("tcp_tw_reuse", "1")), quiet(nil), quiet(nil)), "host-sysctl-not-in-namespace note"},
		"a range of the host": {input(host(0, sysctl("ip_local_port_range", "15000\t60999")), quiet(sysctl("ip_local_port_range", "32768\t60999"))),
			"host-sysctl-not-in-namespace note"},
		"reserved by the host": {input(host(0, sysctl("ip_local_reserved_ports", "8080")), quiet(sysctl("ip_local_reserved_ports", ""))),
			"host-sysctl-not-in-namespace note"},
		"a setting of all":                {input(host(0, sysctl("tcp_tw_reuse", "1")), quiet(sysctl("tcp_tw_reuse", "1"))), ""},
		"a setting of the container":      {input(host(0), quiet(sysctl("tcp_tw_reuse", "1"))), ""},
		"no socket in the container":      {input(host(0, sysctl("tcp_tw_reuse", "1")), quiet(func(s *Space) { *s = Space{Inode: 7, Sysctls: s.Sysctls} })), ""},
		"a host that is not known as one": {input(quiet(sysctl("tcp_tw_reuse", "1")), quiet(nil)), ""},
	} {
		scenarios[name] = sc
	}
}

func conntrack(s *Space, n, most string) {
	s.Sysctls["net.netfilter.nf_conntrack_count"], s.Sysctls["net.netfilter.nf_conntrack_max"] = n, most
}

// The initial network namespace is the one that has tcp_max_orphans.
func TestInitial(t *testing.T) {
	in := input(quiet(nil), host(0))
	if in.initial() != in.Spaces[1] {
		t.Error("it is not found")
	}
	if s := input(quiet(nil), quiet(nil)).initial(); s != nil {
		t.Errorf("%v is none", s)
	}
}

// The numbers are those of the connections that fulfil the condition.
func TestStuckNumbers(t *testing.T) {
	s := stuck([]Full{{41 * time.Second, 100}, {time.Minute, 20}, {time.Second, 3}}, 1, 3, 4)[0]
	if n, bytes, oldest := s.full(40 * time.Second); n != 2 || bytes != 120 || oldest != time.Minute || s.silent(3) != 2 {
		t.Errorf("%d with %d bytes for %v; %d are silent", n, bytes, oldest, s.silent(3))
	}
	space := new(Space)
	handshakes(2, 3, 2)(space)
	h := &space.Handshakes[0]
	if n, peers, most, ofMost := h.often(2); n != 5 || peers != 3 || most.String() != "10.1.0.9" || ofMost != 3 {
		t.Errorf("%d of %d addresses, %d of %v", n, peers, ofMost, most)
	}
	if n, peers, _, _ := h.often(3); n != 0 || peers != 0 {
		t.Errorf("%d of %d addresses", n, peers)
	}
}
