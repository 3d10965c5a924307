package tracer

import (
	"bytes"
	"net/netip"
	"strconv"
	"time"
)

// A Transition is one change of state of one socket.
type Transition struct {
	Time   time.Time     // when it happened, wall clock, UTC
	Ktime  time.Duration // when it happened, CLOCK_MONOTONIC
	Cookie uint64        // identity of the socket, as ss -e shows it (there in hex); 0: the kernel gave it none
	// NetNS is the inode number of the network namespace; when the namespace is gone, another
	// may be given the number. NetNSCookie (SO_NETNS_COOKIE) is given once.
	NetNS       uint32
	NetNSCookie uint64
	Local       netip.AddrPort
	Remote      netip.AddrPort
	Scope       Scope // of a link-local address
	From, To    State

	// Duration is the time spent in From. Precision says how to read it; Known says
	// whether there is one.
	Duration  time.Duration
	Precision Precision

	Role   Role
	Owner  Owner
	Closer Process

	// Handler is the process that was first seen to read from the connection or to
	// write to it. Until then it is the process that accepted it, where functions of
	// the kernel can be hooked. Only with Config.Handlers.
	Handler Process

	Reason Reason
	Detail Detail

	// Errno is the error of the socket that goes with the Reason, as the program gets
	// it; 0: none. With ReasonGivenUp it is an ICMP error that the program may have
	// been told (sk_err_soft), while the kernel went on trying.
	Errno Errno

	// RSTBy is who sent the RST of ReasonReset or ReasonRefused, as far as that was seen: on
	// this host, with the same addresses and ports at both ends. Only with Config.RST.
	RSTBy RSTSender

	// Retransmits is how many segments and probes in a row were sent again and not
	// answered, at the end of a connection by ReasonTimedOut, ReasonUnreachable or
	// ReasonGivenUp.
	Retransmits uint8

	Rearms uint32 // re-arms of the timewait timer, if From is TIME_WAIT
	Source Source

	// Metrics are those of the connection; nil without Config.Metrics. It is valid as long
	// as the transition.
	Metrics *Metrics

	// PortByBind says that bind(2) had chosen the local port before connect(2) was called: the
	// program bound an address without a port, and not with IP_BIND_ADDRESS_NO_PORT. Such a port is
	// free for no other destination. Only of CLOSED -> SYN_SENT.
	PortByBind bool

	// Stack is from where it was made; nil without Config.Stacks.
	Stack *Stack
}

// Known reports whether anything is known of the time spent in From.
func (t *Transition) Known() bool { return t.Precision != PrecisionUnknown }

// A Scope is the interface that a link-local address of IPv6 belongs to (RFC 4007). Its
// ID is 0 for any other address. One name can mean different interfaces in different
// network namespaces.
type Scope struct {
	ID        uint32 // index of the interface in the network namespace
	Interface string // its name when the transition was seen; "" if that is not known
}

// Zone is what follows the % of a link-local address: the name of the interface, or else its index.
func (s Scope) Zone() string {
	if s.Interface != "" {
		return s.Interface
	}
	return strconv.FormatUint(uint64(s.ID), 10)
}

// Zoned is the address with the zone, if it is a link-local one and the interface is known.
func (s Scope) Zoned(a netip.AddrPort) netip.AddrPort {
	if s.ID == 0 || !a.Addr().Is6() || !a.Addr().IsLinkLocalUnicast() {
		return a
	}
	return netip.AddrPortFrom(a.Addr().WithZone(s.Zone()), a.Port())
}

// An Owner is the process that created a socket by connect(2) or listen(2); an
// accepted socket has its listener's. PID is 0 where that was not seen. The Owner of
// a socket that is older than the Tracer is a Holder: the process that had it open
// when the Tracer started. The socket may have been handed to it.
type Owner struct {
	Process
	Holder   bool   // and perhaps not the creator
	UID      uint32 // of the socket, in the initial user namespace
	CgroupID uint64 // of the socket: inode number of its cgroup v2 directory; 0: none
}

// A Process is a process and its name. PID is 0 where no process is meant, or
// where it was not seen.
type Process struct {
	PID  uint32 // in the initial pid namespace
	Comm Comm
}

// An RSTSender has sent an RST.
type RSTSender struct {
	End RSTEnd

	// The process that closed the other end, or else owned it; PID 0 if there is none, or
	// if it is not known.
	Process
}

// RSTEnd is what has sent an RST.
type RSTEnd uint8

// What can send one. Before Linux 6.11 only the first and the third are seen.
const (
	RSTEndUnknown  RSTEnd = RSTEnd(bpfRstEndRST_END_UNKNOWN)
	RSTEndSocket   RSTEnd = RSTEnd(bpfRstEndRST_END_SOCKET) // a full socket, when it ended
	RSTEndMinisock RSTEnd = RSTEnd(bpfRstEndRST_END_MINISOCK)
	RSTEndListener RSTEnd = RSTEnd(bpfRstEndRST_END_LISTENER)
	RSTEndNoSocket RSTEnd = RSTEnd(bpfRstEndRST_END_NO_SOCKET) // the kernel, as there was no socket for the segment
)

