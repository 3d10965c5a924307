package tracer

import (
	"net/netip"
	"time"
)

// A WalkedSocket is a TCP socket that is connected or connects, as sock_diag(7) would list it.
type WalkedSocket struct {
	NetNSCookie   uint64         // of the network namespace
	Local, Remote netip.AddrPort // IPv4-mapped addresses become IPv4
	Cookie        uint64         // 0: nobody has asked for the socket's cookie before, so it has none
	CgroupID      uint64         // inode number of its cgroup v2 directory; 0: unknown
	Inode         uint64         // of the socket's file; 0: it has no file
	Interface     uint32         // index of the interface it is bound to; 0: none
	UID           uint32         // in the initial user namespace; 0 also if there is none
	RecvQueue     uint32         // bytes not read
	SendQueue     uint32         // bytes not acknowledged
	Family        uint16         // of the socket; an AF_INET6 socket can have IPv4 addresses
	State         State
	Minisock      bool
	MPTCP         bool  // a subflow
	Timer         uint8 // idiag_timer of linux/inet_diag.h
	Retries       uint8 // retransmissions, or probes, of Timer since the last acknowledgment

	// To the ms, as the kernel counts them in jiffies.
	TimerLeft    time.Duration // until Timer fires; 0: it is due, if there is a Timer
	DataSent     time.Duration // since data was sent last. This and the next two: of a full socket
	DataReceived time.Duration // since data arrived last in order
	AckReceived  time.Duration // since a segment was received that acknowledges something
}
