// Package sockdiag lists TCP sockets, including minisocks, with the kernel's sock_diag(7), like
// ss(8).
package sockdiag

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// The states that decide how a socket is read, by their numbers in the kernel
// (include/net/tcp_states.h). unix.BPF_TCP_* has the same numbers, but only on Linux.
const (
	established = 1
	synRecv     = 3
	finWait1    = 4
	finWait2    = 5
	closed      = 7
	closeWait   = 8
	lastAck     = 9
	listen      = 10
	closing     = 11
	newSynRecv  = 12
)

// AllStates is the mask of every state that the kernel lists. A mask has bit n
// for the state that include/net/tcp_states.h gives number n.
const AllStates = 1<<(newSynRecv+1) - 2

// BoundOnly adds to a mask the sockets that are bound to a port, and neither listen nor connect, nor
// are connected. Their state is CLOSE. Before Linux 6.8 the kernel lists none (ListsBound).
const BoundOnly = 1 << 13 // TCPF_BOUND_INACTIVE

// A Socket is one TCP socket as it was when the kernel listed it.
type Socket struct {
	Local, Remote netip.AddrPort // IPv4-mapped addresses become IPv4
	Cookie        uint64         // identity of the socket, as ss -e shows it
	CgroupID      uint64         // inode number of its cgroup v2 directory; 0: unknown
	Inode         uint64         // of the socket's file; 0: it has no file
	TimerLeft     time.Duration  // until Timer fires, to the ms; 0: it is due, if there is a Timer
	RecvQueue     uint32         // bytes not read; for a listener, connections not accepted
	SendQueue     uint32         // bytes not acknowledged; for a listener, its backlog
	Info          Info           // if ListWithInfo asked for it
	UID           uint32         // in the user namespace of the reader, if UIDKnown
	Interface     uint32         // index of the interface it is bound to; 0: none
	UIDKnown      bool
	State         uint8 // include/net/tcp_states.h
	Family        uint8 // of the socket; an AF_INET6 socket can have IPv4 addresses
	Kind          Kind
	Timer         Timer
	Retries       uint8 // retransmissions, or probes, of Timer since the last acknowledgment
	V6Only        bool  // it takes no IPv4 (IPV6_V6ONLY); the kernel tells of listeners, and of what is only bound
	MPTCP         bool  // a subflow; known only if ListWithInfo asked, and before 6.15 with CAP_NET_ADMIN
}

// Info is part of what tcp_get_info() (net/ipv4/tcp.c) tells of a full socket. Its times are
// differences of jiffies in ms: each is less than a jiffy off, and starts again at 0 after 2^32 ms,
// 49.7 days, or less.
type Info struct {
	Known bool // false: it was not asked for, it is no full socket, or its state has changed meanwhile

	// Time since data was sent last, sent again included; since the handshake if none was. It
	// means something from ESTABLISHED on.
	DataSent time.Duration
	// Time since data arrived last in order, or since the handshake.
	DataReceived time.Duration
	// Time since a segment was received that acknowledges all that was acknowledged before, or more.
	AckReceived time.Duration
}

// A Kind is the kernel's data structure of a socket.
type Kind uint8

// The kinds.
const (
	Full     Kind = iota
	Minisock      // inet_timewait_sock: TIME_WAIT, and FIN_WAIT_2 of an orphan
	Request       // request_sock: a handshake without a socket yet
)

// Timer is the kernel's idiag_timer.
type Timer uint8

// The timers. The kernel calls the timer of an orphan in FIN_WAIT_2 that is not
// yet a minisock Keepalive as well.
const (
	NoTimer    Timer = iota
	Retransmit       // and tail loss probe
	Keepalive
	TimeWait // of a minisock
	Persist  // zero window probe
)

func (t Timer) String() string {
	words := [...]string{"", "retransmit", "keepalive", "timewait", "persist"}
	if int(t) < len(words) {
		return words[t]
	}
	return "unknown"
}

