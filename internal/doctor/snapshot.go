package doctor

import (
	"slices"
	"strings"
)

// snapshotRules are more that one reading, or two, can tell.
var snapshotRules = []*Rule{
	{
		ID: "ports-held-by-binders", Worst: WillFail, Needs: NeedPorts,
		Find: portsHeld,
	},
	{
		ID: "fin-wait-1-stuck", Worst: Risk,
		Thresholds: []Threshold{
			{"retries", 3, "times that a segment was sent again and not answered"},
			{"age", 10, "seconds since the peer has had room for data"},
			{"bytes", 1 << 20, "bytes that are kept for such peers, from which on it is a risk"},
		},
		Find: finWait1Stuck,
	},
	{
		ID: "last-ack-stuck", Worst: Note,
		Thresholds: []Threshold{{"retries", 2, "times that the FIN was sent again and not answered"}},
		Find: func(in *Input, t Limits) (found []Finding) {
			for _, s := range in.Spaces {
				for i := range s.LastAcks {
					stuck := &s.LastAcks[i]
					if n := stuck.silent(t["retries"]); n > 0 {
						found = append(found, Finding{ID: "last-ack-stuck", Severity: Note, Space: s, Scope: stuck.scope(),
							Evidence: []Field{{"sockets", n}, {"retries", uint64(t["retries"])}}})
					}
				}
			}
			return found
		},
	},
	{
		ID: "handshake-not-finished", Worst: Note,
		Thresholds: []Threshold{{"retries", 2, "times that the SYN-ACK was sent again"}, {"least", 10, "handshakes with as many"}},
		Find: func(in *Input, t Limits) (found []Finding) {
			for _, s := range in.Spaces {
				for i := range s.Handshakes {
					h := &s.Handshakes[i]
					n, peers, most, ofMost := h.often(t["retries"])
					if n == 0 || float64(n) < t["least"] {
						continue
					}
					found = append(found, Finding{ID: "handshake-not-finished", Severity: Note, Space: s,
						Scope:    []Field{{"local_port", uint64(h.Local)}, {"remote_addr", most}},
						Evidence: []Field{{"handshakes", n}, {"peers", peers}, {"of_remote_addr", ofMost}, {"retries", uint64(t["retries"])}}})
				}
			}
			return found
		},
	},
	{
		ID: "syn-queue-cookies", Worst: Failing, Needs: NeedWindow,
		Thresholds: []Threshold{{"real", 0.5, "share of the cookies that come back, from which on they are of real clients"}},
		Find:       synQueue,
	},
	{
		ID: "conntrack-table", Worst: WillFail,
		Thresholds: []Threshold{{"share", 0.75, "share of nf_conntrack_max"}},
		Find: func(in *Input, t Limits) (found []Finding) {
			for _, s := range in.Spaces {
				n, counted := s.number("net.netfilter.nf_conntrack_count")
				most, known := s.number("net.netfilter.nf_conntrack_max")
				if !counted || !known || n == 0 || most == 0 || float64(n) < t["share"]*float64(most) { // 0: there is no limit
					continue
				}
				found = append(found, Finding{ID: "conntrack-table", Severity: WillFail, Space: s,
					Evidence: []Field{{"entries", n}, {"limit", most}, {"share", float64(n) / float64(most)}, {"time_waits", s.TimeWaits.Served + s.TimeWaits.Opened}}})
			}
			return found
		},
	},
	{
		ID: "orphans-near-limit", Worst: Failing, Needs: NeedInitial, More: NeedWindow,
		Thresholds: []Threshold{{"risk", 0.25, "share of tcp_max_orphans that is a risk"}, {"share", 0.5, "share at which resets can be near"}},
		Find:       orphansNearLimit,
	},
	{
		ID: "too-many-files", Worst: Failing, Needs: NeedLimits,
		Thresholds: []Threshold{{"share", 0.95, "share of the process's limit of open files that is used"}},
		Find: func(in *Input, t Limits) (found []Finding) {
			in.listeners(func(s *Space, l *Listener) {
				if l.FileLimit == 0 || l.Waiting == 0 || float64(l.Files) < t["share"]*float64(l.FileLimit) {
					return
				}
				f := Finding{ID: "too-many-files", Severity: WillFail, Space: s,
					Scope:    []Field{{"local", l.Local}, {"process", l.Accepter}},
					Evidence: []Field{{"waiting", l.Waiting}, {"files", l.Files}, {"file_limit", l.FileLimit}}}
				if l.Files >= l.FileLimit {
					f.Severity = Failing
				}
				found = append(found, f)
			})
			return found
		},
	},
	{
		ID: "ipv6-only-listener", Worst: Note,
		Find: v6Only,
	},
	{
		ID: "host-sysctl-not-in-namespace", Worst: Note, Needs: NeedInitial,
		Find: notInherited,
	},
}

