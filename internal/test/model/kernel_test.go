package model

// This file begins the simulated kernel. Its sockets and minisocks go through the states of RFC
// 9293 as Linux implements them, and fire hooks on the way. The kernel records what is true. Where
// it follows a function of Linux, a comment names the function.

// hookSet says which programs are loaded, and whether kfree_skb has rx_sk.
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
	entered          uint64 // when it entered state
	role, owner      uint64
	sport, inetSport uint64
	dport            uint64
	bound            bool // the process named the port (SOCK_BINDPORT_LOCK)
	shutdown, err    uint64
	held             bool // by a process
	lingerless       bool // TCP_LINGER2 of -1
	packetsOut       uint64
	unacked          uint64
	seq              uint64 // write_seq
	softErr          uint64 // sk_err_soft
	unread           uint64 // bytes, the peer's FIN included
	lingerZero       bool   // SO_LINGER of 0 s
	repair           bool   // TCP_REPAIR
	retransmits      uint64
	probes           uint64
	userTimeout      uint64 // ms
	life             int
	parent           *sock // the listener that accepted it
	net              uint64
	subflow          uint64 // of MPTCP: 1 the first, 2 a later one, which the kernel opens
	visible          bool   // the hooks have seen it since its birth
}

type mini struct {
	slot           int
	of             *sock
	sport, net     uint64
	owner, role    uint64
	from           uint64 // FIN_WAIT_2 or CLOSING
	fromEntered    uint64
	twLo, twHi     uint64 // first and last time at which a hook can report the start of TIME_WAIT; 0: it has not begun
	substate       uint64
	expires        uint64
	bornAt         uint64
	lastArmed      uint64
	rearms         uint64 // in TIME_WAIT
	pending, ended bool
}

// A firing is the truth about one op.
type firing struct {
	op        int
	code      code // even if no program was run
	sock      *sock
	mini      *mini
	from, to  uint64
	fromSince uint64 // when from was entered
	time      uint64
	made      *mini // the minisock of a hand-over
	settled   []settled
	end       bool   // the mini ends
	born      bool   // the first op of the mini
	reason    uint64 // why it closed
	detail    uint64
	errno     uint64 // that goes with the reason
	again     uint64 // what was sent again
	restored  bool   // SYN_SENT -> ESTABLISHED that is to be told as from CLOSED
	silent    bool   // nothing is to be told
	sport     uint64
	closer    uint64
	role      uint64
	owner     uint64
	life      int
	armed     uint64 // when the mini's timer was armed last
	missed    bool   // a gap: no program was run
	before    bool   // before the programs were attached
	noStack   bool
	ringFull  bool
	halfMade  bool
	byBind    bool // connect(2) from a port that bind(2) chose
	stale     bool // the mini does not exist any more
	garbage   bool // no kernel does this
	action    int
}

// settled is a socket that has got its port since its first transition, and has had no other.
type settled struct {
	sock         *sock
	state, sport uint64
	role, owner  uint64
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
	overflow bool      // the namespace has no room for minisocks
	refused  [2]uint64 // TCPTimeWaitOverflow, by CPU
	exiting  bool      // the current process
	windows  []byte
	adverse  []adversity
	swept    bool // everything was closed, and then the records were swept
	gone     int  // sockets and minisocks whose memory was freed
}

// An adversity happens to the hook that fires after a number of others.
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
	o.Overflows = k.refused[k.cpu]
	if k.exiting {
		o.Exiting = 1
	}
	k.cookies++
	o.FreshCookie = 1000 + k.cookies
	o.RingRoom = ^uint64(0)
	o.PID = k.pid
	for i, c := range k.stack {
		o.Stack[i] = c<<8 + 16
	}
	o.Frames = max(1, int64(len(k.stack))) // a stack has at least one frame
	if n := len(k.ops); n > 0 && k.ops[n-1].Nest > 0 && !k.canNest(&k.ops[n-1], &o) {
		k.ops[n-1].Nest = 0
	}
	k.ops = append(k.ops, o)
	k.pushed = k.action
	return len(k.ops) - 1
}