// Comm is a process name as the kernel keeps it: up to 15 bytes, of any value but 0.
// It has no MarshalText, as encoding/json would replace the bytes that are not UTF-8.
type Comm [16]byte

// Bytes is the name without its padding, in c's own memory.
func (c *Comm) Bytes() []byte {
	if i := bytes.IndexByte(c[:], 0); i >= 0 {
		return c[:i]
	}
	return c[:]
}

func (c Comm) String() string { return string(c.Bytes()) }

// Precision says how well the start of a state is known.
type Precision uint8

// How a duration is to be read.
const (
	PrecisionUnknown Precision = Precision(bpfPrecisionPRECISION_UNKNOWN)  // the start was not seen
	PrecisionExact   Precision = Precision(bpfPrecisionPRECISION_EXACT)    // both ends were seen
	PrecisionJiffy   Precision = Precision(bpfPrecisionPRECISION_JIFFY)    // the start was worked out from the timewait timer
	PrecisionAtLeast Precision = Precision(bpfPrecisionPRECISION_AT_LEAST) // the socket was in that state before it was first seen
)

// Role says which end of the connection a socket is.
type Role uint8

// The roles.
const (
	RoleUnknown  Role = Role(bpfRoleROLE_UNKNOWN)
	RoleClient   Role = Role(bpfRoleROLE_CLIENT)   // it connected
	RoleServer   Role = Role(bpfRoleROLE_SERVER)   // it came out of a listener; perhaps no program accepted it
	RoleListener Role = Role(bpfRoleROLE_LISTENER) // it listens
)

// Source says what held the state.
type Source uint8

// The sources.
const (
	SourceSocket   Source = iota // a full socket: the tracepoint reported it
	SourceMinisock               // the kernel's timewait socket, which no tracepoint reports
)

// Reason says why a state ended. The list may grow.
type Reason uint8

// The reasons; a Transition of which there is nothing to say has ReasonNone.
const (
	ReasonNone             Reason = Reason(bpfReasonREASON_NONE)
	ReasonFinReceived      Reason = Reason(bpfReasonREASON_FIN_RECEIVED)
	ReasonExpired          Reason = Reason(bpfReasonREASON_EXPIRED)            // the minisock's timer fired
	ReasonReused           Reason = Reason(bpfReasonREASON_REUSED)             // connect(2) took the minisock's ports over
	ReasonRecycled         Reason = Reason(bpfReasonREASON_RECYCLED)           // a SYN from the peer took them over
	ReasonRSTReceived      Reason = Reason(bpfReasonREASON_RST_RECEIVED)       // a minisock met an RST
	ReasonRSTSent          Reason = Reason(bpfReasonREASON_RST_SENT)           // a segment came after our close
	ReasonDestroyed        Reason = Reason(bpfReasonREASON_DESTROYED)          // SOCK_DESTROY: ss -K
	ReasonNetNSRemoved     Reason = Reason(bpfReasonREASON_NETNS_REMOVED)      // its network namespace went away
	ReasonKilled           Reason = Reason(bpfReasonREASON_KILLED)             // cause unknown
	ReasonTimeWaitOverflow Reason = Reason(bpfReasonREASON_TIME_WAIT_OVERFLOW) // tcp_max_tw_buckets reached: no TIME_WAIT
	ReasonRefused          Reason = Reason(bpfReasonREASON_REFUSED)            // ECONNREFUSED
	ReasonTimedOut         Reason = Reason(bpfReasonREASON_TIMED_OUT)          // ETIMEDOUT
	ReasonUnreachable      Reason = Reason(bpfReasonREASON_UNREACHABLE)        // an ICMP error: Errno says which
	ReasonNoPort           Reason = Reason(bpfReasonREASON_NO_PORT)            // connect(2) found no free port
	ReasonReset            Reason = Reason(bpfReasonREASON_RESET)              // a full socket met an RST
	ReasonAborted          Reason = Reason(bpfReasonREASON_ABORTED)            // ended by our own side, without an orderly close
	ReasonClosed           Reason = Reason(bpfReasonREASON_CLOSED)
	ReasonInUse            Reason = Reason(bpfReasonREASON_IN_USE)   // connect(2): another socket has these addresses and ports
	ReasonGivenUp          Reason = Reason(bpfReasonREASON_GIVEN_UP) // the program closed the socket before connect(2) was done
)

// Detail says which of the causes that share a Reason it was. Each belongs to one
// Reason. The list may grow.
type Detail uint8