// portsHeld finds destinations for which ports are left that nobody uses towards them, but bind(2) of
// others holds them: __inet_hash_connect() skips those. Without any connection the same can be true.
func portsHeld(in *Input, _ Limits) (found []Finding) {
	for _, s := range in.Spaces {
		if !s.HeldKnown || s.Usable == 0 || s.Held == 0 {
			continue
		}
		usable, held, none := uint64(s.Usable), uint64(s.Held), true
		evidence := func(used uint64) []Field {
			return []Field{{"held", held}, {"usable", usable}, {"used", used}, {"bound_by_process", s.Binders}}
		}
		for i := range s.Destinations {
			d := &s.Destinations[i]
			if d.Used >= usable || held+d.Used-d.Held < usable || takesOver(s, d) {
				continue
			}
			none = false
			found = append(found, Finding{ID: "ports-held-by-binders", Severity: WillFail, Space: s,
				Scope: []Field{{"local_addr", d.Local}, {"remote", d.Remote}, {"holder", s.Binder}}, Evidence: evidence(d.Used)})
		}
		if none && held >= usable {
			found = append(found, Finding{ID: "ports-held-by-binders", Severity: WillFail, Space: s,
				Scope: []Field{{"local_addr", nil}, {"remote", nil}, {"holder", s.Binder}}, Evidence: evidence(0)})
		}
	}
	return found
}

// scope says whose connections are stuck.
func (s *Stuck) scope() []Field {
	return []Field{{"remote", s.Remote}, {"local_port", uint64(s.Local)}, {"example", s.Example}}
}

func finWait1Stuck(in *Input, t Limits) (found []Finding) {
	for _, s := range in.Spaces {
		for i := range s.FinWait1s {
			stuck := &s.FinWait1s[i]
			if n, bytes, oldest := stuck.full(t.duration("age")); n > 0 {
				f := Finding{ID: "fin-wait-1-stuck", Severity: Note, Space: s, Scope: stuck.scope(),
					Evidence: []Field{{"sockets", n}, {"why", "window"}, {"bytes", Bytes(bytes)}, {"oldest", oldest}}}
				if float64(bytes) >= t["bytes"] {
					f.Severity = Risk
				}
				found = append(found, f)
			}
			if n := stuck.silent(t["retries"]); n > 0 {
				found = append(found, Finding{ID: "fin-wait-1-stuck", Severity: Note, Space: s, Scope: stuck.scope(),
					Evidence: []Field{{"sockets", n}, {"why", "silent"}, {"retries", uint64(t["retries"])}}})
			}
		}
	}
	return found
}

// synQueue tells from the counters whether a full SYN queue drops clients, or whether cookies stand in
// for it (tcp_syn_flood_action()).
func synQueue(in *Input, t Limits) (found []Finding) {
	moved := func(s *Space, name string) uint64 { return uint64(max(0, s.Moved["TcpExt."+name])) }
	for _, s := range in.Spaces {
		dropped, full := moved(s, "TCPReqQFullDrop"), moved(s, "TCPReqQFullDoCookies")
		sent, back := moved(s, "SyncookiesSent"), moved(s, "SyncookiesRecv")
		if dropped+full == 0 {
			continue // tcp_syncookies=2 sends cookies to all
		}
		f := Finding{ID: "syn-queue-cookies", Severity: Note, Space: s}
		why := "cookies"
		switch {
		case dropped > 0:
			f.Severity, why = Failing, "dropped"
		case sent > 0 && float64(back) >= t["real"]*float64(sent):
			why = "clients"
		}
		f.Evidence = []Field{{"dropped", dropped}, {"full", full}, {"sent", sent}, {"received", back}, {"why", why}}
		found = append(found, f)
	}
	return found
}

