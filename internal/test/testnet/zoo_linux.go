package testnet

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// States of include/net/tcp_states.h.
const (
	established = 1 + iota
	synSent
	synRecv
	finWait1
	finWait2
	timeWait
	_
	closeWait
	lastAck
	listen
	closing
	newSynRecv
)

// Loopback are the addresses that Fill knows: IPv4, IPv6, and IPv4 by way of an IPv6 socket.
func Loopback() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback(), netip.MustParseAddr("::ffff:127.0.0.1")}
}

// Fill makes sockets in every state, FIN_WAIT_2 both held and as a minisock,
// that stay as they are for half a minute and more. It says how many there are.
func (n *NS) Fill(addrs ...netip.Addr) Census {
	n.t.Helper()
	all := make(Census)
	n.Try(func() error {
		for _, a := range addrs {
			z := zoo{t: n.t, addr: a, census: all}
			if err := z.fill(); err != nil {
				return fmt.Errorf("fill the namespace with sockets of %v: %w", a, err)
			}
		}
		return nil
	})
	n.waitFor(all)
	return all
}

// A zoo has sockets of one address. What happens between two of them is
// held up by socket filters, which drop what arrives.
type zoo struct {
	t      testing.TB
	addr   netip.Addr
	census Census
	ln     int
	lnAddr unix.Sockaddr
}

func (z *zoo) fill() (err error) {
	if z.ln, z.lnAddr, err = z.listener(); err != nil {
		return err
	}
	for _, stage := range []func() error{
		z.open, z.unaccepted, z.held, z.orphan, z.timeWait,
		z.unacknowledged, z.lastAck, z.closing, z.synSent, z.request, z.selfConnect,
	} {
		if err := stage(); err != nil {
			return err
		}
	}
	return nil
}

func (z *zoo) count(states ...uint8) {
	for _, s := range states {
		z.census[s]++
	}
}

// keep closes fd when the test ends.
func (z *zoo) keep(fd int) { z.t.Cleanup(func() { unix.Close(fd) }) }

func (z *zoo) socket(flags int) (int, error) {
	family := unix.AF_INET
	if z.addr.Is6() {
		family = unix.AF_INET6
	}
	return unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0)
}

func (z *zoo) sockaddr() unix.Sockaddr {
	if z.addr.Is4() {
		return &unix.SockaddrInet4{Addr: z.addr.As4()}
	}
	return &unix.SockaddrInet6{Addr: z.addr.As16()}
}

func (z *zoo) listener() (fd int, addr unix.Sockaddr, err error) {
	if fd, err = z.socket(0); err != nil {
		return 0, nil, err
	}
	z.keep(fd)
	if err := unix.Bind(fd, z.sockaddr()); err != nil {
		return 0, nil, err
	}
	if err := unix.Listen(fd, 64); err != nil {
		return 0, nil, err
	}
	z.count(listen)
	addr, err = unix.Getsockname(fd)
	return fd, addr, err
}

func (z *zoo) pair() (client, server int, err error) {
	if client, err = z.socket(0); err != nil {
		return 0, 0, err
	}
	if err := unix.Connect(client, z.lnAddr); err != nil {
		return 0, 0, err
	}
	server, _, err = unix.Accept4(z.ln, unix.SOCK_CLOEXEC)
	return client, server, err
}

func (z *zoo) open() error {
	client, server, err := z.pair()
	if err != nil {
		return err
	}
	z.keep(client)
	z.keep(server)
	z.count(established, established)
	return nil
}

// unaccepted leaves one end in the queue of a listener of its own.
func (z *zoo) unaccepted() error {
	_, addr, err := z.listener()
	if err != nil {
		return err
	}
	client, err := z.socket(0)
	if err != nil {
		return err
	}
	z.keep(client)
	z.count(established, established)
	return unix.Connect(client, addr)
}

// held is FIN_WAIT_2 of a socket that is shut down but not closed.
func (z *zoo) held() error {
	client, server, err := z.pair()
	if err != nil {
		return err
	}
	z.keep(client)
	z.keep(server)
	z.count(finWait2, closeWait)
	return unix.Shutdown(client, unix.SHUT_WR)
}

// orphan is FIN_WAIT_2 in a minisock.
func (z *zoo) orphan() error {
	client, server, err := z.pair()
	if err != nil {
		return err
	}
	z.keep(server)
	z.count(finWait2, closeWait)
	return unix.Close(client)
}

func (z *zoo) timeWait() error {
	client, server, err := z.pair()
	if err != nil {
		return err
	}
	if err := unix.Close(client); err != nil {
		return err
	}
	z.count(timeWait)
	if err := waitState(server, closeWait); err != nil {
		return err
	}
	return unix.Close(server)
}

// unacknowledged is FIN_WAIT_1: the other end drops the FIN.
func (z *zoo) unacknowledged() error {
	client, server, err := z.pair()
	if err != nil {
		return err
	}
	z.keep(server)
	if err := drop(server); err != nil {
		return err
	}
	z.count(finWait1, established)
	return unix.Close(client)
}

