// Package sockets reads which TCP sockets there are now, with the process that
// holds each, and selects, sorts, counts and writes them.
package sockets

import (
	"slices"
	"sync"
	"time"

	"finwait/internal/holders"
	"finwait/internal/ktime"
	"finwait/internal/netns"
	"finwait/internal/sockdiag"
	"finwait/tracer"
)

// An OwnerSource finds the processes that hold sockets, by the inode of the socket's file.
type OwnerSource func() (map[uint64]holders.Process, error)

// Options say what a Reader reads beside the sockets.
type Options struct {
	NetNS  []netns.NS // those to read; none: all
	Need   Need
	Every  func(*Row)  // called for every socket that is read, whether the Selection matches it or not
	Owners OwnerSource // nil: /proc; it is asked only if Need or the Selection asks for owners

	// Walk makes one that lists the sockets of many namespaces, where it can give all that is asked
	// for. nil, or an error: sock_diag(7) lists them, one namespace at a time.
	Walk func() (Walk, error)

	// Live has the sockets of the network namespace at a path of which the programs know since when
	// they are in their states. nil: no programs are attached.
	Live func(path string, fn func(*tracer.LiveSocket)) error
}

// A Walk lists the sockets of many network namespaces at a time: tracer.SocketWalk.
type Walk interface {
	Include() (listed bool, err error) // the namespace of the calling thread
	Sockets(states uint32, fn func([]tracer.WalkedSocket) error) error
	Bound(fn func([]tracer.WalkedSocket) error) error
	Close()
}

// Need is what has to be read beside what the kernel lists of each socket anyway.
type Need uint8

// What can be needed. Each costs time.
const (
	NeedOwners      Need = 1 << iota // who holds each socket
	NeedInfo                         // how long it is idle, for one
	NeedCgroupPaths                  // for CgroupPath
	NeedListeners                    // which ports are listened on
	NeedNames                        // those of Names.Label
	NeedCookies                      // those of sockets
	NeedPorts                        // which ports connect(2) can choose, and all sockets, whatever their state
)

// A Row is a socket with what else is known of it.
type Row struct {
	sockdiag.Socket
	NetNS uint32         // inode number
	Scope tracer.Scope   // of a link-local address
	Owner tracer.Process // the process that holds it
	FD    uint32         // the owner's descriptor of it, if there is an owner

	netNSCookie uint64 // 0: it was not asked for
	live        live   // what the programs know of it
	space       *space // nil: neither listeners nor ports were asked for
}

// live is since when the programs know a socket to be in its state, and its role.
type live struct {
	age       time.Duration
	precision tracer.Precision
	role      tracer.Role
}

// TCPState is the socket's state.
func (r *Row) TCPState() tracer.State { return tracer.State(r.State) }

// Age is how long the state has lasted: as long as the programs have seen, or at least so long as
// what the kernel tells of the socket shows.
func (r *Row) Age() (time.Duration, tracer.Precision) {
	least, known := r.leastAge()
	switch {
	case r.live.precision == tracer.PrecisionUnknown && known,
		r.live.precision == tracer.PrecisionAtLeast && known && least > r.live.age:
		return least, tracer.PrecisionAtLeast
	}
	return r.live.age, r.live.precision
}

// leastAge is what the kernel tells of the socket without the programs.
//
// TIME_WAIT: its timer is always started with the same 60 s, and started again by segments.
// FIN_WAIT_2 of an orphan has tcp_fin_timeout or TCP_LINGER2, which may have been anything when
// its timer was started: nothing is known.
//
// The other ages are of tcp_info, which dates no transition, but events that cannot be older than
// the state:
//   - ESTABLISHED: the time of the last data sent is set when the handshake ends
//     (tcp_finish_connect(), tcp_rcv_state_process()), and then only moves forward.
//   - FIN_WAIT_2: an acknowledgment of the FIN begins it. The last acknowledgment is that one, or
//     a later one.
//   - CLOSE_WAIT, CLOSING: the peer's FIN begins it, and carries an acknowledgment; or the FIN came
//     out of order, and the data that was missing begins it. So the younger of the last
//     acknowledgment and the last data is as young as the state, or younger. There is one exception:
//     the network let an acknowledgment overtake the FIN that was sent before. By so much the age is
//     too great.
//
// Nothing in tcp_info must be younger than LAST_ACK: it begins with a close(), and the FIN moves
// none of the times.
func (r *Row) leastAge() (d time.Duration, known bool) {
	switch state := r.TCPState(); {
	case state == tracer.TimeWait && r.Timer == sockdiag.TimeWait && r.TimerLeft <= ktime.TimeWaitLen:
		return leastSince(ktime.TimeWaitLen - r.TimerLeft), true
	case !r.Info.Known:
		return 0, false
	case state == tracer.Established:
		return leastSince(r.Info.DataSent), true
	case state == tracer.FinWait2:
		return leastSince(r.Info.AckReceived), true
	case state == tracer.CloseWait, state == tracer.Closing:
		return leastSince(min(r.Info.AckReceived, r.Info.DataReceived)), true
	}
	return 0, false
}

