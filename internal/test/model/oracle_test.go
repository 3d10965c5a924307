package model

import "fmt"

// The oracle compares what fired with the output of the programs, and lists what is wrong. The
// simulated kernel tells it what is true. From the hooks that were seen it derives how much of that
// finwait can know.
type oracle struct {
	k     *kernel
	set   settings
	out   *outcome
	socks map[*sock]*sockView
	minis map[*mini]*miniView
	errs  []string

	// The losses of the script, each with its possible consequences.
	missed      uint64 // transitions for which no program was run
	noStack     uint64
	failures    uint64         // of map updates
	exitsMissed uint64         // missed ends that can leave the record of a minisock behind
	endsMissed  uint64         // last transitions of sockets and minisocks that were known until then
	unshown     uint64         // minisocks whose TIME_WAIT was not reported, after a loss or because they are older
	stale       [numMinis]bool // the end of a minisock was missed, so that another at its address can be taken for it
	full        bool           // a socket's record had no room
	garbage     bool
	shown       map[uint64]uint64 // the last state that was reported, by cookie
	lives       map[uint64]int    // how many times a socket of this cookie began
	gap         string            // transitions that do not fit together
	edges       [4][16][16]uint64 // by role
	ends        [4][16][32]uint64 // by role
	timed       [21]uint64
	details     [16][32]uint64
}

// sockView is what finwait can know of a socket.
type sockView struct {
	state     uint64 // last seen state; 0: never seen
	since     uint64
	precision uint64
	tainted   bool   // a transition of it was missed
	waiting   uint64 // time of its first transition, which is deferred until its port is known
	cookie    uint64
	life      int
	mistaken  bool // it is taken for an earlier life of the socket
}

type miniView struct {
	sock        sockView // its socket, in the state before TIME_WAIT
	tainted     bool
	visited     bool
	raced       bool   // two CPUs had it at the same time
	lost        bool   // an event of it was lost, because the ring was full
	missed      bool   // no program was run for a hook of it
	lateAt      uint64 // start of TIME_WAIT that was reported instead of the true one
	timeWait    bool   // TIME_WAIT was reported
	twTime      uint64
	twPrecision uint64
	ended       bool // its end was reported
	unanswered  bool // no program was run when it answered with an RST
}

func newOracle(k *kernel, set settings, out *outcome) *oracle {
	return &oracle{k: k, set: set, out: out, socks: make(map[*sock]*sockView), minis: make(map[*mini]*miniView),
		shown: make(map[uint64]uint64), lives: make(map[uint64]int)}
}

func (o *oracle) errorf(f *firing, format string, args ...any) {
	o.errs = append(o.errs, fmt.Sprintf("op %d (%s): ", f.op, name(f))+fmt.Sprintf(format, args...))
}

func name(f *firing) string {
	hooks := []string{"nothing", "set_state", "timer_start", "timer_cancel", "timer_expire_entry", "kfree_skb",
		"twsk_alloc", "twsk_schedule", "twsk_kill", "existing", "send_reset", "error_report", "", "", "", "", "sweep"}
	s := hooks[f.code]
	if f.code == opSetState {
		s += fmt.Sprintf(" %d -> %d", f.from, f.to)
	}
	if f.missed {
		s += ", not run"
	}
	return s
}

func (o *oracle) view(s *sock) *sockView {
	v := o.socks[s]
	if v == nil {
		v = &sockView{tainted: !s.visible}
		o.socks[s] = v
	}
	return v
}

func (o *oracle) miniView(m *mini) *miniView {
	v := o.minis[m]
	if v == nil {
		v = &miniView{}
		o.minis[m] = v
	}
	return v
}

// check checks the whole run.
func (o *oracle) check() []string {
	for i := range o.k.fired {
		f := &o.k.fired[i]
		r, events := &o.out.results[f.op], o.out.events[f.op]
		o.failures += r.FailedUpdates + r.FailedStorage
		for _, e := range events {
			o.sane(f, &e)
		}
		switch {
		case f.garbage:
			o.garbage = true
		case f.sock != nil && f.code == opSetState:
			o.setState(f, r, events)
		case f.sock != nil && f.code == opErrorReport:
			o.none(f, events)
			if v := o.view(f.sock); f.missed || f.before {
				v.tainted = true
			}
		case f.sock != nil && f.code == opExisting:
			o.existingSock(f, events)
		case f.mini != nil:
			o.mini(f, r, events)
		case f.code == opSweep:
			o.settle(f, events)
		case len(events) > 0 && !o.garbage:
			o.errorf(f, "%d events of a minisock that is gone: %+v", len(events), events[0])
		}
		if !o.nested(f) {
			o.identity(f, r)
		}
	}
	o.finally()
	return o.errs
}

