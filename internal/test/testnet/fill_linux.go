package testnet

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"finwait/internal/sandbox"

	"golang.org/x/sys/unix"
)

// Loopback returns the addresses that Fill knows: IPv4, IPv6, and IPv4 on an IPv6 socket.
func Loopback() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback(), netip.MustParseAddr("::ffff:127.0.0.1")}
}

// Fill makes sockets in every state. FIN_WAIT_2 is made twice: as a full socket and as a
// minisock. The sockets keep their states for at least half a minute. Fill returns how
// many there are in each state.
func Fill(t testing.TB, n *sandbox.NS, addrs ...netip.Addr) sandbox.Census {
	t.Helper()
	all := make(sandbox.Census)
	n.Try(func() error {
		for _, a := range addrs {
			f := filler{t: t, addr: a, census: all}
			if err := f.fill(); err != nil {
				return fmt.Errorf("fill the namespace with sockets of %v: %w", a, err)
			}
		}
		return nil
	})
	waitFor(t, n, all)
	return all
}

// A filler makes the sockets of one address. Socket filters that drop what arrives keep
// the sockets in their states.
type filler struct {
	t      testing.TB
	addr   netip.Addr
	census sandbox.Census
	ln     int
	lnAddr unix.Sockaddr
}

func (f *filler) fill() (err error) {
	if f.ln, f.lnAddr, err = f.listener(); err != nil {
		return err
	}
	for _, step := range []func() error{
		f.open, f.unaccepted, f.held, f.orphan, f.timeWait,
		f.unacknowledged, f.lastAck, f.closing, f.synSent, f.request, f.selfConnect,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (f *filler) count(states ...uint8) {
	for _, s := range states {
		f.census[s]++
	}
}

// keep closes fd when the test ends.
func (f *filler) keep(fd int) { f.t.Cleanup(func() { unix.Close(fd) }) }

func (f *filler) socket(flags int) (int, error) {
	family := unix.AF_INET
	if f.addr.Is6() {
		family = unix.AF_INET6
	}
	return unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0)
}

func (f *filler) sockaddr() unix.Sockaddr {
	if f.addr.Is4() {
		return &unix.SockaddrInet4{Addr: f.addr.As4()}
	}
	return &unix.SockaddrInet6{Addr: f.addr.As16()}
}

func (f *filler) listener() (fd int, addr unix.Sockaddr, err error) {
	if fd, err = f.socket(0); err != nil {
		return 0, nil, err
	}
	f.keep(fd)
	if err := unix.Bind(fd, f.sockaddr()); err != nil {
		return 0, nil, err
	}
	if err := unix.Listen(fd, 64); err != nil {
		return 0, nil, err
	}
	f.count(unix.BPF_TCP_LISTEN)
	addr, err = unix.Getsockname(fd)
	return fd, addr, err
}

func (f *filler) pair() (client, server int, err error) {
	if client, err = f.socket(0); err != nil {
		return 0, 0, err
	}
	if err := unix.Connect(client, f.lnAddr); err != nil {
		return 0, 0, err
	}
	server, _, err = unix.Accept4(f.ln, unix.SOCK_CLOEXEC)
	return client, server, err
}

func (f *filler) open() error {
	client, server, err := f.pair()
	if err != nil {
		return err
	}
	f.keep(client)
	f.keep(server)
	f.count(unix.BPF_TCP_ESTABLISHED, unix.BPF_TCP_ESTABLISHED)
	return nil
}

// unaccepted leaves a connection in the accept queue of its own listener.
func (f *filler) unaccepted() error {
	_, addr, err := f.listener()
	if err != nil {
		return err
	}
	client, err := f.socket(0)
	if err != nil {
		return err
	}
	f.keep(client)
	f.count(unix.BPF_TCP_ESTABLISHED, unix.BPF_TCP_ESTABLISHED)
	return unix.Connect(client, addr)
}

// held makes FIN_WAIT_2 of a full socket: it is shut down, and its descriptor stays open.
func (f *filler) held() error {
	client, server, err := f.pair()
	if err != nil {
		return err
	}
	f.keep(client)
	f.keep(server)
	f.count(unix.BPF_TCP_FIN_WAIT2, unix.BPF_TCP_CLOSE_WAIT)
	return unix.Shutdown(client, unix.SHUT_WR)
}

// orphan makes FIN_WAIT_2 of a minisock: the socket is closed.
func (f *filler) orphan() error {
	client, server, err := f.pair()
	if err != nil {
		return err
	}
	f.keep(server)
	f.count(unix.BPF_TCP_FIN_WAIT2, unix.BPF_TCP_CLOSE_WAIT)
	return unix.Close(client)
}

func (f *filler) timeWait() error {
	client, server, err := f.pair()
	if err != nil {
		return err
	}
	if err := unix.Close(client); err != nil {
		return err
	}
	f.count(unix.BPF_TCP_TIME_WAIT)
	if err := waitState(server, unix.BPF_TCP_CLOSE_WAIT); err != nil {
		return err
	}
	return unix.Close(server)
}

// unacknowledged makes FIN_WAIT_1: the peer drops the FIN.
func (f *filler) unacknowledged() error {
	client, server, err := f.pair()
	if err != nil {
		return err
	}
	f.keep(server)
	if err := drop(server); err != nil {
		return err
	}
	f.count(unix.BPF_TCP_FIN_WAIT1, unix.BPF_TCP_ESTABLISHED)
	return unix.Close(client)
}

func (f *filler) lastAck() error {
	client, server, err := f.pair()
	if err != nil {
		return err
	}
	f.keep(client)
	if err := unix.Shutdown(client, unix.SHUT_WR); err != nil {
		return err
	}
	if err := waitState(client, unix.BPF_TCP_FIN_WAIT2); err != nil {
		return err
	}
	if err := drop(client); err != nil {
		return err
	}
	f.count(unix.BPF_TCP_LAST_ACK, unix.BPF_TCP_FIN_WAIT2)
	return unix.Close(server)
}

// closing makes CLOSING: both ends send a FIN that the peer drops. Then one end accepts
// segments again, and receives the FIN when it is retransmitted.
func (f *filler) closing() error {
	client, server, err := f.pair()
	if err != nil {
		return err
	}
	f.keep(client)
	f.keep(server)
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
	f.count(unix.BPF_TCP_FIN_WAIT1, unix.BPF_TCP_CLOSING)
	return unix.SetsockoptInt(server, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
}

// synSent connects to a listener that drops every SYN.
func (f *filler) synSent() error {
	ln, addr, err := f.listener()
	if err != nil {
		return err
	}
	if err := drop(ln); err != nil {
		return err
	}
	f.count(unix.BPF_TCP_SYN_SENT)
	return f.begin(addr)
}

// request makes NEW_SYN_RECV: the listener defers the socket until data arrives.
func (f *filler) request() error {
	ln, addr, err := f.listener()
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(ln, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 60); err != nil {
		return err
	}
	f.count(unix.BPF_TCP_ESTABLISHED, unix.BPF_TCP_NEW_SYN_RECV)
	return f.begin(addr)
}

// selfConnect makes SYN_RECV of a full socket: the socket receives its own SYN, and drops
// its own SYN+ACK.
func (f *filler) selfConnect() error {
	fd, err := f.socket(unix.SOCK_NONBLOCK)
	if err != nil {
		return err
	}
	f.keep(fd)
	if err := unix.Bind(fd, f.sockaddr()); err != nil {
		return err
	}
	addr, err := unix.Getsockname(fd)
	if err != nil {
		return err
	}
	const flags, syn = 13, 0x02 // offset of the TCP flags, and the flags of a bare SYN
	if err := filter(fd,
		unix.SockFilter{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: flags},
		unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: syn},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 16},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	); err != nil {
		return err
	}
	f.count(unix.BPF_TCP_SYN_RECV)
	return inProgress(unix.Connect(fd, addr))
}