// leastSince is the least time that can lie between two events, of which the kernel tells the
// difference in jiffies as ms. Two jiffies apart can be little more than one jiffy, and where a
// jiffy is no whole number of ms, the kernel has rounded up (jiffies_to_msecs()).
func leastSince(d time.Duration) time.Duration {
	hz := tick()
	off := time.Second / time.Duration(hz)
	if 1000%hz != 0 {
		off = (off + time.Millisecond).Truncate(time.Millisecond) + time.Millisecond
	}
	return max(0, d-off)
}

// tick is the kernel's tick rate; the slowest that there is, if it cannot be read.
var tick = sync.OnceValue(func() uint32 {
	hz, err := ktime.HZ()
	if err != nil {
		return 100
	}
	return hz
})

// Idle is for how long no data was sent and none received in order, to a jiffy. A handshake counts
// as data.
func (r *Row) Idle() (d time.Duration, known bool) {
	switch r.TCPState() {
	case tracer.SynSent, tracer.SynRecv: // the times are those of the handshake's end
		return 0, false
	}
	return min(r.Info.DataSent, r.Info.DataReceived), r.Info.Known
}

// Role is which end of its connection the socket is, where that is certain: by its state, or because
// the programs saw it begin.
func (r *Row) Role() tracer.Role {
	queued, known := r.Queued()
	switch {
	case r.TCPState() == tracer.Listen:
		return tracer.RoleListener
	case r.Kind == sockdiag.Request, queued && known:
		return tracer.RoleServer
	case r.TCPState() == tracer.SynSent:
		return tracer.RoleClient
	}
	return r.live.role
}

// PortSpace is what is known of the ports of the socket's namespace. It takes NeedListeners, and for
// the ports that can be chosen NeedPorts.
func (r *Row) PortSpace() PortSpace { return PortSpace{r.space} }

// Queues are the bytes that the process has not read and those that the peer has not acknowledged;
// of a listener, the connections that wait for accept(2) and how many may. Only a full socket has
// queues.
func (r *Row) Queues() (recv, send uint32, known bool) {
	return r.RecvQueue, r.SendQueue, r.Kind == sockdiag.Full
}

// Retransmits are the segments that were sent again in a row and not answered. Only the timer that
// waits for an answer counts them.
func (r *Row) Retransmits() (n uint8, known bool) {
	return r.Retries, r.Timer == sockdiag.Retransmit
}

// Probes are those of the keepalive or zero window timer that were not answered.
func (r *Row) Probes() (n uint8, known bool) {
	return r.Retries, r.Timer == sockdiag.Keepalive || r.Timer == sockdiag.Persist
}

// A Sink shows sockets, their number, or groups.
type Sink interface {
	Reading(*Reading) error // before what was read, where there are several readings
	Socket(*Row) error
	Count(*StateCount) error
	Groups(*Table) error
}

// A Reading is when the sockets were read.
type Reading struct {
	Time     time.Time
	Programs bool // they are attached, and know ages
}

// A StateCount is how many sockets that a Selection matches are in a state.
type StateCount struct {
	State  tracer.State
	Known  bool // false: of those that there are, no owner can be known
	Count  uint64
	Owners bool   // the Selection asks for owners
	Unsure uint64 // what else it may match: their owners are not known
}

// Count counts sockets by state. It hands the numbers to s when finish is called;
// CLOSED has none, as the kernel lists no such socket.
func Count(sel *Selection, s Sink) (show func(*Row) error, finish func() error) {
	var n [tracer.NewSynRecv + 1]uint64
	show = func(r *Row) error {
		n[r.State]++
		return nil
	}
	finish = func() error {
		for _, state := range groupStates() {
			if sel.states&(1<<state) == 0 || state == tracer.Closed {
				continue
			}
			// What is not known to be old enough may be: there is no 0 of such.
			known := n[state] > 0 || sel.younger[state]+sel.ageless[state] == 0
			c := &StateCount{State: state, Known: known, Count: n[state]}
			if sel.asksForOwner() {
				c.Owners, c.Unsure = true, sel.unknown[state]
				c.Known = known && ownerless&(1<<state) == 0 && (c.Count > 0 || c.Unsure == 0)
			}
			if err := s.Count(c); err != nil {
				return err
			}
		}
		return nil
	}
	return show, finish
}

// Collect keeps sockets and hands them to s in order when finish is called.
func Collect(compare func(a, b *Row) int, s Sink) (show func(*Row) error, finish func() error) {
	var order []*Row
	var room []Row // moving them all each time that there are more would cost as much again
	show = func(r *Row) error {
		if len(room) == 0 {
			room = make([]Row, 1024)
		}
		room[0] = *r
		order, room = append(order, &room[0]), room[1:]
		return nil
	}
	finish = func() error {
		slices.SortStableFunc(order, compare)
		for _, r := range order {
			if err := s.Socket(r); err != nil {
				return err
			}
		}
		return nil
	}
	return show, finish
}
