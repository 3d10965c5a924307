package sandbox

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"sync/atomic"

	"finwait/internal/netns"

	"golang.org/x/sys/unix"
)

// TCP flags (RFC 9293, section 3.1).
const (
	FIN = 0x01
	SYN = 0x02
	RST = 0x04
	ACK = 0x10
)

// mark is the window of the segments that Send makes. A filter recognises them by it.
const mark = 12345

// DropIncoming drops every segment that arrives for the socket, as if the network had lost
// it. With exceptSent, segments of Send still arrive.
func (s *Sock) DropIncoming(exceptSent bool) {
	s.t.Helper()
	if !exceptSent {
		s.filter(unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0})
		return
	}
	s.onlyWhere(unix.BPF_H, 14, mark) // the window
}

// OnlySYN drops every segment but a bare SYN, for the socket and those that it accepts.
func (s *Sock) OnlySYN() {
	s.t.Helper()
	s.onlyWhere(unix.BPF_B, 13, SYN) // the flags
}

// onlyWhere drops the segments whose TCP header has another value at offset. The data of a
// TCP socket's filter begin with the TCP header (tcp_filter()).
func (s *Sock) onlyWhere(size uint16, offset, value uint32) {
	s.t.Helper()
	s.filter(
		unix.SockFilter{Code: unix.BPF_LD | size | unix.BPF_ABS, K: offset},
		unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 0, Jf: 1, K: value},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0xffff},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	)
}

func (s *Sock) filter(program ...unix.SockFilter) {
	s.t.Helper()
	s.must("SO_ATTACH_FILTER", unix.SetsockoptSockFprog(s.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}))
}

// LetIncoming undoes DropIncoming and OnlySYN.
func (s *Sock) LetIncoming() {
	s.t.Helper()
	s.Set(unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
}

// Sequence is the next sequence number that an established socket will send.
func (s *Sock) Sequence() uint32 {
	s.t.Helper()
	s.Set(unix.IPPROTO_TCP, unix.TCP_REPAIR, 1)
	s.Set(unix.IPPROTO_TCP, unix.TCP_REPAIR_QUEUE, 2) // TCP_SEND_QUEUE
	seq, err := unix.GetsockoptInt(s.fd, unix.IPPROTO_TCP, unix.TCP_QUEUE_SEQ)
	s.must("TCP_QUEUE_SEQ", err)
	s.Set(unix.IPPROTO_TCP, unix.TCP_REPAIR, -1) // TCP_REPAIR_OFF_NO_WP
	return uint32(seq)
}

// Send sends one bare segment into the namespace, from one port to another.
func (n *NS) Send(from, to netip.AddrPort, flags byte, seq, ack uint32) {
	n.t.Helper()
	n.sendRaw(to.Addr(), unix.IPPROTO_TCP, segment(from, to, flags, seq, ack))
}

func segment(from, to netip.AddrPort, flags byte, seq, ack uint32, data ...byte) []byte {
	h := make([]byte, 20, 20+len(data))
	binary.BigEndian.PutUint16(h[0:], from.Port())
	binary.BigEndian.PutUint16(h[2:], to.Port())
	binary.BigEndian.PutUint32(h[4:], seq)
	binary.BigEndian.PutUint32(h[8:], ack)
	h[12] = 5 << 4
	h[13] = flags
	binary.BigEndian.PutUint16(h[14:], mark)
	h = append(h, data...)
	binary.BigEndian.PutUint16(h[16:], checksum(pseudoHeader(from.Addr(), to.Addr(), unix.IPPROTO_TCP, len(h)), h))
	return h
}

// A Racer sends two segments of one connection at the same time, each from a CPU of its own.
type Racer struct {
	data, fin chan []byte
	turn      atomic.Int32 // counts those who are ready
	done      chan error
}

// Race starts a Racer of IPv4 segments. It needs two CPUs.
func (n *NS) Race() *Racer {
	r := &Racer{data: make(chan []byte), fin: make(chan []byte), done: make(chan error)}
	for cpu, segments := range []chan []byte{r.data, r.fin} {
		go func() {
			if err := netns.Do(n.path, func() error { return r.run(cpu, segments) }); err != nil {
				r.done <- err
			}
		}()
	}
	n.t.Cleanup(func() { close(r.data); close(r.fin) })
	return r
}

func (r *Racer) run(cpu int, segments chan []byte) error {
	var all, one unix.CPUSet
	one.Set(cpu)
	if err := errors.Join(unix.SchedGetaffinity(0, &all), unix.SchedSetaffinity(0, &one)); err != nil {
		return err
	}
	defer func() { _ = unix.SchedSetaffinity(0, &all) }() // others will use this thread
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for s := range segments {
		for r.turn.Add(1); r.turn.Load() < 2; {
		}
		r.done <- unix.Sendto(fd, s, 0, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	return nil
}

// DataAndFIN sends two bytes of data, and a FIN of the same sequence number, and waits until both
// were sent.
func (r *Racer) DataAndFIN(from, to netip.AddrPort, seq, ack uint32) error {
	r.turn.Store(0)
	r.data <- segment(from, to, ACK, seq, ack, 1, 2)
	r.fin <- segment(from, to, FIN|ACK, seq, ack)
	return errors.Join(<-r.done, <-r.done)
}

// A Sniffer sees the TCP segments that arrive in the namespace.
type Sniffer struct {
	n  *NS
	fd int
	v4 bool
}

// Sniff starts to receive the segments of a family.
func (n *NS) Sniff(f Family) *Sniffer {
	n.t.Helper()
	s := &Sniffer{n: n, v4: f.AF == unix.AF_INET}
	var err error
	n.Do(func() { s.fd, err = unix.Socket(f.AF, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP) })
	if err == nil {
		err = unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10})
	}
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { unix.Close(s.fd) })
	return s
}