// sane checks what must hold for any event, whatever fired.
func (o *oracle) sane(f *firing, e *event) {
	if e.Since > e.Time {
		o.errorf(f, "a negative duration: %+v", e)
	}
	if (e.Since == 0) != (e.Precision == unknown) {
		o.errorf(f, "precision and start contradict each other: %+v", e)
	}
	if e.Time != f.time && e.Flags&eventLate == 0 && !o.garbage {
		o.errorf(f, "it is told late, and does not say so: its stack would be that of the teller: %+v", e)
	}
	if e.Time > f.time && !o.garbage { // garbage may leave a record of memory without a time
		o.errorf(f, "an event of the future: %+v, now %d", e, f.time)
	}
	// No kernel calls connect() in a softirq, as garbage can have it.
	if (e.Owner == softirqTask || e.Closer == softirqTask) && !f.garbage && !o.garbage {
		o.errorf(f, "an unrelated process is named: %+v", e)
	}
	if e.Holder > 1 || (e.Holder == 1) != (e.Owner == holderTask) {
		o.errorf(f, "a holder and a creator are taken for each other: %+v", e)
	}
	if e.Owner != 0 && e.OwnerComm != commOf(e.Owner) || e.Closer != 0 && e.CloserComm != commOf(e.Closer) {
		o.errorf(f, "a name is wrong: %q, %q: %+v", e.OwnerComm, e.CloserComm, e)
	}
	if e.Family == 2 && (e.Saddr != 127|1<<24 || e.Daddr != 127|2<<24) {
		o.errorf(f, "addresses %x, %x: %+v", e.Saddr, e.Daddr, e)
	}
	if e.NetNS != 4026531840 || !f.garbage && !o.garbage && f.code != opSweep && e.NetNSCookie != o.net(f) || o.set.NetNS != 0 && e.NetNSCookie != o.set.NetNS {
		o.errorf(f, "of namespace %d, %d, want %d: %+v", e.NetNS, e.NetNSCookie, o.net(f), e)
	}
	if e.Precision > atLeast || e.Reason >= numReasons || e.Detail >= numDetails || e.Role > listener || e.Flags&^(2|eventLate|eventPortByBind) != 0 || e.Hook > 8 {
		o.errorf(f, "a field was not written: %+v", e)
	}
}

// net is the cookie of the network namespace, or 0.
func (o *oracle) net(f *firing) uint64 {
	switch {
	case f.sock != nil:
		return f.sock.net + 1
	case f.mini != nil:
		return f.mini.net + 1
	}
	return 0
}

// hidden reports whether a filter hides the namespace.
func (o *oracle) hidden(f *firing) bool { return o.set.NetNS != 0 && o.net(f) != o.set.NetNS }

// commOf is the harness's name of a process.
func commOf(pid uint64) (comm [16]byte) {
	copy(comm[:], []string{"five5", "seven-7", "eight--8", "fifteen-bytes-x"}[pid%4])
	return comm
}

// nested reports whether f fired while the program of the firing before was still running.
func (o *oracle) nested(f *firing) bool { return f.op > 0 && o.k.ops[f.op-1].Nest > 0 }

// durationsOf is where the duration of an event is counted.
func durationsOf(e *event) uint64 {
	const handshakes, sessions = 16, 17
	switch {
	case e.From == established:
		return sessions + e.Role&3
	case e.From == synSent && e.To == established:
		return handshakes
	}
	return e.From & 15
}

// identity checks that what was seen is the sum of what was filtered, delivered and lost.
func (o *oracle) identity(f *firing, r *result) {
	a := &r.Account
	if sum := a.Filtered + a.Delivered + a.RingFull + a.MapFull + a.Missed + a.UnwindFailed; a.Seen != sum {
		o.errorf(f, "seen %d, accounted for %d: %+v", a.Seen, sum, a)
	}
}

func (o *oracle) count(events []event) {
	for _, e := range events {
		last := o.shown[e.Cookie]
		if last == 0 || e.From == closed || e.From == listen || e.From == synSent && last != synSent {
			o.lives[e.Cookie]++
		} else if last != closed && last != e.From && o.lives[e.Cookie] == 1 {
			o.gap = fmt.Sprintf("socket %d is shown to go to %d, and then from %d to %d", e.Cookie, last, e.From, e.To)
		}
		o.shown[e.Cookie] = e.To
		role := e.Role & 3
		o.edges[role][e.From&15][e.To&15]++
		if e.Since != 0 && e.Since <= e.Time && (e.Precision == exact || e.Precision == jiffyPrecise) {
			o.timed[durationsOf(&e)]++
		}
		if e.To == closed {
			o.ends[role][e.From&15][e.Reason&31]++
			if e.Detail != noDetail {
				o.details[e.From&15][e.Detail&31]++
			}
		}
	}
}