func (z *zoo) lastAck() error {
	client, server, err := z.pair()
	if err != nil {
		return err
	}
	z.keep(client)
	if err := unix.Shutdown(client, unix.SHUT_WR); err != nil {
		return err
	}
	if err := waitState(client, finWait2); err != nil {
		return err
	}
	if err := drop(client); err != nil {
		return err
	}
	z.count(lastAck, finWait2)
	return unix.Close(server)
}

// closing has both ends send a FIN that the other drops; then one of them
// listens again and gets the FIN when it is sent once more.
func (z *zoo) closing() error {
	client, server, err := z.pair()
	if err != nil {
		return err
	}
	z.keep(client)
	z.keep(server)
	for _, fd := range []int{client, server} {
		if err := drop(fd); err != nil {
			return err
		}
	}
	for _, fd := range []int{client, server} {
		if err := unix.Shutdown(fd, unix.SHUT_WR); err != nil {
			return err
		}
	}
	z.count(finWait1, closing)
	return unix.SetsockoptInt(server, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
}

// synSent connects to a listener that drops every SYN.
func (z *zoo) synSent() error {
	ln, addr, err := z.listener()
	if err != nil {
		return err
	}
	if err := drop(ln); err != nil {
		return err
	}
	z.count(synSent)
	return z.begin(addr)
}

// request is NEW_SYN_RECV: the listener wants data before it makes a socket.
func (z *zoo) request() error {
	ln, addr, err := z.listener()
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(ln, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 60); err != nil {
		return err
	}
	z.count(established, newSynRecv)
	return z.begin(addr)
}

// selfConnect is SYN_RECV of a full socket: it receives its own SYN, and drops
// the answer that it gives.
func (z *zoo) selfConnect() error {
	fd, err := z.socket(unix.SOCK_NONBLOCK)
	if err != nil {
		return err
	}
	z.keep(fd)
	if err := unix.Bind(fd, z.sockaddr()); err != nil {
		return err
	}
	addr, err := unix.Getsockname(fd)
	if err != nil {
		return err
	}
	const flags, syn = 13, 0x02 // where the flags of a segment are, and a SYN alone
	if err := filter(fd,
		unix.SockFilter{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: flags},
		unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: syn},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 16},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	); err != nil {
		return err
	}
	z.count(synRecv)
	return inProgress(unix.Connect(fd, addr))
}

// begin connects without waiting.
func (z *zoo) begin(addr unix.Sockaddr) error {
	fd, err := z.socket(unix.SOCK_NONBLOCK)
	if err != nil {
		return err
	}
	z.keep(fd)
	return inProgress(unix.Connect(fd, addr))
}

func inProgress(err error) error {
	if err == unix.EINPROGRESS {
		return nil
	}
	return err
}

// drop makes a socket ignore all that arrives.
func drop(fd int) error {
	return filter(fd, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0})
}

func filter(fd int, program ...unix.SockFilter) error {
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
}

// patience is how long a busy machine may take for what needs no time.
const patience = 20 * time.Second

func poll(what string, done func() (bool, error)) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		switch ok, err := done(); {
		case err != nil:
			return err
		case ok:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("%s did not come in %v", what, patience)
		}
	}
}

func waitState(fd int, state uint8) error {
	return poll(fmt.Sprintf("state %d", state), func() (bool, error) {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		return err == nil && info.State == state, err
	})
}

// waitFor waits until the namespace has exactly these sockets.
func (n *NS) waitFor(want Census) {
	n.t.Helper()
	var seen Census
	err := poll("the sockets", func() (bool, error) {
		seen = n.States()
		for state := uint8(established); state <= closing; state++ {
			number := want[state]
			if state == synRecv {
				number += want[newSynRecv] // one and the same to /proc/net/tcp
			}
			if seen[state] != number {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		n.t.Fatalf("%v: want %v by state, /proc/net/tcp has %v", err, want, seen)
	}
}

// TimeWaits leaves so many connections in TIME_WAIT, the client's end of each,
// and a listener for every 20,000: connect(2) looks longer and longer for a port
// when those of one destination run out.
func (n *NS) TimeWaits(count int) {
	n.t.Helper()
	listeners := 0
	n.Try(func() error {
		for key, value := range map[string]string{
			"ip_local_port_range": "1024 65535",
			"tcp_tw_reuse":        "0", // connect(2) would take over those older than a second
		} {
			if err := os.WriteFile(filepath.Join("/proc/sys/net/ipv4", key), []byte(value), 0o644); err != nil {
				return err
			}
		}
		z := zoo{t: n.t, addr: netip.MustParseAddr("127.0.0.1"), census: make(Census)}
		for i := range count {
			if i%20_000 == 0 {
				var err error
				if z.ln, z.lnAddr, err = z.listener(); err != nil {
					return err
				}
				listeners++
			}
			client, server, err := z.pair()
			if err != nil {
				return err
			}
			if err := unix.Close(client); err != nil {
				return err
			}
			if err := unix.Close(server); err != nil {
				return err
			}
		}
		return nil
	})
	n.waitFor(Census{listen: listeners, timeWait: count})
}
