package sandbox

import (
	"net/netip"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Family is IPv4 or IPv6, with its loopback address.
type Family struct {
	Name string
	AF   int
	Addr netip.Addr
}

// Families are both.
var Families = []Family{
	{"ipv4", unix.AF_INET, netip.MustParseAddr("127.0.0.1")},
	{"ipv6", unix.AF_INET6, netip.MustParseAddr("::1")},
}

// A Sock is a TCP socket, without the runtime's poller in between: a call here is a system call.
type Sock struct {
	t      T
	ns     *NS
	family Family
	fd     int
	Cookie uint64 // asked of the kernel itself
	Local  netip.AddrPort
	once   sync.Once
}

// Socket makes a socket in the namespace. It is closed at the end, if it was not before.
func (n *NS) Socket(f Family) *Sock {
	n.t.Helper()
	s := &Sock{t: n.t, ns: n, family: f}
	var err error
	n.Do(func() { s.fd, err = unix.Socket(f.AF, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0) })
	s.adopt(err)
	return s
}

func (s *Sock) adopt(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
	s.Cookie, err = unix.GetsockoptUint64(s.fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	s.must("SO_COOKIE", err)
	s.t.Cleanup(s.Close)
	s.ns.mu.Lock()
	defer s.ns.mu.Unlock()
	s.ns.socks = append(s.ns.socks, s)
}

func (s *Sock) must(what string, err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

func (s *Sock) name() {
	s.t.Helper()
	sa, err := unix.Getsockname(s.fd)
	s.must("getsockname", err)
	s.Local = addrPort(sa)
}

// Set sets an integer option.
func (s *Sock) Set(level, opt, value int) *Sock {
	s.t.Helper()
	s.must("setsockopt", s.TrySet(level, opt, value))
	return s
}

// TrySet is Set for an option that the kernel may not know, or not allow.
func (s *Sock) TrySet(level, opt, value int) error {
	return unix.SetsockoptInt(s.fd, level, opt, value)
}

// Bind takes a port of the family's loopback address; 0: any. The port may be in TIME_WAIT.
func (s *Sock) Bind(port uint16) *Sock {
	s.t.Helper()
	s.Set(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	s.must("bind", unix.Bind(s.fd, sockaddr(netip.AddrPortFrom(s.family.Addr, port))))
	s.name()
	return s
}

// TryBind is Bind without SO_REUSEADDR; a port that is not free is an errno.
func (s *Sock) TryBind(port uint16) error {
	return unix.Bind(s.fd, sockaddr(netip.AddrPortFrom(s.family.Addr, port)))
}

// Listen listens on a bound port.
func (s *Sock) Listen() *Sock {
	s.t.Helper()
	s.must("listen", unix.Listen(s.fd, 128))
	return s
}

// Connect connects.
func (s *Sock) Connect(to netip.AddrPort) *Sock {
	s.t.Helper()
	s.must("connect", s.TryConnect(to))
	return s
}

// TryConnect connects; a connection that cannot be is an errno.
func (s *Sock) TryConnect(to netip.AddrPort) error {
	err := unix.Connect(s.fd, sockaddr(to))
	if err == nil {
		s.name()
	}
	return err
}

// Accept takes the next connection of a listener.
func (s *Sock) Accept() *Sock {
	s.t.Helper()
	c := &Sock{t: s.t, ns: s.ns, family: s.family}
	var err error
	c.fd, _, err = unix.Accept4(s.fd, unix.SOCK_CLOEXEC)
	c.adopt(err)
	c.name()
	return c
}

// Close closes the descriptor, once.
func (s *Sock) Close() {
	s.once.Do(func() {
		// A process that is being started has a copy until it calls execve(2),
		// and would be the one to close the socket.
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
		unix.Close(s.fd)
	})
}

// Reset closes the way SO_LINGER 0 does: with an RST.
func (s *Sock) Reset() {
	s.t.Helper()
	s.must("SO_LINGER", unix.SetsockoptLinger(s.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
	s.Close()
}

// Orphan closes the socket so that a minisock is in FIN_WAIT_2 for it. Of a plain
// close() the FIN may be acknowledged while the process still has the socket
// locked: then that stays a full one, which resets the peer as its time is up
// (tcp_rcv_state_process(), tcp_keepalive_timer()).
func (s *Sock) Orphan() {
	s.t.Helper()
	s.ShutdownWrite()
	s.WaitState(unix.BPF_TCP_FIN_WAIT2)
	s.Close()
}

// ShutdownWrite sends a FIN and keeps the descriptor.
func (s *Sock) ShutdownWrite() {
	s.t.Helper()
	s.must("shutdown", unix.Shutdown(s.fd, unix.SHUT_WR))
}

// Write sends a byte.
func (s *Sock) Write() {
	s.t.Helper()
	_, err := unix.Write(s.fd, []byte{1})
	s.must("write", err)
}

// Read takes what Write sent.
func (s *Sock) Read() {
	s.t.Helper()
	_, err := unix.Read(s.fd, make([]byte, 1))
	s.must("read", err)
}

// Info is TCP_INFO.
func (s *Sock) Info() *unix.TCPInfo {
	s.t.Helper()
	info, err := unix.GetsockoptTCPInfo(s.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	s.must("TCP_INFO", err)
	return info
}

// WaitState waits until the kernel says that the socket is in a state, by its number.
func (s *Sock) WaitState(state uint8) {
	s.t.Helper()
	s.Wait("the socket's state", func(i *unix.TCPInfo) bool { return i.State == state })
}

// Wait waits until TCP_INFO is as wanted.
func (s *Sock) Wait(what string, ok func(*unix.TCPInfo) bool) {
	s.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(s.Info()); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("waited 30s for %s; the socket is in state %d", what, s.Info().State)
		}
	}
}

// Pair is a listener with one connection.
type Pair struct {
	Listener, Client, Server *Sock
}

// Pair connects a client with a server.
func (n *NS) Pair(f Family) *Pair {
	n.t.Helper()
	p := &Pair{Listener: n.Socket(f).Bind(0).Listen()}
	p.Client = n.Socket(f).Connect(p.Listener.Local)
	p.Server = p.Listener.Accept()
	return p
}

// MPTCP makes a multipath TCP socket (RFC 8684).
func (n *NS) MPTCP(f Family) *Sock {
	n.t.Helper()
	s := &Sock{t: n.t, ns: n, family: f}
	var err error
	n.Do(func() { s.fd, err = unix.Socket(f.AF, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP) })
	s.adopt(err)
	return s
}

// BindAny takes a free port of every local address.
func (s *Sock) BindAny() *Sock {
	s.t.Helper()
	any := netip.IPv6Unspecified()
	if s.family.AF == unix.AF_INET {
		any = netip.IPv4Unspecified()
	}
	s.must("bind", unix.Bind(s.fd, sockaddr(netip.AddrPortFrom(any, 0))))
	s.name()
	return s
}

// At is a port of the family's loopback address.
func At(f Family, port uint16) netip.AddrPort { return netip.AddrPortFrom(f.Addr, port) }

// TryListen listens; what keeps it from that is an errno.
func (s *Sock) TryListen() error { return unix.Listen(s.fd, 128) }

// Disconnect makes the socket as good as new: connect(2) with AF_UNSPEC.
func (s *Sock) Disconnect() {
	s.t.Helper()
	unspec := make([]byte, 16)
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(s.fd), uintptr(unsafe.Pointer(&unspec[0])), uintptr(len(unspec)))
	if errno != 0 {
		s.t.Fatalf("connect AF_UNSPEC: %v", errno)
	}
}

// FastOpen connects with a byte of data in the SYN (RFC 7413).
func (s *Sock) FastOpen(to netip.AddrPort) {
	s.t.Helper()
	s.must("sendto MSG_FASTOPEN", unix.Sendto(s.fd, []byte{1}, unix.MSG_FASTOPEN, sockaddr(to)))
	s.name()
}