// Orphan reports whether no process has the socket any more, as after close(2). known is false
// if the kernel does not say. A socket without a file is an orphan only in the states that
// follow a close. In other states it may wait for accept(2). A process may still have the file
// of a connection in TIME_WAIT, but the file no longer leads to the connection.
func (s *Socket) Orphan() (orphan, known bool) {
	switch {
	case s.Inode != 0:
		return false, true
	case s.State == finWait1 || s.State == finWait2 || s.State == closing || s.State == lastAck:
		return true, true
	}
	return false, false
}

// Queued reports whether the socket waits in the accept queue of a listener: its handshake is over,
// and no process has accepted it. Before accept(2) a socket has no file (inet_accept() gives it
// one), and while it has none it can only be in the states that a peer leads it to. From the other
// states without a file a close has led (Orphan). known is false of a subflow of MPTCP:
// __mptcp_close() takes the file from a subflow that may still be ESTABLISHED.
func (s *Socket) Queued() (queued, known bool) {
	if s.Kind != Full || s.Inode != 0 || s.State != established && s.State != synRecv && s.State != closeWait {
		return false, true
	}
	return true, !s.MPTCP
}

// Sizes and attributes of linux/inet_diag.h, and of struct tcp_info in linux/tcp.h.
const (
	sizeofMsg    = 72 // struct inet_diag_msg
	sizeofReq    = 56 // struct inet_diag_req_v2
	sizeofOldReq = 60 // struct inet_diag_req
	leastInfo    = 60 // struct tcp_info as far as it is read
	attrInfo     = 2  // INET_DIAG_INFO
	attrShutdown = 8  // INET_DIAG_SHUTDOWN
	attrV6Only   = 11 // INET_DIAG_SKV6ONLY
	attrULP      = 19 // INET_DIAG_ULP_INFO
	attrCgroupID = 21 // INET_DIAG_CGROUP_ID
	ulpName      = 1  // INET_ULP_INFO_NAME
)

const (
	familyIPv4  = 2  // AF_INET
	familyIPv6  = 10 // AF_INET6
	protocolTCP = 6  // IPPROTO_TCP
)

var (
	errShort     = errors.New("message is too short")
	errAttribute = errors.New("malformed attribute")
)

// parse reads a struct inet_diag_msg with its attributes.
func (s *Socket) parse(b []byte) error {
	if len(b) < sizeofMsg {
		return errShort
	}
	local, remote, err := addresses(b)
	if err != nil {
		return err
	}
	*s = Socket{
		Family: b[0], State: b[1], Timer: Timer(b[2]), Retries: b[3],
		Local:     netip.AddrPortFrom(local, binary.BigEndian.Uint16(b[4:])),
		Remote:    netip.AddrPortFrom(remote, binary.BigEndian.Uint16(b[6:])),
		Interface: binary.NativeEndian.Uint32(b[40:]),
		Cookie:    uint64(binary.NativeEndian.Uint32(b[44:])) | uint64(binary.NativeEndian.Uint32(b[48:]))<<32,
		TimerLeft: time.Duration(binary.NativeEndian.Uint32(b[52:])) * time.Millisecond,
		RecvQueue: binary.NativeEndian.Uint32(b[56:]),
		SendQueue: binary.NativeEndian.Uint32(b[60:]),
		UID:       binary.NativeEndian.Uint32(b[64:]),
		Inode:     uint64(binary.NativeEndian.Uint32(b[68:])),
	}
	shutdown, err := s.parseAttributes(b[sizeofMsg:])
	if err != nil {
		return err
	}
	switch {
	case s.Timer == TimeWait:
		s.Kind = Minisock
	case s.State == synRecv && !shutdown:
		// The kernel lists a request_sock as SYN_RECV. Only a full socket has
		// this attribute (inet_diag_msg_attrs_fill(), net/ipv4/inet_diag.c).
		s.Kind, s.State = Request, newSynRecv
	}
	// A minisock and a request have no user, and older kernels report none for a socket
	// without a file. In these cases the UID is 0, like root's.
	s.UIDKnown = s.Kind == Full && (s.Inode != 0 || s.UID != 0)
	return nil
}

