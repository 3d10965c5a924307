package model

// The simulated kernel: sockets and minisocks that walk through RFC 9293 and
// through what Linux makes of it, the hooks that fire on the way, and a record of
// what is true. Where it follows the kernel's source the function is named.

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
)

// enum caller of bpf/unwind.h. The harness puts each at addresses of its own.
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

	softirqTask = 999 // whatever the softirq interrupted
	destroyer   = 900
)

// hookSet is which programs are loaded, and what the kernel's kfree_skb tells.
type hookSet int

const (
	tracepoints hookSet = iota
	tracepointsNoRxSk
	fentry
	numHookSets
)

type sock struct {
	slot             int
	state            uint64
	entered          uint64 // when
	role, owner      uint64
	sport, inetSport uint64
	dport            uint64
	bound            bool // the port is the user's (SOCK_BINDPORT_LOCK)
	shutdown, err    uint64
	held             bool // by a process
	lingerless       bool // TCP_LINGER2 of -1
	packetsOut       uint64
	unacked          uint64
	life             int
	parent           *sock // the listener that it came out of
	visible          bool  // to the hooks, since its birth
}

type mini struct {
	slot           int
	of             *sock
	sport          uint64
	owner, role    uint64
	from           uint64 // FIN_WAIT_2 or CLOSING
	fromEntered    uint64
	twLo, twHi     uint64 // the hooks that could tell that TIME_WAIT begins fire in between; 0: it has not begun
	substate       uint64
	expires        uint64
	bornAt         uint64
	lastArmed      uint64
	rearms         uint64 // in TIME_WAIT
	pending, ended bool
}

// A firing is what is true about one op.
type firing struct {
	op        int
	code      code // even if no program was run
	sock      *sock
	mini      *mini
	from, to  uint64
	fromSince uint64 // when from was entered
	time      uint64
	made      *mini  // the hand-over's
	end       bool   // of the mini
	born      bool   // the mini's first
	reason    uint64 // why it closed
	sport     uint64
	closer    uint64
	role      uint64
	owner     uint64
	life      int
	armed     uint64 // when the mini's timer was last
	missed    bool   // a gap: no program was run
	before    bool   // before the programs were attached
	nested    bool   // in the middle of the one before
	noStack   bool
	ringFull  bool
	halfMade  bool
	stale     bool // the mini is gone
	garbage   bool // nothing that a kernel does
	action    int
}

type kernel struct {
	hooks    hookSet
	halfMade bool   // children are reported before they have a peer (until 6.14)
	tick     uint64 // ns that pass with each hook
	ops      []op
	fired    []firing
	now      uint64
	cookies  uint64
	socks    [numSocks]*sock
	minis    [numMinis]*mini
	last     *mini // the youngest
	action   int
	pushed   int // the action of the last op
	cpu      uint64
	pid      uint64 // current
	stack    []uint64
	attached bool
	overflow bool // the namespace has no room for minisocks
	windows  []byte
	adverse  []adversity
	gone     int // sockets and minisocks whose memory was given back
}

// An adversity befalls a hook: the one that fires after that many others.
type adversity struct {
	kind  byte
	after int
	arg   uint64
}

func newKernel(hooks hookSet) *kernel {
	return &kernel{hooks: hooks, now: begin, attached: true, pid: softirqTask}
}

func (k *kernel) jiffies(now uint64) uint64 { return now / jiffy }

func (k *kernel) push(o op) int {
	o.Now, o.Jiffies, o.CPU = k.now, k.jiffies(k.now), k.cpu
	k.cookies++
	o.FreshCookie = 1000 + k.cookies
	o.RingRoom = ^uint64(0)
	o.PID = k.pid
	for i, c := range k.stack {
		o.Stack[i] = c<<8 + 16
	}
	o.Frames = int64(len(k.stack))
	if n := len(k.ops); n > 0 && k.ops[n-1].Nest > 0 && !k.canNest(&k.ops[n-1], &o) {
		k.ops[n-1].Nest = 0
	}
	k.ops = append(k.ops, o)
	k.pushed = k.action
	return len(k.ops) - 1
}

// canNest: two CPUs are never at the same socket, nor at the same timer, and a program is not run in the middle of time.
func (k *kernel) canNest(outer, inner *op) bool {
	isHook := func(o *op) bool { return o.Code >= opSetState && o.Code <= opOlder }
	if k.pushed == k.action && outer.CPU == inner.CPU {
		return false // one thing that happens, on one CPU
	}
	if !isHook(outer) || !isHook(inner) || inner.Now-outer.Now > jiffy {
		return false
	}
	if outer.Object != inner.Object || outer.Slot != inner.Slot {
		return true
	}
	if outer.Object == aSock {
		return false
	}
	// Of one minisock: a segment's hooks meet another's, or the end's.
	isTimer := func(o *op) bool {
		return o.Code == opTimerStart || o.Code == opTimerCancel || o.Code == opTimerExpire
	}
	return !(isTimer(outer) && isTimer(inner))
}