// SYN waits for a SYN to a port. It returns the SYN's first 8 bytes: ports and sequence number.
func (s *Sniffer) SYN(to uint16) []byte {
	s.n.t.Helper()
	buf := make([]byte, 2048)
	for {
		k, _, err := unix.Recvfrom(s.fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			s.n.t.Fatalf("wait for a SYN: %v", err)
		}
		seg := buf[:k]
		if s.v4 { // an IPv4 raw socket also delivers the IP header
			seg = seg[int(seg[0]&15)*4:]
		}
		if len(seg) >= 20 && seg[13] == SYN && binary.BigEndian.Uint16(seg[2:]) == to {
			return append([]byte(nil), seg[:8]...)
		}
	}
}

// HostUnreachable sends the error of a router that cannot reach the destination of a segment:
// ICMP (RFC 792) or ICMPv6 (RFC 4443, section 3.1), with the head of the segment.
func (n *NS) HostUnreachable(from, to netip.Addr, segment []byte) {
	n.t.Helper()
	if from.Is4() {
		ip := make([]byte, 20)
		ip[0], ip[8], ip[9] = 4<<4|5, 64, unix.IPPROTO_TCP
		binary.BigEndian.PutUint16(ip[2:], 60)
		copy(ip[12:], from.AsSlice())
		copy(ip[16:], to.AsSlice())
		msg := append([]byte{3, 1, 0, 0, 0, 0, 0, 0}, append(ip, segment...)...)
		binary.BigEndian.PutUint16(msg[2:], checksum(nil, msg))
		n.sendRaw(from, unix.IPPROTO_ICMP, msg)
		return
	}
	ip := make([]byte, 40)
	ip[0], ip[6], ip[7] = 6<<4, unix.IPPROTO_TCP, 64
	binary.BigEndian.PutUint16(ip[4:], 40)
	copy(ip[8:], from.AsSlice())
	copy(ip[24:], to.AsSlice())
	msg := append([]byte{1, 3, 0, 0, 0, 0, 0, 0}, append(ip, segment...)...)
	n.sendRaw(from, unix.IPPROTO_ICMPV6, msg) // the kernel fills in the checksum (RFC 3542, section 3.1)
}

func (n *NS) sendRaw(to netip.Addr, proto int, payload []byte) {
	n.t.Helper()
	af := unix.AF_INET
	if to.Is6() {
		af = unix.AF_INET6
	}
	var err error
	n.Do(func() {
		var fd int
		if fd, err = unix.Socket(af, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto); err != nil {
			return
		}
		defer unix.Close(fd)
		err = unix.Sendto(fd, payload, 0, sockaddr(netip.AddrPortFrom(to, 0)))
	})
	if err != nil {
		n.t.Fatalf("send a raw packet: %v", err)
	}
}

// pseudoHeader is the pseudo-header of TCP checksums (RFC 9293, section 3.1; RFC 8200, section
// 8.1). Both families can use the IPv6 layout, because the checksum is a sum of 16-bit words.
func pseudoHeader(from, to netip.Addr, proto, length int) []byte {
	h := append(from.AsSlice(), to.AsSlice()...)
	h = binary.BigEndian.AppendUint32(h, uint32(length))
	return binary.BigEndian.AppendUint32(h, uint32(proto))
}

// checksum is the Internet checksum (RFC 1071).
func checksum(parts ...[]byte) uint16 {
	var sum uint32
	for _, p := range parts {
		for i := 0; i+1 < len(p); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(p[i:]))
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
