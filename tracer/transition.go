package tracer

import (
	"bytes"
	"net/netip"
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
	From, To    State

	// Duration is the time spent in From. Precision says how to read it; Known says
	// whether there is one.
	Duration  time.Duration
	Precision Precision

	Role   Role
	Owner  Owner
	Closer Process
	Reason Reason
	Rearms uint32 // re-arms of the timewait timer, if From is TIME_WAIT
	Source Source
}

// Known reports whether anything is known of the time spent in From.
func (t *Transition) Known() bool { return t.Precision != PrecisionUnknown }

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
	RoleServer   Role = Role(bpfRoleROLE_SERVER)   // it was accepted
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
	ReasonExpired          Reason = Reason(bpfReasonREASON_EXPIRED)           // the minisock's timer fired
	ReasonReused           Reason = Reason(bpfReasonREASON_REUSED)            // connect(2) took the minisock's ports over
	ReasonRecycled         Reason = Reason(bpfReasonREASON_RECYCLED)          // a SYN from the peer took them over
	ReasonRSTReceived      Reason = Reason(bpfReasonREASON_RST_RECEIVED)      // a minisock met an RST
	ReasonRSTSent          Reason = Reason(bpfReasonREASON_RST_SENT)          // data or a SYN came after our close
	ReasonDestroyed        Reason = Reason(bpfReasonREASON_DESTROYED)         // SOCK_DESTROY: ss -K
	ReasonNetNSRemoved     Reason = Reason(bpfReasonREASON_NETNS_REMOVED)     // its network namespace went away
	ReasonKilled           Reason = Reason(bpfReasonREASON_KILLED)            // cause unknown
	ReasonTimeWaitOverflow Reason = Reason(bpfReasonREASON_TIMEWAIT_OVERFLOW) // tcp_max_tw_buckets reached: no TIME_WAIT
	ReasonRefused          Reason = Reason(bpfReasonREASON_REFUSED)           // ECONNREFUSED
	ReasonTimedOut         Reason = Reason(bpfReasonREASON_TIMED_OUT)         // ETIMEDOUT
	ReasonUnreachable      Reason = Reason(bpfReasonREASON_UNREACHABLE)       // EHOSTUNREACH, ENETUNREACH
	ReasonNoPort           Reason = Reason(bpfReasonREASON_NO_PORT)           // connect(2) found no free port
	ReasonReset            Reason = Reason(bpfReasonREASON_RESET)             // a full socket met an RST
	ReasonAborted          Reason = Reason(bpfReasonREASON_ABORTED)           // given up by our own side: SO_LINGER 0, unread data
	ReasonClosed           Reason = Reason(bpfReasonREASON_CLOSED)
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
	From, To      State  // of a full socket; of a minisock From is its substate and To is 0
	Err           uint16 // sk_err of a full socket: an errno
	Minisock      uint64 // address of the minisock; 0: a full socket
	TimerLeft     int32  // jiffies until the minisock's timer fires
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
)
