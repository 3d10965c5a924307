package tracer

import (
	"net/netip"
	"time"
)

// A Segment is an RST, or a SYN-ACK that is sent again: what happens to a port without a
// transition. No process has to do with it. It is valid until the call that hands it over
// returns.
type Segment struct {
	Time          time.Time     // wall clock, UTC
	Ktime         time.Duration // CLOCK_MONOTONIC
	Kind          SegmentKind
	NetNS         uint32 // as in a Transition
	NetNSCookie   uint64
	Cookie        uint64 // of the socket that has received an RST; otherwise 0
	Local, Remote netip.AddrPort
	Scope         Scope

	// Reason is the kernel's word for why it sent an RST, in lower case, such as
	// "no_socket" (enum sk_rst_reason); "" if the kernel passes none, as before 6.10.
	Reason string

	// Retransmits is how often the SYN-ACK was sent again, this time included.
	Retransmits uint8
}

// SegmentKind is what a Segment is.
type SegmentKind uint8

// The kinds of segments.
const (
	// SegmentRSTSent answers a segment that no socket is for, or that a listener cannot
	// take. Before Linux 6.11 only the latter is seen. An RST that ends a connection is
	// the Reason of its last transition.
	SegmentRSTSent SegmentKind = SegmentKind(bpfSegmentSEGMENT_RST_SENT)

	// SegmentRSTReceived was received by a full socket, which it is about to end.
	SegmentRSTReceived SegmentKind = SegmentKind(bpfSegmentSEGMENT_RST_RECEIVED)

	// SegmentSYNACKAgain is sent because the last segment of a handshake has not come, or
	// because the SYN came again. The first SYN-ACK is not seen, so neither is a handshake
	// that is over within its first second.
	SegmentSYNACKAgain SegmentKind = SegmentKind(bpfSegmentSEGMENT_SYNACK_AGAIN)
)

// SegmentAccounts says where every segment went. Seen = Filtered + Delivered + Limited + RingFull.
type SegmentAccounts struct {
	Seen      uint64
	Filtered  uint64 // not asked for
	Delivered uint64 // handed over or, with Config.TotalsOnly, counted
	Limited   uint64 // there were more than 1000 in that second
	RingFull  uint64 // the reader did not keep up
	Uncounted uint64 // missing in SegmentCounts, which had no room; in one of the others, too
}

// A SegmentCount is how many segments of one kind there were of one peer and one port: the
// server's. The other port is 0, as is the remote port of an end of which it is not known
// whether it is the client.
type SegmentCount struct {
	Kind   SegmentKind
	Reason string // as in a Segment
	Local  uint16 // port
	Remote netip.AddrPort
	Count  uint64
}
