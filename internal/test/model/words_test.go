package model

// This file has the numbers of the kernel and of the programs.

// States, by the kernel's numbers (include/net/tcp_states.h).
const (
	established = 1 + iota
	synSent
	synRecv
	finWait1
	finWait2
	timeWait
	closed
	closeWait
	lastAck
	listen
	closing
)

// enum precision of bpf/event.h.
const (
	unknown = iota
	exact
	jiffyPrecise
	atLeast
)

const (
	noRole = iota
	client
	server
	listener
)

// enum reason of bpf/event.h.
const (
	noReason = iota
	finReceived
	expired
	reused
	recycled
	rstReceived
	rstSent
	destroyed
	netnsRemoved
	killed
	timeWaitOverflow
	refused
	timedOut
	unreachable
	noPort
	reset
	aborted
	orderlyClosed
	inUse
	givenUp
	numReasons
)

// enum detail of bpf/event.h. What user space adds (of an expiry) is not here.
const (
	noDetail = iota
	unreadData
	lingerZero
	disconnected
	linger2
	listenerClosed
	orphanLimit
	checkpoint
	_
	keepalive
	userTimeout
	retransmissions
	zeroWindow
	dataAfterClose
	outOfWindow
	synSegment
	dataUnacked
	finUnacked
	_
	_
	byClose
	byShutdown
	byDisconnect
	byExit
	numDetails
)

// enum caller of bpf/unwind.h. The harness gives each its own addresses.
const (
	_ = iota
	callerTimer
	callerRearm
	callerDelete
	callerSegment
	callerReceive
	callerConnect
	callerAbort
	callerPurge
	callerKeepalive
	callerListen
	callerValidate
	callerStateProcess
	callerCheckReq
	callerListenStop
	callerShutdown
	callerDisconnect
	callerTproxy
)

const (
	numSocks = 4
	numMinis = 6
	tickRate = 250 // HZ
	jiffy    = 1_000_000_000 / tickRate
	begin    = 1_000_000 * jiffy
	minute   = 60 * tickRate // in jiffies
	// A wheel slot of a timer of a minute: LVL_GRAN(3) of kernel/time/timer.c.
	wheelSlot = 512

	shutRecv, shutSend = 1, 2 // RCV_SHUTDOWN, SEND_SHUTDOWN

	holderTask  = 300 // the process that /proc names for a held socket
	softirqTask = 999 // the task that the softirq interrupted
	destroyer   = 900
)

// eventLate is EVENT_LATE.
const eventLate = 8

// eventPortByBind is EVENT_PORT_BY_BIND.
const eventPortByBind = 16
