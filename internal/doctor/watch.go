package doctor

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"finwait/tracer"
)

// A Stream is what the transitions of the window add up to.
type Stream struct {
	Services []*Service
	Targets  []*Target
	Outgoing []*Outgoing
	Openers  []*Opener
	Reused   []*Reuse // by namespace, in no order

	Window time.Duration
	Ended  time.Duration // the end of the window, CLOCK_MONOTONIC
	Lost   tracer.Lost
	NoRoom uint64 // transitions of services and targets beyond the limit
}

// parts says why counts are too small; nil: they are not.
func (s *Stream) parts() (whys []Why) {
	if s == nil {
		return nil
	}
	var all []string
	for cause, n := range s.Lost.All() {
		if n > 0 {
			all = append(all, fmt.Sprintf("%v %d", cause, n))
		}
	}
	if all != nil {
		whys = append(whys, whyLost(strings.Join(all, ", ")))
	}
	if s.NoRoom > 0 {
		whys = append(whys, whyNoRoom(s.NoRoom))
	}
	return whys
}

// Traffic is what a service and a target have in common: how their connections closed. A connection
// that was not seen whole counts with what was seen of it.
type Traffic struct {
	Space  *Space
	Owner  Process
	Others bool // there are more processes of that name

	ClosedHere, ClosedThere uint64 // who sent the first FIN, from ESTABLISHED
	Cut                     uint64 // ended in ESTABLISHED, without a FIN

	Measured    uint64        // connections of which the time in ESTABLISHED is known
	Established time.Duration // of these together
	TimeWaits   uint64        // that began

	Unread     uint64  // reset, as data had not been read
	LingerZero uint64  // reset, as SO_LINGER was 0
	Weighed    uint64  // of these, those of which the send queue is known
	Thrown     uint64  // of these, those that threw away what the peer had not acknowledged
	Unclosed   uint64  // orphans in FIN_WAIT_2 whose time was over
	Raced      uint64  // ended by data that met a close, after leastOpen at least
	ClosedBy   Process // the process that made the last of Unread and LingerZero

	Ended, Rearmed uint64 // TIME_WAITs, and those whose timer began again

	// Lasted are the times in ESTABLISHED of the last connections that the server closed.
	Lasted Recent
}

// Closed is how many connections left ESTABLISHED.
func (t *Traffic) Closed() uint64 { return t.ClosedHere + t.ClosedThere + t.Cut }

// A Service is a port on which connections were accepted.
type Service struct {
	Traffic
	Port uint16

	// Rejected counts, by client, the SYNs that a TIME_WAIT did not let pass, and which came through
	// with the next try.
	Rejected map[netip.Addr]uint64

	// Silent are the connections that sent nothing and that their client ended, by client.
	Silent map[netip.Addr]*Silent
}

// A Target is a destination that processes of one name connect to.
type Target struct {
	Traffic
	Remote netip.AddrPort
	Local  netip.Addr // of the last try

	Connected            uint64
	Late                 [maxLate + 1]uint64 // by the second after which they connected, if it was just over
	Spread               uint64              // connected after more than 0.3 s, and not just after a whole second
	NoPort, InUse        uint64
	Refused, Unreachable uint64
	TimedOut             uint64
	Errno                tracer.Errno // of the last that was unreachable

	// GivenUp are the times in SYN_SENT of the last tries that the program ended.
	GivenUp Recent

	// FellBack counts the refusals over IPv6 after which the same process connected to Fallback: the
	// same port over IPv4.
	FellBack uint64
	Fallback *Target

	Cuts Cuts // connections that an RST ended in answer to data

	FixedPort  uint16 // of the last in-use one
	FixedPorts bool   // there were others
}

// Same reports whether both ends of the last try have the same address: then the destination is in the
// namespace itself.
func (t *Target) Same() bool {
	return t.Local.IsValid() && (t.Local == t.Remote.Addr() || t.Remote.Addr().IsLoopback())
}

// Limits of the memory that a watch takes: about 1 KiB a key, 3 KiB an Outgoing, and 100 B a rejection.
const (
	mostKeys    = 8192
	mostRecent  = 128
	mostWaiting = 4096
	mostClients = 64
	mostClosing = 65536
	maxLate     = 31 // s
)

// Recent are the last of many durations.
type Recent struct {
	N    uint64
	last []time.Duration
}