// canNest reports whether inner can fire while the program of outer runs. Two CPUs never have the
// same socket or the same timer, and no time passes in between.
func (k *kernel) canNest(outer, inner *op) bool {
	isHook := func(o *op) bool { return o.Code >= opSetState && o.Code <= opExisting || o.Code == opSweep }
	if k.pushed == k.action && outer.CPU == inner.CPU {
		return false // both belong to one action on one CPU
	}
	if !isHook(outer) || !isHook(inner) || inner.Now-outer.Now > jiffy {
		return false
	}
	if outer.Object != inner.Object || outer.Slot != inner.Slot {
		return true
	}
	if outer.Object == aSock || outer.Code == opSweep {
		return false
	}
	// With one minisock, the hooks of a segment can meet those of another segment, or of the end.
	isTimer := func(o *op) bool {
		return o.Code == opTimerStart || o.Code == opTimerCancel || o.Code == opTimerExpire
	}
	return !(isTimer(outer) && isTimer(inner))
}

func (k *kernel) sockOp(s *sock) op {
	o := op{
		Object: aSock, Slot: uint64(s.slot), State: s.state, Family: 2, Sport: s.sport, Dport: s.dport, NetNS: s.net,
		InetSport: s.inetSport, Protocol: 6, Shutdown: s.shutdown, Err: s.err,
		PacketsOut: s.packetsOut, Unacked: s.unacked, Subflow: s.subflow,
		Seq: s.seq, Unread: s.unread, Retransmits: s.retransmits, Probes: s.probes, UserTimeout: s.userTimeout,
	}
	if s.lingerZero {
		o.LingerZero = 1
	}
	if s.repair {
		o.Repair = 1
	}
	if s.bound {
		o.Named = 1
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
		Object: aMini, Slot: uint64(m.slot), State: timeWait, Family: 2, Sport: m.sport, Dport: 80, NetNS: m.net,
		Substate: m.substate, Expires: m.expires,
	}
	if m.pending {
		o.Pending = 1
	}
	return o
}

// fire fires a hook, with the adversities that are due.
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
	if f.noStack {
		k.ops[f.op].Frames = -14 // EFAULT
	}
	if f.ringFull {
		k.ops[f.op].RingRoom = 0
	}
	k.fired = append(k.fired, f)
	k.now += k.tick
}

func befall(a adversity, o *op, f *firing) {
	switch a.kind {
	case 'g': // gap
		f.missed = f.code != opExisting && f.code != opSweep
	case 'r': // recursion: the next program on the tracepoint takes over
		o.Skip = 1
	case 's': // no stack
		f.noStack = true
	case 'u':
		o.FailUpdates = 1
	case 'm': // no room for a socket's record
		o.FailStorage = 1
	case 'f':
		f.ringFull = true
	case 'n':
		o.Nest = 1 + a.arg
	}
}

// in runs do on a stack, in a process or, with pid 0, in a softirq.
func (k *kernel) in(pid uint64, stack []uint64, do func()) {
	oldPID, oldStack := k.pid, k.stack
	k.pid, k.stack = pid, stack
	if pid == 0 {
		k.pid = softirqTask
	}
	do()
	k.pid, k.stack = oldPID, oldStack
}

// setState is tcp_set_state() and inet_sk_set_state(). A socket that closes gives its port back first.
func (k *kernel) setState(s *sock, to uint64, f firing) {
	f.sock, f.from, f.to, f.fromSince = s, s.state, to, s.entered
	f.sport = s.sport
	f.byBind = s.state == closed && to == synSent && s.sport != 0 && !s.bound
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
		s := &sock{slot: i, parent: parent, state: closed, held: true, dport: 80, seq: 1000, visible: k.attached, net: uint64(i) % 2}
		if parent != nil {
			s.net = parent.net
		}
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