// begin starts to connect and does not wait.
func (f *filler) begin(addr unix.Sockaddr) error {
	fd, err := f.socket(unix.SOCK_NONBLOCK)
	if err != nil {
		return err
	}
	f.keep(fd)
	return inProgress(unix.Connect(fd, addr))
}

func inProgress(err error) error {
	if err == unix.EINPROGRESS {
		return nil
	}
	return err
}

// drop makes a socket drop every segment that arrives.
func drop(fd int) error {
	return filter(fd, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0})
}

func filter(fd int, program ...unix.SockFilter) error {
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
}

// timeout is far longer than any of the steps takes on an idle machine.
const timeout = 20 * time.Second

func poll(what string, done func() (bool, error)) error {
	for deadline := time.Now().Add(timeout); ; time.Sleep(5 * time.Millisecond) {
		switch ok, err := done(); {
		case err != nil:
			return err
		case ok:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("%s: not reached in %v", what, timeout)
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
func waitFor(t testing.TB, n *sandbox.NS, want sandbox.Census) {
	t.Helper()
	var seen sandbox.Census
	err := poll("the sockets", func() (bool, error) {
		seen = n.States()
		for state := uint8(unix.BPF_TCP_ESTABLISHED); state <= unix.BPF_TCP_CLOSING; state++ {
			number := want[state]
			if state == unix.BPF_TCP_SYN_RECV {
				number += want[unix.BPF_TCP_NEW_SYN_RECV] // /proc/net/tcp shows both as SYN_RECV
			}
			if seen[state] != number {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		t.Fatalf("%v: want %v by state, /proc/net/tcp has %v", err, want, seen)
	}
}

// TimeWaits leaves the client's ends of count connections in TIME_WAIT. It makes one
// listener for every 20,000 of them, because connect(2) searches longer for a free port
// the more ports to one destination are in use.
func TimeWaits(t testing.TB, n *sandbox.NS, count int) {
	t.Helper()
	listeners := 0
	n.Try(func() error {
		for key, value := range map[string]string{
			"ip_local_port_range": "1024 65535",
			"tcp_tw_reuse":        "0", // otherwise connect(2) reuses those older than a second
			"tcp_max_tw_buckets":  strconv.Itoa(2 * count),
		} {
			if err := os.WriteFile(filepath.Join("/proc/sys/net/ipv4", key), []byte(value), 0o644); err != nil {
				return err
			}
		}
		f := filler{t: t, addr: netip.MustParseAddr("127.0.0.1"), census: make(sandbox.Census)}
		for i := range count {
			if i%20_000 == 0 {
				var err error
				if f.ln, f.lnAddr, err = f.listener(); err != nil {
					return err
				}
				listeners++
			}
			client, server, err := f.pair()
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
	waitFor(t, n, sandbox.Census{unix.BPF_TCP_LISTEN: listeners, unix.BPF_TCP_TIME_WAIT: count})
}