func (r *Recent) add(d time.Duration) {
	if len(r.last) < mostRecent {
		r.last = append(r.last, d)
	} else {
		r.last[r.N%mostRecent] = d
	}
	r.N++
}

// median is that of the last ones.
func (r *Recent) median() time.Duration {
	if len(r.last) == 0 {
		return 0
	}
	return sorted(r.last)[len(r.last)/2]
}

// tenth is what a tenth of the last ones do not exceed.
func (r *Recent) tenth() time.Duration {
	if len(r.last) == 0 {
		return 0
	}
	return sorted(r.last)[len(r.last)/10]
}

// cluster is the value around which at least a share of the last ones lie, within so much of it: of
// several the least, because a connection that is used again lasts longer.
func (r *Recent) cluster(share, within float64) (value time.Duration, ok bool) {
	all := sorted(r.last)
	for i, low := range all {
		high := time.Duration(float64(low) * (1 + 2*within))
		n := i
		for n < len(all) && all[n] <= high {
			n++
		}
		if float64(n-i) >= share*float64(len(all)) {
			return all[(i+n-1)/2], true
		}
	}
	return 0, false
}

func sorted(of []time.Duration) []time.Duration {
	all := slices.Clone(of)
	slices.Sort(all)
	return all
}

type serviceKey struct {
	netns uint32
	port  uint16
}

type targetKey struct {
	netns  uint32
	remote netip.AddrPort
	comm   tracer.Comm
}

type fourTuple struct {
	netns         uint32
	local, remote netip.AddrPort
}

// A watch adds transitions up.
type watch struct {
	services map[serviceKey]*Service
	targets  map[targetKey]*Target
	rejected map[fourTuple]time.Duration // TIME_WAITs that an RST has ended, and when
	order    []fourTuple                 // the same, the oldest first
	refusals map[processPort]refusal
	silent   int                // clients in Service.Silent, of all services
	closing  map[uint64]closing // connections that have left ESTABLISHED, by cookie, for closeToFIN
	leaving  []closing          // the same, the oldest first, and those that have ended since
	noRoom   uint64
	ports    *portWatch
}

// A closing is a connection that has left ESTABLISHED.
type closing struct {
	cookie uint64
	since  time.Duration // of the transition
	open   time.Duration // how long it was in ESTABLISHED, at least
}

func newWatch() *watch {
	return &watch{services: make(map[serviceKey]*Service), targets: make(map[targetKey]*Target), rejected: make(map[fourTuple]time.Duration),
		refusals: make(map[processPort]refusal), closing: make(map[uint64]closing), ports: newPortWatch()}
}

// add takes one transition. One whose role is not known belongs to a connection that is older than
// the watch: which end it is would be a guess.
func (w *watch) add(t *tracer.Transition) {
	w.ports.add(t)
	open := w.openFor(t)
	switch t.Role {
	case tracer.RoleServer:
		s := w.services[serviceKey{t.NetNS, t.Local.Port()}]
		if s == nil {
			if !w.room() {
				return
			}
			s = &Service{Port: t.Local.Port()}
			w.services[serviceKey{t.NetNS, t.Local.Port()}] = s
		}
		s.Traffic.add(t, open)
		w.serve(s, t)
	case tracer.RoleClient:
		key := targetKey{t.NetNS, t.Remote, t.Owner.Comm}
		d := w.targets[key]
		if d == nil {
			if !w.room() {
				return
			}
			d = &Target{Remote: t.Remote}
			w.targets[key] = d
		}
		d.Traffic.add(t, open)
		d.add(t)
		d.Cuts.add(t)
		w.fallBack(d, t)
	}
}

func (w *watch) room() bool {
	if len(w.services)+len(w.targets) < mostKeys {
		return true
	}
	w.noRoom++
	return false
}

// openFor is how long a connection was open, at least, that has left ESTABLISHED within closeToFIN; 0:
// that is not known.
func (w *watch) openFor(t *tracer.Transition) time.Duration {
	for len(w.leaving) > 0 && t.Ktime-w.leaving[0].since > closeToFIN {
		if old := w.leaving[0]; w.closing[old.cookie] == old {
			delete(w.closing, old.cookie)
		}
		w.leaving = w.leaving[1:]
	}
	open := w.closing[t.Cookie].open
	switch {
	case t.To == tracer.Closed || t.To == tracer.TimeWait:
		delete(w.closing, t.Cookie)
	case t.From != tracer.Established || !t.Known():
	case len(w.leaving) == mostClosing:
		w.noRoom++
	default:
		c := closing{t.Cookie, t.Ktime, t.Duration}
		w.closing[t.Cookie], w.leaving = c, append(w.leaving, c)
	}
	return open
}