func addresses(b []byte) (local, remote netip.Addr, err error) {
	src, dst := b[8:24], b[24:40]
	switch b[0] {
	case familyIPv4:
		return netip.AddrFrom4([4]byte(src)), netip.AddrFrom4([4]byte(dst)), nil
	case familyIPv6:
		return netip.AddrFrom16([16]byte(src)).Unmap(), netip.AddrFrom16([16]byte(dst)).Unmap(), nil
	}
	return local, remote, fmt.Errorf("address family %d is neither AF_INET nor AF_INET6", b[0])
}

// attributes calls fn with each netlink attribute: length, type, payload, padding to 4 bytes.
func attributes(b []byte, fn func(kind uint16, payload []byte) error) error {
	for len(b) >= 4 {
		n := int(binary.NativeEndian.Uint16(b))
		if n < 4 || n > len(b) {
			return errAttribute
		}
		// The highest bits say that the payload is nested, and its byte order.
		if err := fn(binary.NativeEndian.Uint16(b[2:])&0x3fff, b[4:n]); err != nil {
			return err
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return nil
}

func (s *Socket) parseAttributes(b []byte) (shutdown bool, err error) {
	err = attributes(b, func(kind uint16, payload []byte) error {
		switch kind {
		case attrShutdown:
			shutdown = true
		case attrV6Only:
			if len(payload) != 1 {
				return errAttribute
			}
			s.V6Only = payload[0] != 0
		case attrCgroupID:
			if len(payload) != 8 {
				return errAttribute
			}
			s.CgroupID = binary.NativeEndian.Uint64(payload)
		case attrInfo:
			return s.parseInfo(payload)
		case attrULP:
			return attributes(payload, func(kind uint16, name []byte) error {
				if kind == ulpName && string(bytes.TrimRight(name, "\x00")) == "mptcp" {
					s.MPTCP = true
				}
				return nil
			})
		}
		return nil
	})
	return shutdown, err
}

// parseInfo reads a struct tcp_info. It is of a later moment than the rest of the message.
func (s *Socket) parseInfo(b []byte) error {
	if len(b) < leastInfo {
		return errAttribute
	}
	ms := func(offset int) time.Duration {
		return time.Duration(binary.NativeEndian.Uint32(b[offset:])) * time.Millisecond
	}
	if b[0] == s.State && s.State != listen {
		s.Info = Info{Known: true, DataSent: ms(44), DataReceived: ms(52), AckReceived: ms(56)}
	}
	return nil
}

// appendListRequest appends a struct inet_diag_req_v2 for all sockets of a family.
func appendListRequest(b []byte, family uint8, states uint32, info bool) []byte {
	b = append(b, family, protocolTCP, extensions(info), 0)
	b = binary.NativeEndian.AppendUint32(b, states)
	return append(b, make([]byte, sizeofReq-8)...)
}

// appendOldListRequest appends a struct inet_diag_req for all sockets of every family.
func appendOldListRequest(b []byte, states uint32, info bool) []byte {
	b = append(b, 0, 0, 0, extensions(info))
	b = append(b, make([]byte, sizeofOldReq-12)...)
	b = binary.NativeEndian.AppendUint32(b, states)
	return append(b, 0, 0, 0, 0)
}

func extensions(info bool) uint8 {
	if info {
		return 1 << (attrInfo - 1)
	}
	return 0
}

// appendRequest appends a struct inet_diag_req_v2 that names s.
func appendRequest(b []byte, s *Socket) []byte {
	b = append(b, s.Family, protocolTCP, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, AllStates)
	b = binary.BigEndian.AppendUint16(b, s.Local.Port())
	b = binary.BigEndian.AppendUint16(b, s.Remote.Port())
	b = appendAddr(b, s.Family, s.Local.Addr())
	b = appendAddr(b, s.Family, s.Remote.Addr())
	b = binary.NativeEndian.AppendUint32(b, s.Interface)
	b = binary.NativeEndian.AppendUint32(b, uint32(s.Cookie))
	return binary.NativeEndian.AppendUint32(b, uint32(s.Cookie>>32))
}

func appendAddr(b []byte, family uint8, a netip.Addr) []byte {
	var full [16]byte
	if family == familyIPv4 {
		v4 := a.As4()
		copy(full[:], v4[:])
	} else {
		full = a.As16()
	}
	return append(b, full[:]...)
}
