// Package sandbox makes real sockets in network namespaces of their own, for tests and for
// demonstrations. A failure is fatal to the test or the demonstration.
package sandbox

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"unsafe"

	"finwait/internal/netns"
	"finwait/internal/netstat"

	"golang.org/x/sys/unix"
)

// T owns a namespace. It is a *testing.T, or anything that behaves like one: Fatal and Fatalf
// do not return, and the functions given to Cleanup run at the end, the last one first.
type T interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// A NS is a network namespace. Its only device is loopback, which is up.
type NS struct {
	t      T
	file   *os.File
	path   string
	Inode  uint32
	Cookie uint64
	mu     sync.Mutex
	socks  []*Sock
}

// New makes a namespace that t removes at its end.
func New(t T) *NS {
	t.Helper()
	n := &NS{t: t}
	err := netns.New(func() (err error) {
		if err := loopbackUp(); err != nil {
			return fmt.Errorf("set its loopback device up: %w", err)
		}
		if n.Cookie, err = netns.Cookie(); err != nil {
			return err
		}
		n.file, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	n.path = filepath.Join("/proc/self/fd", strconv.Itoa(int(n.file.Fd())))
	t.Cleanup(n.Remove)
	if n.Inode, err = netns.Inode(n.path); err != nil {
		t.Fatal(err)
	}
	return n
}

// Remove closes the sockets and the descriptor of the namespace. The kernel removes the
// namespace when no process is left in it.
func (n *NS) Remove() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.socks {
		s.Close()
	}
	n.file.Close()
}

// Do runs fn on a thread in the namespace.
func (n *NS) Do(fn func()) {
	n.t.Helper()
	if err := netns.Do(n.path, func() error { fn(); return nil }); err != nil {
		n.t.Fatal(err)
	}
}

// Path is the path of the namespace in /proc. It is valid until Remove.
func (n *NS) Path() string { return n.path }

// Try is like Do, and an error of fn is fatal.
func (n *NS) Try(fn func() error) {
	n.t.Helper()
	if err := netns.Do(n.path, fn); err != nil {
		n.t.Fatal(err)
	}
}

// Start starts a process in the namespace.
func (n *NS) Start(cmd *exec.Cmd) {
	n.t.Helper()
	var err error
	n.Do(func() { err = cmd.Start() })
	if err != nil {
		n.t.Fatal(err)
	}
}

// Sysctl sets net.ipv4.KEY of the namespace.
func (n *NS) Sysctl(key, value string) {
	n.t.Helper()
	n.Try(func() error {
		return os.WriteFile(filepath.Join("/proc/sys/net/ipv4", key), []byte(value), 0o644)
	})
}

// Counter reads one counter of the namespace. Package netstat defines its names.
func (n *NS) Counter(name string) int {
	n.t.Helper()
	var all netstat.Counters
	n.Try(func() (err error) {
		all, err = netstat.Read()
		return err
	})
	value, ok := all[name]
	if !ok {
		n.t.Fatalf("the kernel has no counter %s", name)
	}
	return int(value)
}

// Census counts sockets by the kernel's number of their state (include/net/tcp_states.h).
type Census map[uint8]int

// States counts the IPv4 and IPv6 sockets of the namespace.
func (n *NS) States() Census { return n.PortStates(0) }

// PortStates is like States, for the sockets of one local port. 0 means any port.
func (n *NS) PortStates(port uint16) (seen Census) {
	n.t.Helper()
	n.Try(func() (err error) {
		seen, err = proc(port)
		return err
	})
	return seen
}

// proc counts the sockets in /proc/net/tcp and tcp6 (proc_net_tcp(5)) of the thread's namespace.
func proc(port uint16) (Census, error) {
	suffix := fmt.Appendf(nil, ":%04X", port)
	seen := make(Census)
	for _, file := range []string{"tcp", "tcp6"} {
		b, err := os.ReadFile(filepath.Join("/proc/thread-self/net", file))
		if err != nil {
			return nil, err
		}
		for i, line := range bytes.Split(b, []byte("\n")) {
			fields := bytes.Fields(line)
			if i == 0 || len(fields) < 4 || port != 0 && !bytes.HasSuffix(fields[1], suffix) {
				continue
			}
			state, err := strconv.ParseUint(string(fields[3]), 16, 8)
			if err != nil {
				return nil, fmt.Errorf("read /proc/net/%s: %w", file, err)
			}
			seen[uint8(state)]++
		}
	}
	return seen, nil
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}

// LinkLocal gives the loopback interface the address fe80::1, and returns a family of that address.
func (n *NS) LinkLocal() Family {
	n.t.Helper()
	f := Family{"link-local", unix.AF_INET6, netip.MustParseAddr("fe80::1%1")} // lo is the first interface
	n.Do(func() {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			n.t.Fatal(err)
		}
		defer unix.Close(fd)
		request := struct { // struct in6_ifreq, linux/ipv6.h
			addr      [16]byte
			prefixLen uint32
			index     int32
		}{f.Addr.As16(), 64, 1}
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFADDR, uintptr(unsafe.Pointer(&request))); errno != 0 {
			n.t.Fatalf("add fe80::1 to lo: %v", errno)
		}
	})
	return f
}
