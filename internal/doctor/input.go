package doctor

import (
	"net/netip"
	"strconv"
	"time"

	"finwait/internal/netstat"
	"finwait/tracer"
)

// Input is what the rules are asked about: plain data, of one moment or of a window.
type Input struct {
	Spaces []*Space
	Unread uint64        // network namespaces that could not be entered
	Self   uint32        // inode number of the namespace that finwait runs in
	Window time.Duration // between the two readings of the counters; 0: there was one

	Filtered bool // more than the network namespaces was chosen: listeners may be left out

	// Missing says what was not read, and why: a word of which each language has the text.
	Missing map[Need]string

	Stream *Stream // nil: no transitions were watched

	// Settings are the lines of the files from which sysctls are set at boot, in their order.
	Settings []Setting
}

// Why something was not read.
const (
	whyOneReading = "one_reading"
	whyNoOwners   = "no_owners"
	whyNoLimits   = "no_limits"
	whyNotInitial = "not_initial"
	whyNoWatch    = "no_watch"
	whyNoTable    = "no_conntrack"
)

var whys = []string{whyOneReading, whyNoOwners, whyNoLimits, whyNotInitial, whyNoWatch, whyNoTable}

// lacks says why something that is needed is not there; "": all is.
func (in *Input) lacks(need Need) string {
	for n := Need(1); n != 0; n <<= 1 {
		if need&n != 0 && in.Missing[n] != "" {
			return in.Missing[n]
		}
	}
	return ""
}

// A Space is a network namespace.
type Space struct {
	Inode uint32
	Name  string // "": it has none

	Sockets      [tracer.NewSynRecv + 1]uint64 // by state
	TimeWaits    Ends                          // those in TIME_WAIT
	OrphanedFIN2 uint64                        // those in FIN_WAIT_2 that no process has any more

	// Low and High are ip_local_port_range, Usable is how many of them are not reserved; 0: not known.
	Low, High uint16
	Choosable func(port uint16) bool
	Usable    int
	Held      int // of these, by listeners and sockets that are only bound
	HeldKnown bool

	Binder  Process // who holds the most of these with sockets that are only bound
	Binders uint64  // how many of these

	Destinations []Destination // of connections that this host opened
	Listeners    []Listener
	CloseWaits   []Waiting // by process and destination, those that a process has
	FinWait2s    []Waiting // the same: half-closed
	FinWait1s    []Stuck   // by port of a server, or destination
	LastAcks     []Stuck   // the same
	Handshakes   []Handshakes
	HalfClosed   []HalfClosed // by process, and port of a server or destination: those that a NAT of this host changes

	Sysctls  map[string]string // of net.ipv4 and net.core, such as "net.ipv4.tcp_fin_timeout"
	Counters netstat.Counters  // at the last reading
	Moved    netstat.Counters  // by how much, in the window; nil: there was one reading
}

// Label is how a person calls the namespace.
func (s *Space) Label() string {
	if s.Name != "" {
		return s.Name
	}
	return strconv.FormatUint(uint64(s.Inode), 10)
}

// Live is how many sockets there are.
func (s *Space) Live() (n uint64) {
	for _, of := range s.Sockets {
		n += of
	}
	return n
}

// Ends are sockets by the end of the connection that they are.
type Ends struct {
	Served uint64 // their local port is listened on
	Opened uint64 // it is not: the host opened the connection, or its listener is gone
}

// A Destination is that for which connect(2) needs a local port of its own.
type Destination struct {
	Local     netip.Addr
	Remote    netip.AddrPort
	Used      uint64 // different local ports among the usable ones
	Held      uint64 // how many of them are also held by a listener or a socket that is only bound
	TimeWaits uint64
	Orphans   uint64 // in FIN_WAIT_2
	Owner     Process
}

// A Listener is a socket that connections come to.
type Listener struct {
	Local netip.AddrPort
	Owner Process

	Waiting, Limit uint64          // connections that wait for accept(2), and how many may
	Queued         []time.Duration // of those that were found, how long they wait at least
	Left           uint64          // how many of these the peer has closed meanwhile

	Cookie       uint64
	OptionsKnown bool // whether the next are is known
	ReuseAddr    bool // SO_REUSEADDR
	ReusePort    bool // SO_REUSEPORT
	Held         Holding

	V6Only           bool   // it takes no IPv4
	Files, FileLimit uint64 // of the process, if connections wait; 0: not known
}

// takes reports whether connections to this address are the listener's.
func (l *Listener) takes(local netip.AddrPort) bool {
	a := l.Local.Addr()
	return l.Local.Port() == local.Port() && (a == local.Addr() ||
		a.IsUnspecified() && a.Is4() == local.Addr().Is4() || a == netip.IPv6Unspecified() && !l.V6Only)
}

// Waiting is sockets of one process and one destination that wait for a close.
type Waiting struct {
	Owner  Process
	Remote netip.AddrPort // of a server's connections it is not valid: they are of many
	Local  uint16         // the port of a server; 0: the host opened the connections
	Ages   []time.Duration
	Unread uint64 // of how many the process has not read all

	Files, FileLimit uint64 // of the process; 0: not known
}

// older is how many are known to be so old, and the age of the oldest.
func (w *Waiting) older(than time.Duration) (n uint64, oldest time.Duration) {
	for _, age := range w.Ages {
		if age >= than {
			n++
		}
		oldest = max(oldest, age)
	}
	return n, oldest
}

// A Process is who holds a socket. PID 0: not known.
type Process struct {
	PID  uint32
	Comm string
	Name string // of its pod, container or unit; "": not known
}

// A Setting is a line of a file such as /etc/sysctl.conf.
type Setting struct {
	File  string
	Line  int
	Key   string // with dots
	Value string
	Known bool   // the running kernel has such a sysctl
	Now   string // its value; of the namespace that finwait runs in
}
