package doctor

import (
	"strconv"
	"strings"
)

// timeWaitRules are about TIME_WAIT.
var timeWaitRules = []*Rule{
	{
		ID: "time-wait-harmless", Worst: OK, Needs: NeedPorts,
		Thresholds: []Threshold{{"least", 1000, "sockets in TIME_WAIT"}, {"share", 0.5, "share of the usable ports, and of tcp_max_tw_buckets"}},
		Find: func(in *Input, t Limits) (found []Finding) {
			for _, s := range in.Spaces {
				n := s.TimeWaits.Served + s.TimeWaits.Opened
				most, known := s.maxTimeWaits()
				if float64(n) < t["least"] || !known || float64(n) >= t["share"]*float64(most) || s.Moved["TcpExt.TCPTimeWaitOverflow"] > 0 {
					continue
				}
				worst := 0.0
				for i := range s.Destinations {
					if s.Usable > 0 {
						worst = max(worst, float64(s.Destinations[i].Used)/float64(s.Usable))
					}
				}
				if worst >= t["share"] || s.Usable == 0 && s.TimeWaits.Opened > 0 {
					continue
				}
				found = append(found, Finding{ID: "time-wait-harmless", Severity: OK, Space: s,
					Evidence: []Field{{"time_waits", n}, {"served", s.TimeWaits.Served}, {"opened", s.TimeWaits.Opened},
						{"worst_share", worst}, {"bytes", Bytes(n * minisockBytes)}, {"limit", most}}})
			}
			return found
		},
	},
	{
		ID: "time-wait-overflow", Worst: Failing, More: NeedWindow,
		Thresholds: []Threshold{{"share", 0.9, "share of tcp_max_tw_buckets"}},
		Find: func(in *Input, t Limits) (found []Finding) {
			for _, s := range in.Spaces {
				most, known := s.maxTimeWaits()
				if !known {
					continue
				}
				n := s.TimeWaits.Served + s.TimeWaits.Opened + s.OrphanedFIN2
				evidence := []Field{{"overflows", uint64(max(0, s.Moved["TcpExt.TCPTimeWaitOverflow"]))}, {"minisocks", n}, {"limit", most}}
				switch {
				case s.Moved["TcpExt.TCPTimeWaitOverflow"] > 0:
					found = append(found, Finding{ID: "time-wait-overflow", Severity: Failing, Space: s, Evidence: evidence})
				case float64(n) >= t["share"]*float64(most) && n > 0:
					found = append(found, Finding{ID: "time-wait-overflow", Severity: WillFail, Space: s, Evidence: evidence})
				}
			}
			return found
		},
	},
	{
		ID: "fin-timeout-misunderstood", Worst: Note,
		Thresholds: []Threshold{{"least", 100, "sockets in TIME_WAIT"}, {"share", 0.01, "share of orphans in FIN_WAIT_2, which it limits"}},
		Find: func(in *Input, t Limits) (found []Finding) {
			for _, s := range in.Spaces {
				n := s.TimeWaits.Served + s.TimeWaits.Opened
				timeout, known := s.number("net.ipv4.tcp_fin_timeout")
				if !known || timeout >= 60 || float64(n) < t["least"] || float64(s.OrphanedFIN2) >= t["share"]*float64(n) {
					continue
				}
				found = append(found, Finding{ID: "fin-timeout-misunderstood", Severity: Note, Space: s, Inferred: true,
					Evidence: []Field{{"time_waits", n}, {"fin_timeout", strconv.FormatUint(timeout, 10)}, {"orphans", s.OrphanedFIN2}}})
			}
			return found
		},
	},
	{
		ID: "tw-reuse-cannot-help", Worst: Note, Needs: NeedPorts,
		Thresholds: []Threshold{{"share", 0.8, "share of the usable ports that are used towards one destination"}},
		Find:       reuseCannotHelp,
	},
}

// minisockBytes is what a minisock takes: the slab object tw_sock_TCP, from 6.1 to 7.3.
const minisockBytes = 256

// Bytes is an amount of memory.
type Bytes uint64

func (s *Space) number(sysctl string) (n uint64, known bool) {
	n, err := strconv.ParseUint(strings.TrimSpace(s.Sysctls[sysctl]), 10, 64)
	return n, err == nil
}

func (s *Space) maxTimeWaits() (n uint64, known bool) { return s.number("net.ipv4.tcp_max_tw_buckets") }

// takesOver says whether connect(2) may take over ports in TIME_WAIT towards this destination after a
// second, so far as is known: the peer's timestamps are not (tcp_twsk_unique()).
func takesOver(s *Space, d *Destination) bool { return d.TimeWaits > 0 && whyNoReuse(s, d) == "" }

// whyNoReuse says why it may not.
func whyNoReuse(s *Space, d *Destination) string {
	reuse, known := s.number("net.ipv4.tcp_tw_reuse")
	stamps, stamped := s.number("net.ipv4.tcp_timestamps")
	switch {
	case 2*d.Orphans > d.Used:
		return "orphans"
	case known && reuse == 0:
		return "off"
	case known && reuse == 2 && !(d.Remote.Addr().IsLoopback() || d.Local.IsLoopback()):
		return "loopback"
	case stamped && stamps == 0:
		return "timestamps"
	}
	return ""
}

// reuseCannotHelp says why connect(2) does not take over the TIME_WAITs of a destination whose ports
// are nearly gone (tcp_twsk_unique()).
func reuseCannotHelp(in *Input, t Limits) (found []Finding) {
	in.destinations(func(s *Space, d *Destination) {
		if s.Usable == 0 || float64(d.Used) < t["share"]*float64(s.Usable) {
			return
		}
		why := whyNoReuse(s, d)
		if why == "" {
			return
		}
		reuse, _ := s.number("net.ipv4.tcp_tw_reuse")
		found = append(found, Finding{ID: "tw-reuse-cannot-help", Severity: Note, Space: s,
			Scope: []Field{{"local_addr", d.Local}, {"remote", d.Remote}},
			Evidence: []Field{{"time_waits", d.TimeWaits}, {"why", why}, {"reuse", strconv.FormatUint(reuse, 10)}, {"orphans", d.Orphans},
				{"used", d.Used}}})
	})
	return found
}
