package doctor

import (
	"net/netip"
	"time"
)

// Stuck is connections whose FIN the peer has not acknowledged.
type Stuck struct {
	Remote  netip.AddrPort // of a server's connections it is not valid
	Local   uint16         // the port of a server; 0: the host opened the connections
	Example netip.AddrPort // the remote end of one of them

	Unanswered []uint8 // of those whose peer does not answer, how often the last segment was sent again
	Full       []Full  // those whose peer has no room for what is before the FIN
}

// Full is a connection whose peer has closed its window.
type Full struct {
	Since time.Duration // since data was sent last
	Bytes uint32        // that the kernel keeps
}

// Handshakes are those of a port that are not over.
type Handshakes struct {
	Local uint16
	Peers map[netip.Addr][]uint8 // how often the SYN-ACK was sent again, by remote address
}

// silent is how many have sent so often in vain.
func (s *Stuck) silent(retries float64) (n uint64) {
	for _, again := range s.Unanswered {
		if float64(again) >= retries {
			n++
		}
	}
	return n
}

// full is how many have waited for so long for room, the bytes of these, and how long the first one
// has waited.
func (s *Stuck) full(age time.Duration) (n, bytes uint64, oldest time.Duration) {
	for _, f := range s.Full {
		if f.Since >= age {
			n, bytes, oldest = n+1, bytes+uint64(f.Bytes), max(oldest, f.Since)
		}
	}
	return n, bytes, oldest
}

// often is how many handshakes have sent their SYN-ACK so often in vain, those of how many addresses,
// and which one has most.
func (h *Handshakes) often(retries float64) (n, peers uint64, most netip.Addr, ofMost uint64) {
	for peer, all := range h.Peers {
		var of uint64
		for _, again := range all {
			if float64(again) >= retries {
				of++
			}
		}
		if of == 0 {
			continue
		}
		n, peers = n+of, peers+1
		if of > ofMost || of == ofMost && peer.Less(most) {
			most, ofMost = peer, of
		}
	}
	return n, peers, most, ofMost
}