// closeToFIN is within what time data that the peer sent meets our close: a client that sends later
// than that has not looked at its connection.
const closeToFIN = time.Second

// leastOpen is how long a connection must have been open that data met the close of. One that was open
// for less did not wait for a request: the server did not want all of the first one.
const leastOpen = 500 * time.Millisecond

func exact(t *tracer.Transition) bool {
	return t.Precision == tracer.PrecisionExact || t.Precision == tracer.PrecisionJiffy
}

// add takes a transition. open is what openFor says of the connection.
func (c *Traffic) add(t *tracer.Transition, open time.Duration) {
	if p := processOf(t.Owner.Process); p.PID != 0 {
		c.Others = c.Others || c.Owner.PID != 0 && c.Owner.PID != p.PID
		c.Owner = p
	}
	if t.To == tracer.TimeWait {
		c.TimeWaits++
	}
	switch {
	case t.From == tracer.Established:
		c.leave(t)
	case t.From == tracer.TimeWait:
		c.Ended++
		if t.Rearms > 0 {
			c.Rearmed++
		}
	case t.To != tracer.Closed:
	case t.From == tracer.FinWait2 && t.Reason == tracer.ReasonExpired && t.Detail == tracer.DetailOrphan:
		c.Unclosed++
	case (t.From == tracer.FinWait1 || t.From == tracer.FinWait2) && t.Detail == tracer.DetailUnreadData: // shutdown(), then close()
		c.Unread++
		c.ClosedBy = processOf(t.Closer)
	case open >= leastOpen && exact(t) && t.Duration < closeToFIN && meetsClose(t):
		c.Raced++
	}
}

// meetsClose reports whether a connection ended because data met a close. A client's data must have
// been on its way: the RST of a server that has not read all comes after its FIN, too.
func meetsClose(t *tracer.Transition) bool {
	switch {
	case t.Role == tracer.RoleServer && (t.From == tracer.FinWait1 || t.From == tracer.FinWait2):
		return t.Reason == tracer.ReasonRSTSent && (t.Detail == tracer.DetailNone || t.Detail == tracer.DetailDataAfterClose)
	case t.Role == tracer.RoleClient && t.From == tracer.CloseWait:
		return t.Reason == tracer.ReasonReset && t.Detail == tracer.DetailDataUnacked
	}
	return false
}

// leave is the end of ESTABLISHED.
func (c *Traffic) leave(t *tracer.Transition) {
	if exact(t) {
		c.Measured++
		c.Established += t.Duration
		if t.Role == tracer.RoleServer && t.To == tracer.FinWait1 || t.Role == tracer.RoleClient && t.To == tracer.CloseWait {
			c.Lasted.add(t.Duration)
		}
	}
	switch t.To {
	case tracer.FinWait1:
		c.ClosedHere++
	case tracer.CloseWait:
		c.ClosedThere++
	case tracer.Closed:
		c.Cut++
		// After the peer's FIN, in CLOSE_WAIT, nobody may be left to read what the RST throws away.
		switch t.Detail {
		case tracer.DetailUnreadData:
			c.Unread++
			c.ClosedBy = processOf(t.Closer)
		case tracer.DetailLingerZero:
			c.LingerZero++
			if t.Metrics != nil && t.Metrics.Known {
				c.Weighed++
				if t.Metrics.SendQueue > 0 {
					c.Thrown++
				}
			}
			c.ClosedBy = processOf(t.Closer)
		}
	}
}

func (w *watch) serve(s *Service, t *tracer.Transition) {
	key := fourTuple{t.NetNS, t.Local, t.Remote}
	switch {
	case t.From == tracer.Established && silent(t):
		w.addSilent(s, t)
	case t.From == tracer.TimeWait && t.Reason == tracer.ReasonRSTReceived:
		if len(w.order) == mostWaiting {
			delete(w.rejected, w.order[0])
			w.order = w.order[1:]
		}
		if _, known := w.rejected[key]; !known {
			w.order = append(w.order, key)
		}
		w.rejected[key] = t.Ktime
	case t.From == tracer.Listen && t.To == tracer.SynRecv:
		w.comeBack(s, t, key)
	}
}

