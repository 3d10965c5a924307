package doctor

import (
	"net/netip"
	"time"
)

// Holding is the connections on an address and a port that keep bind(2) of another socket from it,
// unless both have set SO_REUSEADDR.
type Holding struct {
	Open     uint64        // full sockets that were accepted
	Minisock uint64        // TIME_WAIT, and FIN_WAIT_2 after close()
	Left     time.Duration // until the timer of the last of these fires
}

func (h *Holding) add(o *Holding) {
	h.Open, h.Minisock, h.Left = h.Open+o.Open, h.Minisock+o.Minisock, max(h.Left, o.Left)
}

// hold gives a listener what its connections hold.
func (l *Listener) hold(all map[netip.AddrPort]*Holding) {
	for local, h := range all {
		if l.takes(local) {
			l.Held.add(h)
		}
	}
}

// restartRules are about programs that will be started again.
var restartRules = []*Rule{
	{
		ID: "restart-needs-reuseaddr", Worst: Risk, Needs: NeedOptions,
		Thresholds: []Threshold{{"least", 1, "connections on the listener's port, those in TIME_WAIT included"}},
		Find:       needsReuseAddr,
	},
}

// needsReuseAddr finds listeners whose port cannot be bound again until their connections are gone.
// The connections have the options of their listener (sk_clone()), and so have their minisocks
// (tcp_time_wait()); inet_bind_conflict() asks both sides. With SO_REUSEPORT a socket of the same
// user passes all of them.
func needsReuseAddr(in *Input, t Limits) (found []Finding) {
	in.listeners(func(s *Space, l *Listener) {
		n := l.Held.Open + l.Held.Minisock
		if !l.OptionsKnown || l.ReuseAddr || l.ReusePort || n == 0 || float64(n) < t["least"] {
			return
		}
		found = append(found, Finding{ID: "restart-needs-reuseaddr", Severity: Risk, Space: s, Inferred: true,
			Scope:    []Field{{"local", l.Local}, {"process", l.Owner}},
			Evidence: []Field{{"sockets", n}, {"open", l.Held.Open}, {"minisocks", l.Held.Minisock}, {"left", l.Held.Left}}})
	})
	return found
}