func (k *kernel) sockOp(s *sock) op {
	o := op{
		Object: aSock, Slot: uint64(s.slot), State: s.state, Family: 2, Sport: s.sport, Dport: s.dport,
		InetSport: s.inetSport, Protocol: 6, Shutdown: s.shutdown, Err: s.err,
		PacketsOut: s.packetsOut, Unacked: s.unacked,
	}
	if s.held {
		o.Held = 1
	}
	if s.lingerless {
		o.Linger2 = 1
	}
	if k.overflow {
		o.TWAlive = 1000
	}
	return o
}

func (k *kernel) miniOp(m *mini) op {
	o := op{
		Object: aMini, Slot: uint64(m.slot), State: timeWait, Family: 2, Sport: m.sport, Dport: 80,
		Substate: m.substate, Expires: m.expires,
	}
	if m.pending {
		o.Pending = 1
	}
	return o
}

// fire has a hook fire, with the adversities that are due.
func (k *kernel) fire(c code, o op, f firing) {
	o.Code, f.code = c, c
	f.before = !k.attached
	f.time = k.now
	f.action = k.action
	if f.sock != nil {
		f.role, f.owner, f.life = f.sock.role, f.sock.owner, f.sock.life
	} else if f.mini != nil {
		f.role, f.owner, f.armed = f.mini.role, f.mini.owner, f.mini.lastArmed
	}
	keep := k.adverse[:0]
	for _, a := range k.adverse {
		if a.after > 0 {
			a.after--
			keep = append(keep, a)
			continue
		}
		befall(a, &o, &f)
	}
	k.adverse = keep
	if f.before {
		f.missed = false
	}
	if f.before || f.missed {
		o.Code = opNothing
	}
	stack := k.stack
	if f.noStack {
		k.stack = nil
	}
	f.op = k.push(o)
	k.stack = stack
	if f.ringFull {
		k.ops[f.op].RingRoom = 0
	}
	k.fired = append(k.fired, f)
	k.now += k.tick
}

func befall(a adversity, o *op, f *firing) {
	switch a.kind {
	case 'g': // gap
		f.missed = f.code != opOlder
	case 'r': // recursion: the next program on the tracepoint takes over
		o.Skip = 1
	case 's': // no stack
		f.noStack = true
	case 'u':
		o.FailUpdates = 1
	case 'm': // no memory for storage
		o.FailStorage = 1
	case 'f':
		f.ringFull = true
	case 'n':
		o.Nest = 1 + a.arg
	}
}

// in has something run on a stack, in a process or (pid 0) in a softirq.
func (k *kernel) in(pid uint64, stack []uint64, do func()) {
	oldPID, oldStack := k.pid, k.stack
	k.pid, k.stack = pid, stack
	if pid == 0 {
		k.pid = softirqTask
	}
	do()
	k.pid, k.stack = oldPID, oldStack
}

// setState is tcp_set_state() and inet_sk_set_state(). Those that close give the port back first.
func (k *kernel) setState(s *sock, to uint64, f firing) {
	f.sock, f.from, f.to, f.fromSince = s, s.state, to, s.entered
	f.sport = s.sport
	if to == closed && !s.bound {
		s.sport = 0
	}
	o := k.sockOp(s)
	o.From, o.To = s.state, to
	if f.halfMade {
		o.Dport = 0
	}
	if s.state != to {
		s.entered = k.now
	}
	s.state = to
	k.fire(opSetState, o, f)
}

func (k *kernel) newSock(parent *sock) *sock {
	for i := range k.socks {
		if k.socks[i] != nil {
			continue
		}
		s := &sock{slot: i, parent: parent, state: closed, held: true, dport: 80, visible: k.attached}
		o := k.sockOp(s)
		o.Code = opNewSock
		if parent != nil {
			o.Parent = uint64(parent.slot) + 1
		}
		k.push(o)
		k.socks[i] = s
		return s
	}
	return nil
}

func (k *kernel) freeSock(s *sock) {
	o := k.sockOp(s)
	o.Code = opFreeSock
	k.push(o)
	k.socks[s.slot] = nil
	k.gone++
}

// timeWaitSock is tcp_time_wait(): a minisock takes over, if there may be one.
func (k *kernel) timeWaitSock(s *sock, substate, timeout uint64) {
	slot := -1
	for i := range k.minis {
		if k.minis[i] == nil {
			slot = i
		}
	}
	if slot < 0 || k.overflow {
		was := k.overflow
		k.overflow = true
		k.setState(s, closed, firing{reason: timeWaitOverflow})
		k.overflow = was
		return
	}
	m := &mini{
		slot: slot, of: s, sport: s.sport, owner: s.owner, role: s.role,
		from: s.state, fromEntered: s.entered, substate: substate, bornAt: k.now,
	}
	k.minis[slot], k.last = m, m
	if substate == timeWait {
		m.twLo = k.now
	}
	o := k.miniOp(m)
	o.Code, o.Parent, o.CopyCookie = opNewMini, uint64(s.slot)+1, 1
	k.push(o)
	o = k.miniOp(m)
	o.Parent = uint64(s.slot) + 1
	if k.hooks == fentry {
		k.fire(opTwskAlloc, o, firing{mini: m, born: true})
	}
	k.arm(m, timeout, false)
	if substate == timeWait {
		m.twHi = k.now
	}
	// From here on a segment can find it, on another CPU.
	k.cpu = 1
	for _, c := range k.windows {
		k.segment(m, c)
	}
	k.windows, k.cpu = nil, 0
	k.setState(s, closed, firing{made: m, closer: 0})
}

