package testnet

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Destroy ends the socket, or minisock, between two ports of the namespace by
// SOCK_DESTROY, which is what ss -K sends (sock_diag(7)). A kernel whose tcp_diag
// is not loaded answers ENOENT.
func (n *NS) Destroy(local, remote netip.AddrPort) error {
	n.t.Helper()
	const (
		sockDestroy = 21 // SOCK_DESTROY, linux/sock_diag.h
		allStates   = 1<<32 - 1
	)
	family := byte(unix.AF_INET)
	if local.Addr().Is6() {
		family = unix.AF_INET6
	}
	// struct nlmsghdr, struct inet_diag_req_v2 (linux/inet_diag.h): the ports and
	// addresses in network order, any device, no cookie.
	msg := make([]byte, 72)
	binary.NativeEndian.PutUint32(msg[0:], uint32(len(msg)))
	binary.NativeEndian.PutUint16(msg[4:], sockDestroy)
	binary.NativeEndian.PutUint16(msg[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	msg[16], msg[17] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(msg[20:], allStates)
	binary.BigEndian.PutUint16(msg[24:], local.Port())
	binary.BigEndian.PutUint16(msg[26:], remote.Port())
	copy(msg[28:44], local.Addr().AsSlice())
	copy(msg[44:60], remote.Addr().AsSlice())
	binary.NativeEndian.PutUint64(msg[64:], 1<<64-1)

	var errno int32
	var err error
	n.Do(func() {
		var fd int
		if fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG); err != nil {
			return
		}
		defer unix.Close(fd)
		if err = unix.Sendto(fd, msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return
		}
		answer := make([]byte, 512)
		var k int
		if k, _, err = unix.Recvfrom(fd, answer, 0); err == nil && k >= 20 {
			errno = int32(binary.NativeEndian.Uint32(answer[16:])) // struct nlmsgerr
		}
	})
	if err == nil && errno != 0 {
		err = unix.Errno(-errno)
	}
	return err
}