// comeBack counts a connection that begins when the client's SYN is repeated: 1 s after an RST ended
// the TIME_WAIT of the same addresses and ports, or 3 s.
func (w *watch) comeBack(s *Service, t *tracer.Transition, key fourTuple) {
	const least, most = 900 * time.Millisecond, 3500 * time.Millisecond
	ended, known := w.rejected[key]
	if !known {
		return
	}
	delete(w.rejected, key)
	w.order = slices.DeleteFunc(w.order, func(o fourTuple) bool { return o == key })
	if waited := t.Ktime - ended; waited < least || waited > most {
		return
	}
	client := t.Remote.Addr()
	if s.Rejected == nil {
		s.Rejected = make(map[netip.Addr]uint64)
	}
	if _, known := s.Rejected[client]; !known && len(s.Rejected) == mostClients {
		w.noRoom++
		return
	}
	s.Rejected[client]++
}

func (d *Target) add(t *tracer.Transition) {
	if t.From != tracer.SynSent {
		return
	}
	d.Local = t.Local.Addr()
	if t.To != tracer.Closed {
		d.Connected++
		d.late(t)
		return
	}
	switch t.Reason {
	case tracer.ReasonNoPort:
		d.NoPort++
	case tracer.ReasonInUse:
		d.InUse++
		port := t.Local.Port()
		d.FixedPorts = d.FixedPorts || d.FixedPort != 0 && d.FixedPort != port
		d.FixedPort = port
	case tracer.ReasonRefused:
		d.Refused++
	case tracer.ReasonTimedOut:
		d.TimedOut++
	case tracer.ReasonUnreachable:
		d.Unreachable++
		d.Errno = t.Errno
	case tracer.ReasonGivenUp:
		d.giveUp(t)
	}
}

// giveUp is for a try that the program ended. While connect(2) has the socket locked, the kernel only
// notes an ICMP error, and tells it to who asks for SO_ERROR (tcp_v4_err(), sk_err_soft): so it is with
// what a firewall of this host rejects.
func (d *Target) giveUp(t *tracer.Transition) {
	switch t.Errno.String() {
	case "EHOSTUNREACH", "ENETUNREACH":
		d.Unreachable++
		d.Errno = t.Errno
	case "ECONNREFUSED":
		d.Refused++
	default:
		if exact(t) {
			d.GivenUp.add(t.Duration)
		}
	}
}

// late looks whether a connection took as long as a timer of the kernel: it fires after whole seconds,
// less than 0.15 s late.
func (d *Target) late(t *tracer.Transition) {
	const tolerance = 150 * time.Millisecond
	if !exact(t) {
		return
	}
	switch n := t.Duration / time.Second; {
	case n >= 1 && n <= maxLate && t.Duration-n*time.Second < tolerance:
		d.Late[n]++
	case t.Duration >= 300*time.Millisecond:
		d.Spread++
	}
}

func processOf(p tracer.Process) Process { return Process{PID: p.PID, Comm: p.Comm.String()} }

// fill puts what was added up into the stream, in a fixed order. space finds a namespace.
func (w *watch) fill(s *Stream, space func(netns uint32) *Space) {
	s.NoRoom = w.noRoom
	w.ports.fill(s, space)
	for key, one := range w.services {
		one.Space = space(key.netns)
		s.Services = append(s.Services, one)
	}
	for key, one := range w.targets {
		one.Space = space(key.netns)
		s.Targets = append(s.Targets, one)
	}
	slices.SortFunc(s.Services, func(a, b *Service) int {
		return cmp.Or(cmp.Compare(a.Space.Inode, b.Space.Inode), cmp.Compare(a.Port, b.Port))
	})
	slices.SortFunc(s.Targets, func(a, b *Target) int {
		return cmp.Or(cmp.Compare(a.Space.Inode, b.Space.Inode), compareEnds(a.Remote, b.Remote), cmp.Compare(a.Owner.Comm, b.Owner.Comm), cmp.Compare(a.Owner.PID, b.Owner.PID))
	})
}
