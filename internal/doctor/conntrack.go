package doctor

import (
	"net/netip"
	"time"
)

// HalfClosed is half-closed connections of one process whose addresses a NAT of this host changes.
type HalfClosed struct {
	Owner   Process
	Remote  netip.AddrPort // of a server's connections it is not valid
	Local   uint16         // the port of a server; 0: the host opened the connections
	Tracked []Tracked
}

// Tracked is what connection tracking knows of such a connection.
type Tracked struct {
	Left    time.Duration // until it forgets the connection
	Timeout time.Duration // of that state, from the last segment on
	Gone    bool          // it has forgotten it: others to that destination are changed
}

// conntrackRules are about what a NAT of this host does.
var conntrackRules = []*Rule{
	{
		ID: "conntrack-half-close", Worst: Risk, Needs: NeedOwners, More: NeedConntrack,
		Thresholds: []Threshold{{"share", 0.5, "share of the time for which conntrack keeps the connection that has passed without a segment"}},
		Find: func(in *Input, t Limits) (found []Finding) {
			for _, s := range in.Spaces {
				for i := range s.HalfClosed {
					if f, ok := s.HalfClosed[i].finding(t["share"]); ok {
						f.Space = s
						found = append(found, f)
					}
				}
			}
			return found
		},
	},
}

func (h *HalfClosed) finding(share float64) (Finding, bool) {
	var (
		n, gone uint64
		left    = Field{"left", nil}
		timeout time.Duration
	)
	for _, t := range h.Tracked {
		switch {
		case t.Gone:
			gone++
		case float64(t.Timeout-t.Left) < share*float64(t.Timeout):
			continue
		case left.Value == nil || t.Left < left.Value.(time.Duration):
			left.Value = t.Left
		}
		n++
		timeout = max(timeout, t.Timeout)
	}
	return Finding{ID: "conntrack-half-close", Severity: Risk, Inferred: gone > 0,
		Scope:    []Field{{"process", h.Owner}, {"remote", h.Remote}, {"local_port", uint64(h.Local)}},
		Evidence: []Field{{"sockets", n}, {"forgotten", gone}, left, {"timeout", timeout}}}, n > 0
}