// arm is __inet_twsk_schedule(). A timer that stays in its slot of the wheel is moved in silence (__mod_timer()).
func (k *kernel) arm(m *mini, timeout uint64, rearm bool) {
	o := k.miniOp(m)
	o.Timeo = timeout
	if rearm {
		o.Rearm = 1
	}
	if k.hooks == fentry {
		k.fire(opTwskSchedule, o, firing{mini: m, born: !rearm})
	}
	if rearm && !m.pending {
		return // mod_timer_pending()
	}
	old := m.expires
	m.lastArmed = k.now
	if !rearm {
		m.expires, m.pending = k.jiffies(k.now)+timeout, true
		if k.hooks != fentry {
			k.fire(opTimerStart, k.miniOp(m), firing{mini: m, born: true})
		}
		return
	}
	expires := k.jiffies(k.now) + timeout
	moves := wheelIndex(old) != wheelIndex(expires)
	if moves && k.hooks != fentry {
		k.in(0, []uint64{callerRearm, callerSegment, callerReceive}, func() {
			k.fire(opTimerCancel, k.miniOp(m), firing{mini: m})
		})
	}
	m.expires = expires
	if moves && k.hooks != fentry {
		k.fire(opTimerStart, k.miniOp(m), firing{mini: m})
	}
}

func wheelIndex(expires uint64) uint64 { return (expires + wheelSlot) / wheelSlot }

// dropped is the end of a segment that a minisock met, or had met before it went.
func (k *kernel) dropped(m *mini, stale bool) {
	if k.hooks == tracepoints {
		k.fire(opKfreeSKB, k.miniOp(m), firing{mini: m, stale: stale})
	}
}

// segment is tcp_timewait_state_process() and what tcp_v4_rcv() does with what it says; and the other ends.
func (k *kernel) segment(m *mini, what byte) {
	if m == nil || m.ended {
		return
	}
	receive := []uint64{callerDelete, callerReceive}
	switch what {
	case 'F': // a FIN
		if m.substate == finWait2 {
			m.substate, m.twLo = timeWait, k.now
			k.arm(m, minute, true)
			k.dropped(m, false)
			m.twHi = k.now
			return
		}
		m.rearms++
		k.arm(m, minute, true)
		k.dropped(m, false)
	case 'D': // data
		if m.substate == finWait2 {
			k.kill(m, receive, rstSent)
			k.dropped(m, true)
			return
		}
		m.rearms++
		k.arm(m, minute, true)
		k.dropped(m, false)
	case 'O': // nothing that it needs
		k.dropped(m, false)
	case 'R':
		k.kill(m, []uint64{callerDelete, callerSegment, callerReceive}, rstReceived)
		k.dropped(m, true)
	case 'Y': // a SYN
		if m.substate == finWait2 {
			k.kill(m, receive, rstSent)
			k.dropped(m, true)
			return
		}
		k.kill(m, receive, recycled)
	case 'C':
		k.kill(m, []uint64{callerDelete, callerConnect}, reused)
	case 'K':
		k.kill(m, []uint64{callerDelete, callerAbort}, destroyed)
	case 'N':
		k.kill(m, []uint64{callerDelete, callerPurge}, netnsRemoved)
	case 'U':
		k.kill(m, []uint64{callerDelete}, killed)
	case 'E':
		k.expire(m)
	}
}

// kill is inet_twsk_deschedule_put().
func (k *kernel) kill(m *mini, stack []uint64, why uint64) {
	m.pending = false
	m.ended = true
	k.in(0, stack, func() {
		c := opTimerCancel
		if k.hooks == fentry {
			c = opTwskKill
		}
		k.fire(c, k.miniOp(m), firing{mini: m, end: true, reason: why})
	})
	k.minis[m.slot] = nil
	k.gone++
}

// expire is tw_timer_handler().
func (k *kernel) expire(m *mini) {
	m.pending = false
	m.ended = true
	k.in(0, []uint64{callerTimer}, func() {
		if k.hooks == fentry {
			k.fire(opTwskKill, k.miniOp(m), firing{mini: m, end: true, reason: expired})
			return
		}
		k.fire(opTimerCancel, k.miniOp(m), firing{mini: m})
		k.fire(opTimerExpire, k.miniOp(m), firing{mini: m, end: true, reason: expired})
	})
	k.minis[m.slot] = nil
	k.gone++
}

// pass lets time go by, and timers fire.
func (k *kernel) pass(ns uint64) {
	until := k.now + ns
	for {
		var due *mini
		at := until
		for _, m := range k.minis {
			if m == nil || !m.pending {
				continue
			}
			if fires := max(k.now, wheelIndex(m.expires)*wheelSlot*jiffy); fires <= at {
				due, at = m, fires
			}
		}
		k.now = at
		if due == nil {
			return
		}
		k.expire(due)
	}
}
