package doctor

import (
	"net/netip"
	"time"
)

func halfClosedBehindNAT(all ...Tracked) func(*Space) {
	return func(s *Space) {
		s.HalfClosed = []HalfClosed{{Owner: Process{PID: 44, Comm: "app"}, Remote: netip.MustParseAddrPort("10.96.0.1:80"), Tracked: all}}
	}
}

func init() {
	const minute = time.Minute
	for name, sc := range map[string]scenario{
		"a NAT that will forget":           {input(quiet(halfClosedBehindNAT(Tracked{Left: 30 * time.Second, Timeout: minute}, Tracked{Left: 12 * time.Second, Timeout: minute}, Tracked{Left: 50 * time.Second, Timeout: minute}))), "conntrack-half-close risk"},
		"a NAT that has forgotten":         {input(quiet(halfClosedBehindNAT(Tracked{Timeout: minute, Gone: true}))), "conntrack-half-close risk"},
		"a NAT that keeps long enough":     {input(quiet(halfClosedBehindNAT(Tracked{Left: 59 * minute, Timeout: 60 * minute}))), ""},
		"half-closed, and just used":       {input(quiet(halfClosedBehindNAT(Tracked{Left: 31 * time.Second, Timeout: minute}))), ""},
		"half-closed, and nothing tracked": {input(quiet(halfClosedBehindNAT())), ""},
	} {
		scenarios[name] = sc
	}
}