// initial is the initial network namespace: tcp_max_orphans is in no other (ipv4_table[],
// net/ipv4/sysctl_net_ipv4.c). nil: it was not read.
func (in *Input) initial() *Space {
	for _, s := range in.Spaces {
		if _, known := s.number("net.ipv4.tcp_max_orphans"); known {
			return s
		}
	}
	return nil
}

// orphansNearLimit is about the host: orphans and their limit are not of a namespace
// (tcp_orphan_count_sum()). tcp_out_of_resources() counts an orphan up to four times.
func orphansNearLimit(in *Input, t Limits) []Finding {
	s := in.initial()
	if s == nil {
		return nil
	}
	most, _ := s.number("net.ipv4.tcp_max_orphans")
	n := uint64(max(0, s.Counters["sockstat.TCP.orphan"]))
	var aborted uint64
	for _, s := range in.Spaces {
		aborted += uint64(max(0, s.Moved["TcpExt.TCPAbortOnMemory"]))
	}
	f := Finding{ID: "orphans-near-limit", Severity: Failing}
	switch {
	case aborted > 0:
	case most == 0 || n == 0:
		return nil
	case float64(n) >= t["share"]*float64(most):
		f.Severity = WillFail
	case float64(n) >= t["risk"]*float64(most):
		f.Severity = Risk
	default:
		return nil
	}
	f.Evidence = []Field{{"aborted", aborted}, {"orphans", n}, {"limit", most}}
	return []Finding{f}
}

// v6Only finds listeners on all IPv6 addresses that take no IPv4, where nothing listens for IPv4 on
// their port.
func v6Only(in *Input, _ Limits) (found []Finding) {
	if in.Filtered {
		return nil // what listens for IPv4 may be left out
	}
	in.listeners(func(s *Space, l *Listener) {
		if !l.V6Only || !wildcard(l.Local) || slices.ContainsFunc(s.Listeners, func(o Listener) bool {
			return o.Local.Port() == l.Local.Port() && (o.Local.Addr().Is4() || wildcard(o.Local) && !o.V6Only)
		}) {
			return
		}
		found = append(found, Finding{ID: "ipv6-only-listener", Severity: Note, Space: s,
			Scope: []Field{{"local", l.Local}, {"process", l.Owner}}})
	})
	return found
}

// inherited are sysctls of which a new network namespace has the kernel's default, whatever the host
// has (tcp_sk_init(), inet_init_net(), net_defaults_init_net()). The defaults are those since Linux
// 5.4. Those that depend on the memory of the host are not among them.
var inherited = []struct{ key, initially string }{
	{"net.core.somaxconn", "4096"}, {"net.ipv4.ip_local_port_range", "32768 60999"}, {"net.ipv4.ip_local_reserved_ports", ""},
	{"net.ipv4.tcp_abort_on_overflow", "0"}, {"net.ipv4.tcp_fin_timeout", "60"}, {"net.ipv4.tcp_keepalive_time", "7200"},
	{"net.ipv4.tcp_orphan_retries", "0"}, {"net.ipv4.tcp_retries2", "15"}, {"net.ipv4.tcp_syn_retries", "6"},
	{"net.ipv4.tcp_syncookies", "1"}, {"net.ipv4.tcp_timestamps", "1"}, {"net.ipv4.tcp_tw_reuse", "2"},
}

func notInherited(in *Input, _ Limits) (found []Finding) {
	host := in.initial()
	if host == nil {
		return nil
	}
	value := func(s *Space, key string) (v string, known bool) {
		v, known = s.Sysctls[key]
		return strings.Join(strings.Fields(v), " "), known
	}
	for _, setting := range inherited {
		set, known := value(host, setting.key)
		if !known || set == setting.initially {
			continue
		}
		var without uint64
		for _, s := range in.Spaces {
			if v, known := value(s, setting.key); s != host && known && v == setting.initially && s.Live() > 0 {
				without++
			}
		}
		if without > 0 {
			found = append(found, Finding{ID: "host-sysctl-not-in-namespace", Severity: Note, Space: host,
				Scope:    []Field{{"key", setting.key}},
				Evidence: []Field{{"namespaces", without}, {"value", set}, {"default", setting.initially}}})
		}
	}
	return found
}
