package sockdiag

import (
	"errors"
	"fmt"
	"runtime"

	"finwait/internal/netns"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A Conn asks the kernel about the sockets of one network namespace. It is for
// one goroutine at a time.
type Conn struct {
	nl       *netlink.Conn
	netns    uint32
	byFamily bool // the kernel has no tcpDiagGetSock
}

// bufferSize is the most that the kernel puts into one datagram of a dump (netlink_dump(), net/netlink/af_netlink.c).
const bufferSize = 32 << 10

// Open opens a Conn to the network namespace of the calling thread. The Conn stays in that
// namespace, whichever thread uses it.
func Open() (*Conn, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	inode, err := netns.Inode("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("find the network namespace: %w", err)
	}
	nl, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, &netlink.Config{MessageBufferSize: bufferSize})
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		err = errNoDiag
	}
	if err != nil {
		return nil, fmt.Errorf("open sock_diag: %w", err)
	}
	return &Conn{nl: nl, netns: inode}, nil
}

var (
	errNoDiag    = errors.New("this kernel cannot list TCP sockets: load its module tcp_diag, or use one built with CONFIG_INET_TCP_DIAG")
	errNoDestroy = errors.New("this kernel was built without CONFIG_INET_DIAG_DESTROY")
	errSequence  = errors.New("an answer to another question arrived")
)

// NetNS is the inode number of the network namespace.
func (c *Conn) NetNS() uint32 { return c.netns }

// Close ends the connection.
func (c *Conn) Close() error { return c.nl.Close() }

// List calls fn for each IPv4 and IPv6 socket in one of the given states. states is a mask
// such as AllStates. An error of fn ends List, which returns it. The Socket is only valid
// during the call.
//
// The kernel walks its tables a few hundred sockets at a time. A socket that is added, is
// removed or becomes a minisock meanwhile may be listed, missed or, rarely, listed twice.
func (c *Conn) List(states uint32, fn func(*Socket) error) error { return c.list(states, false, fn) }

// ListWithInfo is List, and also asks for the Info of full sockets, which makes the kernel copy
// three times as much.
func (c *Conn) ListWithInfo(states uint32, fn func(*Socket) error) error {
	return c.list(states, true, fn)
}

func (c *Conn) list(states uint32, info bool, fn func(*Socket) error) error {
	ask := states & (AllStates | BoundOnly)
	if ask == 0 {
		return nil
	}
	return c.sockets(ask, info, func(s *Socket) error {
		switch {
		case s.State == closed && (states&BoundOnly == 0 || s.Remote.Port() != 0):
			return nil // a connection that has ended since the kernel chose it
		case s.State != closed && states&(1<<s.State) == 0:
			return nil // a request for SYN_RECV also lists NEW_SYN_RECV
		}
		return fn(s)
	})
}

// tcpDiagGetSock asks as TCPDIAG_GETSOCK did before there was SOCK_DIAG_BY_FAMILY. Its dump is of
// all families (inet_diag_dump_compat(), net/ipv4/inet_diag.c), so the kernel walks its table once.
// The table is that of all network namespaces: with many of them, the walks are what ls costs.
const tcpDiagGetSock = 18

func (c *Conn) sockets(states uint32, info bool, fn func(*Socket) error) error {
	var s Socket
	listed := false
	read := func(b []byte) error {
		listed = true
		if err := s.parse(b); err != nil {
			return fmt.Errorf("read a socket from sock_diag: %w", err)
		}
		return fn(&s)
	}
	if !c.byFamily {
		err := c.dump(tcpDiagGetSock, appendOldListRequest(nil, states, info), read)
		if err == nil || listed {
			return err
		}
		// A kernel that does not know the request answers it at once.
		c.byFamily = true
	}
	for _, family := range []uint8{familyIPv4, familyIPv6} {
		if err := c.dump(unix.SOCK_DIAG_BY_FAMILY, appendListRequest(nil, family, states, info), read); err != nil {
			return err
		}
	}
	return nil
}

// ListsBound reports whether the kernel obeys BoundOnly: one that does not, does not say so. It binds
// a socket of its own to a free port, in the network namespace of the calling thread, and looks.
func ListsBound() (bool, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return false, fmt.Errorf("open a socket: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{}); err != nil {
		return false, fmt.Errorf("bind a socket: %w", err)
	}
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		return false, fmt.Errorf("read SO_COOKIE: %w", err)
	}
	c, err := Open()
	if err != nil {
		return false, err
	}
	defer c.Close()
	found := errors.New("found")
	err = c.List(BoundOnly, func(s *Socket) error {
		if s.Cookie == cookie {
			return found // the kernel need not look at the others
		}
		return nil
	})
	if errors.Is(err, found) {
		return true, nil
	}
	return false, err
}

// dump sends a request and calls fn with the payload of each answer. It reads
// datagram by datagram, so that memory does not grow with the number of sockets.
func (c *Conn) dump(kind netlink.HeaderType, request []byte, fn func([]byte) error) error {
	sent, err := c.nl.Send(netlink.Message{
		Header: netlink.Header{Type: kind, Flags: netlink.Request | netlink.Dump},
		Data:   request,
	})
	if err != nil {
		return fmt.Errorf("list TCP sockets: %w", err)
	}
	for m, err := range c.nl.ReceiveIter() {
		if errors.Is(err, unix.ENOENT) {
			return errNoDiag
		}
		if err != nil {
			return fmt.Errorf("list TCP sockets: %w", err)
		}
		if m.Header.Sequence != sent.Header.Sequence {
			return fmt.Errorf("list TCP sockets: %w", errSequence)
		}
		if err := fn(m.Data); err != nil {
			return err // leaving the loop discards the rest of the answer
		}
	}
	return nil
}

// Destroy ends a socket like ss -K: it aborts the connection of a full socket, and drops a
// minisock. It needs CAP_NET_ADMIN.
func (c *Conn) Destroy(s *Socket) error {
	_, err := c.nl.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.SOCK_DESTROY, Flags: netlink.Request | netlink.Acknowledge},
		Data:   appendRequest(nil, s),
	})
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = errNoDestroy
	}
	if err != nil {
		return fmt.Errorf("destroy socket %v to %v: %w", s.Local, s.Remote, err)
	}
	return nil
}