// The details; where the reason says all, or the kernel does not let the cause be seen, it is DetailNone.
const (
	DetailNone            Detail = Detail(bpfDetailDETAIL_NONE)
	DetailUnreadData      Detail = Detail(bpfDetailDETAIL_UNREAD_DATA)      // aborted: close(2) while data had not been read
	DetailLingerZero      Detail = Detail(bpfDetailDETAIL_LINGER_ZERO)      // aborted: close(2) with SO_LINGER of 0 s
	DetailDisconnected    Detail = Detail(bpfDetailDETAIL_DISCONNECTED)     // aborted: connect(2) with AF_UNSPEC
	DetailLinger2         Detail = Detail(bpfDetailDETAIL_LINGER2)          // aborted: TCP_LINGER2 is below 0, so that no FIN_WAIT_2 is wanted
	DetailListenerClosed  Detail = Detail(bpfDetailDETAIL_LISTENER_CLOSED)  // aborted: the listener was closed before the connection was accepted
	DetailOrphanLimit     Detail = Detail(bpfDetailDETAIL_ORPHAN_LIMIT)     // aborted: there were too many orphans, or too little memory for TCP
	DetailCheckpoint      Detail = Detail(bpfDetailDETAIL_CHECKPOINT)       // aborted: close(2) in TCP_REPAIR mode, which sends nothing
	DetailListenFailed    Detail = Detail(bpfDetailDETAIL_LISTEN_FAILED)    // aborted: listen(2) got no port
	DetailKeepalive       Detail = Detail(bpfDetailDETAIL_KEEPALIVE)        // timed_out: keepalive probes were not answered
	DetailUserTimeout     Detail = Detail(bpfDetailDETAIL_USER_TIMEOUT)     // timed_out: TCP_USER_TIMEOUT had passed
	DetailRetransmissions Detail = Detail(bpfDetailDETAIL_RETRANSMISSIONS)  // timed_out: what was sent again and again was not acknowledged
	DetailZeroWindow      Detail = Detail(bpfDetailDETAIL_ZERO_WINDOW)      // timed_out: the peer's window stayed closed, and probes were not answered
	DetailDataAfterClose  Detail = Detail(bpfDetailDETAIL_DATA_AFTER_CLOSE) // rst_sent: data came after our close
	DetailOutOfWindow     Detail = Detail(bpfDetailDETAIL_OUT_OF_WINDOW)    // rst_sent: a FIN came that was not the next segment
	DetailSYN             Detail = Detail(bpfDetailDETAIL_SYN)              // rst_sent: a SYN came
	DetailDataUnacked     Detail = Detail(bpfDetailDETAIL_DATA_UNACKED)     // reset: the peer had not acknowledged all our data
	DetailFINUnacked      Detail = Detail(bpfDetailDETAIL_FIN_UNACKED)      // reset: the peer had not acknowledged our FIN
	DetailOrphan          Detail = Detail(bpfDetailDETAIL_ORPHAN)           // expired: an orphan's FIN_WAIT_2; the peer's FIN did not come
	DetailTimeWait        Detail = Detail(bpfDetailDETAIL_TIME_WAIT)        // expired: TIME_WAIT
	DetailClose           Detail = Detail(bpfDetailDETAIL_CLOSE)            // given_up: by close(2)
	DetailShutdown        Detail = Detail(bpfDetailDETAIL_SHUTDOWN)         // given_up: by shutdown(2)
	DetailDisconnect      Detail = Detail(bpfDetailDETAIL_DISCONNECT)       // given_up: by connect(2) with AF_UNSPEC
	DetailExit            Detail = Detail(bpfDetailDETAIL_EXIT)             // given_up: the process was ending
)

// A RawEvent is one firing of one hook, as it came (--raw). It does not say what that
// means, as a Transition does: FIN_WAIT_2 -> CLOSED may be a hand-over here.
type RawEvent struct {
	Time          time.Time
	Ktime         time.Duration
	Hook          Hook
	CPU           uint8 // number of the CPU, modulo 256
	Task          Process
	Cookie        uint64
	NetNS         uint32
	NetNSCookie   uint64
	Local, Remote netip.AddrPort
	Scope         Scope
	From, To      State  // of a full socket; of a minisock From is its substate and To is 0
	Err           uint16 // sk_err of a full socket: an errno, perhaps of long ago
	Minisock      uint64 // address of the minisock; 0: a full socket
	TimerLeft     int32  // jiffies until the minisock's timer fires
	Stack         *Stack // nil without Config.Stacks
}

// Hook is a place in the kernel to which a program is attached.
type Hook uint8

// The hooks.
const (
	HookSetState    Hook = Hook(bpfHookHOOK_SET_STATE)
	HookTimerStart  Hook = Hook(bpfHookHOOK_TIMER_START)
	HookTimerCancel Hook = Hook(bpfHookHOOK_TIMER_CANCEL)
	HookTimerExpire Hook = Hook(bpfHookHOOK_TIMER_EXPIRE)
	HookKfreeSKB    Hook = Hook(bpfHookHOOK_KFREE_SKB)
	HookTWAlloc     Hook = Hook(bpfHookHOOK_TWSK_ALLOC)
	HookTWSchedule  Hook = Hook(bpfHookHOOK_TWSK_SCHEDULE)
	HookTWKill      Hook = Hook(bpfHookHOOK_TWSK_KILL)
	HookSendReset   Hook = Hook(bpfHookHOOK_SEND_RESET)
)
