package doctor

import (
	"io"
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

	// Missing says what was not read, and why.
	Missing map[Need]Why

	Stream *Stream // nil: no transitions were watched

	TimeWait time.Duration // how long a TIME_WAIT lasts on average, if no segment disturbs it

	// Settings are the lines of the files from which sysctls are set at boot, in their order.
	Settings []Setting
}

// A Why is a reason for which something was not read: a word of which each language has the text,
// and what the text says of this time, such as the error of a system call.
type Why struct{ Word, Detail string }

// The reasons.
var (
	whyOneReading = Why{Word: "one_reading"}
	whyNoOwners   = Why{Word: "no_owners"}
	whyNoLimits   = Why{Word: "no_limits"}
	whyNotInitial = Why{Word: "not_initial"}
	whyNoWatch    = Why{Word: "no_watch"}
)

func whyUnwatched(err error) Why { return Why{"unwatched", err.Error()} }
func whyNoOptions(err error) Why { return Why{"no_options", err.Error()} }
func whyNoTable(err error) Why   { return Why{"no_conntrack", err.Error()} }
func whyHalfClosed(n uint64) Why { return Why{"half_closed", strconv.FormatUint(n, 10)} }
func whyLost(losses string) Why  { return Why{"lost", losses} }
func whyNoRoom(n uint64) Why     { return Why{"no_room", strconv.FormatUint(n, 10)} }

var whys = []Why{whyOneReading, whyNoOwners, whyNoLimits, whyNotInitial, whyNoWatch, whyNoTable(io.EOF), whyHalfClosed(1), whyUnwatched(io.EOF), whyNoOptions(io.EOF), whyLost("missed 1"), whyNoRoom(1)}

// lacks says why something that is needed is not there; the zero Why: all is.
func (in *Input) lacks(need Need) Why {
	for n := Need(1); n != 0; n <<= 1 {
		if why := in.Missing[n]; need&n != 0 && why != (Why{}) {
			return why
		}
	}
	return Why{}
}

// FinTimeout is net.ipv4.tcp_fin_timeout: the least and the most of all namespaces; most 0: not known.
func (in *Input) FinTimeout() (least, most time.Duration) {
	for _, s := range in.Spaces {
		seconds, err := strconv.ParseUint(s.Sysctls["net.ipv4.tcp_fin_timeout"], 10, 31)
		if err != nil {
			continue
		}
		d := time.Duration(seconds) * time.Second
		if most == 0 || d < least {
			least = d
		}
		most = max(most, d)
	}
	return least, most
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
	First     uint64 // how many of them have the parity of the lowest usable port: connect(2) tries these first
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

	OptionsKnown bool // whether the next are known
	ReuseAddr    bool // SO_REUSEADDR
	ReusePort    bool // SO_REUSEPORT
	Held         Holding

	V6Only           bool    // it takes no IPv4
	Accepter         Process // the owner, or a child of it that has the listener and fewer files left
	Files, FileLimit uint64  // of the accepter, if connections wait; 0: not known

	inode uint64 // of the socket's file
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
