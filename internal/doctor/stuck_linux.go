package doctor

import (
	"cmp"
	"net/netip"
	"slices"

	"finwait/internal/sockdiag"
	"finwait/internal/sockets"
)

type stuckKey struct {
	remote netip.AddrPort // not valid: of a server's connections
	local  uint16
}

// stick takes note of a connection whose FIN may be stuck.
func stick(to map[stuckKey]*Stuck, r *sockets.Row, served bool) {
	_, send, _ := r.Queues()
	persists := r.Timer == sockdiag.Persist && send > 1 && r.Info.Known // 1: that is the FIN
	again, resends := r.Retransmits()
	resends = resends && again > 0
	if !persists && !resends {
		return
	}
	key := stuckKey{remote: r.Remote}
	if served {
		key = stuckKey{local: r.Local.Port()}
	}
	s := to[key]
	if s == nil {
		s = &Stuck{Remote: key.remote, Local: key.local, Example: r.Remote}
		to[key] = s
	}
	if resends {
		s.Unanswered = append(s.Unanswered, again)
		return
	}
	s.Full = append(s.Full, Full{Since: r.Info.DataSent, Bytes: send})
}

func stuckInOrder(of map[stuckKey]*Stuck) (all []Stuck) {
	for _, s := range of {
		all = append(all, *s)
	}
	slices.SortFunc(all, func(a, b Stuck) int { return cmp.Or(a.Remote.Compare(b.Remote), cmp.Compare(a.Local, b.Local)) })
	return all
}

// handshake takes note of a handshake that has no socket yet.
func (g *gathering) handshake(r *sockets.Row) {
	h := g.handshakes[r.Local.Port()]
	if h == nil {
		h = &Handshakes{Local: r.Local.Port(), Peers: make(map[netip.Addr][]uint8)}
		g.handshakes[r.Local.Port()] = h
	}
	h.Peers[r.Remote.Addr()] = append(h.Peers[r.Remote.Addr()], r.Retries)
}

func handshakesInOrder(of map[uint16]*Handshakes) (all []Handshakes) {
	for _, h := range of {
		all = append(all, *h)
	}
	slices.SortFunc(all, func(a, b Handshakes) int { return cmp.Compare(a.Local, b.Local) })
	return all
}
