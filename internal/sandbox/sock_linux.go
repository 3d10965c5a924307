package sandbox

import (
	"net/netip"
	"os"
	"strconv"
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

// Families are IPv4 and IPv6.
var Families = []Family{
	{"ipv4", unix.AF_INET, netip.MustParseAddr("127.0.0.1")},
	{"ipv6", unix.AF_INET6, netip.MustParseAddr("::1")},
}

// A Sock is a TCP socket outside the Go runtime's poller: each call is a system call.
type Sock struct {
	t      T
	ns     *NS
	family Family
	fd     int
	Cookie uint64 // SO_COOKIE
	Local  netip.AddrPort
	once   sync.Once
}

// Socket makes a socket in the namespace. The end of the test closes it, if it is still open.
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
	zone, _ := strconv.ParseUint(a.Addr().Zone(), 10, 32) // without one it is 0
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16(), ZoneId: uint32(zone)}
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		addr := netip.AddrFrom16(sa.Addr)
		if sa.ZoneId != 0 {
			addr = addr.WithZone(strconv.FormatUint(uint64(sa.ZoneId), 10))
		}
		return netip.AddrPortFrom(addr, uint16(sa.Port))
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

// TrySet is like Set, and returns the error: the kernel may not know or not allow the option.
func (s *Sock) TrySet(level, opt, value int) error {
	return unix.SetsockoptInt(s.fd, level, opt, value)
}

// Bind binds to a port of the family's loopback address. 0 means any port. The port may be in TIME_WAIT.
func (s *Sock) Bind(port uint16) *Sock {
	s.t.Helper()
	s.Set(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	s.must("bind", unix.Bind(s.fd, sockaddr(netip.AddrPortFrom(s.family.Addr, port))))
	s.name()
	return s
}

// TryBind is like Bind without SO_REUSEADDR, and returns the errno if the port is in use.
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

// TryConnect is like Connect, and returns the errno.
func (s *Sock) TryConnect(to netip.AddrPort) error {
	err := unix.Connect(s.fd, sockaddr(to))
	if err == nil {
		s.name()
	}
	return err
}

// Connecting begins to connect, without waiting for the answer.
func (s *Sock) Connecting(to netip.AddrPort) *Sock {
	s.t.Helper()
	s.must("O_NONBLOCK", unix.SetNonblock(s.fd, true))
	if err := unix.Connect(s.fd, sockaddr(to)); err != unix.EINPROGRESS {
		s.t.Fatalf("connect: %v, want %v", err, unix.EINPROGRESS)
	}
	s.name()
	return s
}

// TryShutdown calls shutdown(2) for both directions, and returns the errno.
func (s *Sock) TryShutdown() error { return unix.Shutdown(s.fd, unix.SHUT_RDWR) }

// Accept accepts the next connection of a listener.
func (s *Sock) Accept() *Sock {
	s.t.Helper()
	c := &Sock{t: s.t, ns: s.ns, family: s.family}
	var err error
	c.fd, _, err = unix.Accept4(s.fd, unix.SOCK_CLOEXEC)
	c.adopt(err)
	c.name()
	return c
}

// File is another descriptor of the socket, for another process.
func (s *Sock) File() *os.File {
	s.t.Helper()
	fd, err := unix.FcntlInt(uintptr(s.fd), unix.F_DUPFD_CLOEXEC, 0)
	s.must("dup", err)
	return os.NewFile(uintptr(fd), "socket")
}

// Close closes the descriptor, once.
func (s *Sock) Close() {
	s.once.Do(func() {
		// A process that is being started has a copy of the descriptor until it calls
		// execve(2). Without the lock that process could be the one to close the socket.
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
		unix.Close(s.fd)
	})
}

// Reset closes the socket with SO_LINGER 0, which sends an RST.
func (s *Sock) Reset() {
	s.t.Helper()
	s.must("SO_LINGER", unix.SetsockoptLinger(s.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
	s.Close()
}

// Orphan closes the socket so that a minisock holds its FIN_WAIT_2. After a plain close() the
// FIN may be acknowledged while the process still has the socket locked. Then the socket stays
// a full one, and resets the peer when its timer expires (tcp_rcv_state_process(),
// tcp_keepalive_timer()).
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

// WriteBytes sends n bytes.
func (s *Sock) WriteBytes(n int) {
	s.t.Helper()
	sent, err := unix.Write(s.fd, make([]byte, n))
	s.must("write", err)
	if sent != n {
		s.t.Fatalf("wrote %d of %d bytes", sent, n)
	}
}

// ReadBytes reads until n bytes have come.
func (s *Sock) ReadBytes(n int) {
	s.t.Helper()
	for buf := make([]byte, n); len(buf) > 0; {
		got, err := unix.Read(s.fd, buf)
		s.must("read", err)
		if got == 0 {
			s.t.Fatalf("the peer's data ended %d bytes early", len(buf))
		}
		buf = buf[got:]
	}
}

// Fill sends until neither this end nor the peer has room for more.
func (s *Sock) Fill() {
	s.t.Helper()
	s.must("O_NONBLOCK", unix.SetNonblock(s.fd, true))
	zeros := make([]byte, 1<<16)
	s.Wait("the peer's window to close", func(i *unix.TCPInfo) bool {
		var err error
		for err == nil {
			_, err = unix.Write(s.fd, zeros)
		}
		return err == unix.EAGAIN && i.Probes > 0
	})
}

// Read reads a byte.
func (s *Sock) Read() {
	s.t.Helper()
	_, err := unix.Read(s.fd, make([]byte, 1))
	s.must("read", err)
}

// TryRead is like Read, and returns the errno.
func (s *Sock) TryRead() error {
	_, err := unix.Read(s.fd, make([]byte, 1))
	return err
}

// Info returns TCP_INFO.
func (s *Sock) Info() *unix.TCPInfo {
	s.t.Helper()
	info, err := unix.GetsockoptTCPInfo(s.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	s.must("TCP_INFO", err)
	return info
}

// WaitState waits until TCP_INFO shows the state, given by its number.
func (s *Sock) WaitState(state uint8) {
	s.t.Helper()
	s.Wait("the socket's state", func(i *unix.TCPInfo) bool { return i.State == state })
}

// Wait waits until ok accepts TCP_INFO. what names it in the error.
func (s *Sock) Wait(what string, ok func(*unix.TCPInfo) bool) {
	s.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(s.Info()); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("waited 30s for %s; the socket is in state %d", what, s.Info().State)
		}
	}
}

// A Pair is a listener with one connection.
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

// BindAny binds to a free port of the unspecified address.
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

// TryListen is like Listen, and returns the errno.
func (s *Sock) TryListen() error { return unix.Listen(s.fd, 128) }

// Disconnect returns the socket to CLOSED with connect(2) and AF_UNSPEC.
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
