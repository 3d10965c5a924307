package model

import (
	"fmt"
	"slices"
)

// The oracle goes through what fired and what the programs made of it, and says
// what is wrong. It knows what is true from the simulated kernel; what finwait
// can know of that it works out from which hooks were seen.
type oracle struct {
	k     *kernel
	set   settings
	out   *outcome
	socks map[*sock]*sockView
	minis map[*mini]*miniView
	errs  []string

	// Losses that were inflicted, each with what it may leave behind or make wrong.
	missed      uint64 // transitions that no program was run for
	noStack     uint64
	failures    uint64         // of maps and storage
	exitsMissed uint64         // of what holds a record of a minisock
	unshown     uint64         // minisocks of which TIME_WAIT was not shown, for a loss before or as they are older
	stale       [numMinis]bool // the end of a minisock was missed: another at its address can be taken for it
	garbage     bool
	edges       [16][16]uint64
	ends        [16][32]uint64
}

// sockView is what can be known of a socket.
type sockView struct {
	state     uint64 // as seen last; 0: never
	since     uint64
	precision uint64
	tainted   bool   // something about it was missed
	waiting   uint64 // since when its first transition is put aside, until its port is known
	life      int
	mistaken  bool // for one in an earlier life
}

type miniView struct {
	sock        sockView // of its socket, in the state that it had before TIME_WAIT
	tainted     bool
	visited     bool
	raced       bool   // two CPUs were at it at once
	before      bool   // it is older than the programs
	lost        bool   // something was for want of room in the ring
	missed      bool   // no program was run for one of its hooks
	lateAt      uint64 // the time that TIME_WAIT was said to begin at for want of that
	timeWait    bool   // told
	twTime      uint64
	twPrecision uint64
	ended       bool // told
}

func newOracle(k *kernel, set settings, out *outcome) *oracle {
	return &oracle{k: k, set: set, out: out, socks: make(map[*sock]*sockView), minis: make(map[*mini]*miniView)}
}

func (o *oracle) errorf(f *firing, format string, args ...any) {
	o.errs = append(o.errs, fmt.Sprintf("op %d (%s): ", f.op, name(f))+fmt.Sprintf(format, args...))
}

func name(f *firing) string {
	hooks := []string{"nothing", "set_state", "timer_start", "timer_cancel", "timer_expire_entry", "kfree_skb",
		"twsk_alloc", "twsk_schedule", "twsk_kill", "older"}
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

// check goes through all of it.
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
		case f.sock != nil && f.code == opOlder:
			o.olderSock(f, events)
		case f.mini != nil:
			o.mini(f, r, events)
		case len(events) > 0:
			o.errorf(f, "%d events of a minisock that is gone: %+v", len(events), events[0])
		}
		if !o.nested(f) {
			o.identity(f, r)
		}
	}
	o.finally()
	return o.errs
}

// sane is what must hold of any event, whatever fired.
func (o *oracle) sane(f *firing, e *event) {
	if e.Since > e.Time {
		o.errorf(f, "a negative duration: %+v", e)
	}
	if (e.Since == 0) != (e.Precision == unknown) {
		o.errorf(f, "precision and start contradict each other: %+v", e)
	}
	if e.Time > f.time {
		o.errorf(f, "an event of the future: %+v, now %d", e, f.time)
	}
	if e.Owner == softirqTask || e.Closer == softirqTask {
		o.errorf(f, "an unrelated process is named: %+v", e)
	}
	if e.Precision > atLeast || e.Reason > orderlyClosed || e.Role > listener || e.Flags&^3 != 0 || e.Hook > 7 {
		o.errorf(f, "a field was not written: %+v", e)
	}
}

// nested: it fired in the midst of the one before, which was not done with its own counting.
func (o *oracle) nested(f *firing) bool { return f.op > 0 && o.k.ops[f.op-1].Nest > 0 }

// identity: what was seen is where it went.
func (o *oracle) identity(f *firing, r *result) {
	a := &r.Account
	if sum := a.Filtered + a.Delivered + a.RingFull + a.MapFull + a.Missed + a.UnwindFailed; a.Seen != sum {
		o.errorf(f, "seen %d, accounted for %d: %+v", a.Seen, sum, a)
	}
}

func (o *oracle) count(events []event) {
	for _, e := range events {
		o.edges[e.From&15][e.To&15]++
		if e.To == closed {
			o.ends[e.From&15][e.Reason&31]++
		}
	}
}

func (o *oracle) setState(f *firing, r *result, events []event) {
	o.count(events)
	v := o.view(f.sock)
	exit := f.to == closed && (f.from == finWait2 || f.from == closing)
	if f.made != nil {
		mv := o.miniView(f.made)
		mv.tainted = mv.tainted || v.tainted || f.missed || f.before
	}
	// The program that would take over believes that the first was run: the socket is in that state already, as
	// a transition before was missed, too.
	mistaken := !f.missed && o.k.ops[f.op].Skip == 1 && v.state == f.to
	if f.before || f.missed || mistaken {
		if !f.before {
			o.missed++
			if exit {
				o.exitsMissed++
			}
			v.tainted = true
		}
		o.none(f, events)
		return
	}
	if f.from == f.to {
		o.none(f, events)
		return
	}
	if f.from == listen && f.to == synRecv {
		*v = sockView{tainted: v.tainted || o.view(f.sock.parent).tainted, life: v.life}
	}
	if r.FailedStorage > 0 && v.state == 0 {
		v.tainted = true
		o.none(f, events)
		return
	}
	if r.FailedUpdates > 0 {
		v.tainted = true
	}
	since, precision := v.since, v.precision
	if v.state != f.from {
		since, precision = 0, unknown
	}
	wasTainted := v.tainted
	// So much was missed that the socket seems to be where it was, in a life before.
	wholeLife := f.from == closed && v.state == closed && v.life != f.life-1 // was missed: nothing shows
	if f.from == closed || v.state == 0 || v.state != f.from && (v.state == closed || f.from == synSent) {
		v.life = f.life
	}
	// So much was missed that the socket seems to be in the life before, and nothing shows.
	if v.life != f.life {
		v.state, v.tainted, v.mistaken = f.to, true, true
		return
	}
	v.mistaken = false
	v.state, v.since, v.precision = f.to, f.time, exact
	switch {
	case wholeLife:
	case f.made != nil:
		mv := o.miniView(f.made)
		if len(events) > 0 && !mv.tainted {
			o.errorf(f, "a hand-over is shown as %+v", events[0])
		}
		if mv.tainted {
			o.transitions(f, v, events, since, precision, true)
		}
	default:
		o.transitions(f, v, events, since, precision, wasTainted)
	}
}

func (o *oracle) none(f *firing, events []event) {
	if len(events) > 0 {
		o.errorf(f, "shown where there is nothing to show: %+v", events[0])
	}
}

func (o *oracle) filters() bool { return o.set.LocalPort != 0 || o.set.MinDuration != 0 }

// transitions checks what a hook of a full socket has told: this transition, and
// before it one that was put aside.
func (o *oracle) transitions(f *firing, v *sockView, events []event, since, precision uint64, tainted bool) {
	if v.waiting != 0 && len(events) > 0 && events[0].Time == v.waiting && events[0].Since == 0 && len(events) == 2 {
		events = events[1:]
	}
	held := f.to == synSent && o.set.LocalPort != 0 || f.halfMade
	if held {
		v.waiting = f.time
		if len(events) == 0 {
			return
		}
	}
	v.waiting = 0
	if len(events) == 0 {
		if !tainted && !f.ringFull && !o.filters() && !o.garbage {
			o.errorf(f, "not shown")
		}
		return
	}
	if len(events) > 1 {
		o.errorf(f, "shown %d times: %+v", len(events), events)
	}
	e := events[0]
	if e.From != f.from || e.To != f.to || e.Time != f.time {
		o.errorf(f, "shown as %+v", e)
	}
	// The storage of a child whose birth was missed is its listener's, which the iterator leaves alone.
	cautious := tainted && precision == atLeast && e.Precision == unknown
	if (e.Since != since || e.Precision != precision) && !cautious {
		o.errorf(f, "since %d, precision %d; it must be %d, %d (in truth %d): %+v", e.Since, e.Precision, since, precision, f.fromSince, e)
	}
	if e.Precision == exact && e.Since != f.fromSince {
		o.errorf(f, "%d is said to be exact, in truth it began at %d", e.Since, f.fromSince)
	}
	if e.Cookie != o.out.results[f.op].Cookie && !f.halfMade {
		o.errorf(f, "cookie %d of a socket of cookie %d", e.Cookie, o.out.results[f.op].Cookie)
	}
	o.who(f, &e, tainted)
	if tainted || f.noStack {
		return
	}
	if want := f.reason; f.to == closed && e.Reason != want {
		o.errorf(f, "reason %d, want %d", e.Reason, want)
	}
	if o.set.LocalPort == 0 && f.closer != 0 && e.Closer != f.closer {
		o.errorf(f, "closed by %d, want %d", e.Closer, f.closer)
	}
}

func (o *oracle) who(f *firing, e *event, tainted bool) {
	role, owner := f.role, f.owner
	if e.Role != role && (!tainted || e.Role != noRole) {
		o.errorf(f, "role %d, want %d", e.Role, role)
	}
	if e.Owner != owner && (!tainted || e.Owner != 0) {
		o.errorf(f, "owner %d, want %d", e.Owner, owner)
	}
}

// olderSock: the iterator dates what no hook has.
func (o *oracle) olderSock(f *firing, events []event) {
	o.none(f, events)
	v := o.view(f.sock)
	if o.out.results[f.op].FailedStorage > 0 && v.state == 0 {
		v.tainted = true
	} else if v.since == 0 && !v.mistaken {
		v.state, v.since, v.precision, v.life = f.from, f.time, atLeast, f.life
	}
	if o.out.results[f.op].FailedUpdates > 0 {
		v.tainted = true
	}
}

func (o *oracle) mini(f *firing, r *result, events []event) {
	o.count(events)
	m, v := f.mini, o.miniView(f.mini)
	if f.born {
		v.sock = *o.view(m.of)
		v.tainted = v.tainted || v.sock.tainted || v.sock.state != m.from
		if o.stale[m.slot] {
			v.tainted, v.sock.mistaken = true, true
		}
	}
	// Ended between two looks of __inet_twsk_schedule()'s program at it: that takes it for one not seen before.
	if f.end && o.nested(f) && o.k.ops[f.op-1].Code == opTwskSchedule {
		o.exitsMissed++
		o.stale[m.slot] = true
	}
	if f.end && (f.missed || f.noStack) {
		o.stale[m.slot] = true
	}
	if f.missed || f.before || r.FailedUpdates > 0 {
		v.tainted = true
	}
	if f.noStack && f.end && f.code == opTimerCancel && !f.missed && !f.before {
		o.noStack++
		o.exitsMissed++
		v.tainted = true
		return
	}
	if f.noStack {
		o.noStack++
		v.tainted = true
	}
	if f.missed {
		v.missed = true
		o.missed++
		if f.end {
			o.exitsMissed++
		}
	}
	v.raced = v.raced || o.nested(f) || o.k.ops[f.op].Nest > 0
	v.lost = v.lost || f.ringFull
	if f.code == opOlder {
		v.visited = true
	}
	for i := range events {
		o.miniEvent(f, v, &events[i])
	}
	if f.end && !f.missed && !f.before && !f.stale {
		o.complete(f, v)
		if m.twLo != 0 && !v.timeWait && !v.visited {
			o.unshown++
		}
	}
}

// complete: a minisock that is gone has told all, if nothing was in the way.
func (o *oracle) complete(f *firing, v *miniView) {
	if v.tainted || v.lost || o.garbage || o.filters() {
		return
	}
	if !v.ended {
		o.errorf(f, "its end is not shown")
	}
	if f.mini.twLo != 0 && !v.timeWait {
		o.errorf(f, "its TIME_WAIT is not shown")
	}
}

// miniEvent checks one event of a minisock.
func (o *oracle) miniEvent(f *firing, v *miniView, e *event) {
	if o.garbage || v.sock.mistaken {
		return
	}
	if e.Cookie != o.out.results[f.op].Cookie {
		o.errorf(f, "cookie %d of a minisock of cookie %d", e.Cookie, o.out.results[f.op].Cookie)
	}
	o.who(f, e, v.tainted)
	switch {
	case e.To == timeWait && !v.timeWait && !v.ended:
		v.timeWait, v.twTime = true, e.Time
		o.timeWait(f, v, e)
	case e.To == closed && f.end && !v.ended:
		v.ended = true
		o.ended(f, v, e)
	default:
		o.errorf(f, "a minisock's %+v", e)
	}
}

func (o *oracle) timeWait(f *firing, v *miniView, e *event) {
	m := f.mini
	if m.twLo == 0 {
		o.errorf(f, "TIME_WAIT is made up: %+v", e)
		return
	}
	if e.From != m.from {
		o.errorf(f, "TIME_WAIT is said to come after %d, it came after %d", e.From, m.from)
	}
	o.began(f, e, m.fromEntered, m.fromEntered, m.fromEntered, "the state before TIME_WAIT")
	if !v.tainted && (e.Since != v.sock.since || e.Precision != v.sock.precision && e.Precision != jiffyPrecise) {
		o.errorf(f, "since %d, precision %d; it must be %d, %d", e.Since, e.Precision, v.sock.since, v.sock.precision)
	}
	v.twPrecision = e.Precision
	if dated := e.Precision == jiffyPrecise; dated && (e.Time+2*jiffy < m.twLo || e.Time > m.lastArmed+jiffy) {
		o.errorf(f, "TIME_WAIT is dated %d, it began at %d, the timer was last armed at %d", e.Time, m.twLo, m.lastArmed)
	} else if !dated && (e.Time+o.overlap(v) < m.twLo || e.Time > twEnd(m, f)) && !o.late(f, v, e.Time) && e.Precision == exact {
		o.errorf(f, "TIME_WAIT is said to begin at %d, it did from %d to %d", e.Time, m.twLo, m.twHi)
	}
	if !v.tainted && !v.raced && o.k.hooks != tracepointsNoRxSk && e.Precision != v.sock.precision {
		o.errorf(f, "precision %d, though every hook fired", e.Precision)
	}
}

// late: the segment that began TIME_WAIT did not show, and this is the first that arms the timer after that. It looks
// no different (docs/limitations.md). No program was run for the other, or it came in the jiffy of the minisock's birth.
func (o *oracle) late(f *firing, v *miniView, at uint64) bool {
	arms := f.code == opTwskSchedule || f.time-f.armed <= 2*jiffy
	if o.mayBeLate(f, v) && arms && v.lateAt == 0 {
		v.lateAt = at
	}
	return v.lateAt == at
}

// overlap is by how much a program on one CPU may have begun before what it sees was done on another.
func (o *oracle) overlap(v *miniView) uint64 {
	if v.raced {
		return 2 * o.k.tick
	}
	return 0
}

func (o *oracle) mayBeLate(f *firing, v *miniView) bool {
	return v.missed || o.k.hooks == tracepointsNoRxSk && f.mini.twLo/jiffy <= f.mini.bornAt/jiffy
}

func twEnd(m *mini, f *firing) uint64 {
	if m.twHi == 0 {
		return f.time
	}
	return m.twHi
}

func (o *oracle) ended(f *firing, v *miniView, e *event) {
	m := f.mini
	if e.Time != f.time {
		o.errorf(f, "it ended at %d, shown as %+v", f.time, e)
	}
	if !v.tainted && e.Reason != f.reason || v.tainted && !f.noStack && e.Reason != f.reason {
		o.errorf(f, "reason %d, want %d", e.Reason, f.reason)
	}
	most := m.rearms
	if v.visited && v.raced {
		most++ // visited in the midst of the arming that began TIME_WAIT, which looks like another
	}
	if e.Rearms > most || !v.tainted && !v.raced && o.k.hooks == fentry && e.Rearms != m.rearms {
		o.errorf(f, "%d re-arms, want %d", e.Rearms, m.rearms)
	}
	if m.twLo == 0 {
		if e.From != m.from && !(v.tainted && e.From == finWait2) {
			o.errorf(f, "it ended in %d, shown as %+v", m.from, e)
		}
		o.began(f, e, m.fromEntered, m.fromEntered, m.fromEntered, "the state before TIME_WAIT")
		return
	}
	if e.From != timeWait {
		o.errorf(f, "it ended in TIME_WAIT, shown as %+v", e)
		return
	}
	lost := v.lost && !v.timeWait // so that nobody was told when it was said to begin
	if !o.mayBeLate(f, v) || v.lateAt != e.Since && !lost {
		o.began(f, e, m.twLo-o.overlap(v), twEnd(m, f), m.lastArmed, "TIME_WAIT")
	}
	if v.timeWait && e.Since != v.twTime {
		o.errorf(f, "TIME_WAIT was said to begin at %d, and to end since %d", v.twTime, e.Since)
	}
	if !v.tainted && !o.filters() && (e.Precision == unknown || e.Precision == atLeast) && !v.visited {
		o.errorf(f, "precision %d, though every hook fired", e.Precision)
	}
}

// began holds what an event says of a state's begin against when it did: between lo and hi, or,
// as far as the timer tells, when that was last armed.
func (o *oracle) began(f *firing, e *event, lo, hi, armed uint64, what string) {
	switch e.Precision {
	case exact:
		if e.Since < lo || e.Since > hi {
			o.errorf(f, "%s is said to begin at exactly %d, it did from %d to %d", what, e.Since, lo, hi)
		}
	case jiffyPrecise:
		if e.Since+2*jiffy < lo || e.Since > armed+jiffy {
			o.errorf(f, "%s is said to begin at %d to the jiffy, it did from %d to %d, the timer was armed at %d", what, e.Since, lo, hi, armed)
		}
	case atLeast:
		if e.Since+2*jiffy < lo {
			o.errorf(f, "%s is said to be older than %d, it began at %d", what, e.Since, lo)
		}
	}
}

// finally is what must hold of the sums.
func (o *oracle) finally() {
	if len(o.out.results) == 0 {
		return
	}
	last := o.out.results[len(o.out.results)-1]
	f := &firing{op: len(o.out.results) - 1}
	a := &last.Account
	if o.garbage {
		return
	}
	if a.Missed > o.missed+o.unshown {
		o.errorf(f, "%d are said to be missed, %d were", a.Missed, o.missed)
	}
	if a.MapFull > o.failures {
		o.errorf(f, "%d are said to have had no room, %d had none", a.MapFull, o.failures)
	}
	if a.UnwindFailed > o.noStack {
		o.errorf(f, "%d stacks are said to be missing, %d were", a.UnwindFailed, o.noStack)
	}
	o.checkTotals(f, a)
	if o.left() {
		return
	}
	if last.Minisocks > o.exitsMissed {
		o.errorf(f, "%d records of minisocks stay, at most %d may", last.Minisocks, o.exitsMissed)
	}
}

// left: something is there still.
func (o *oracle) left() bool {
	return slices.ContainsFunc(o.k.socks[:], func(s *sock) bool { return s != nil }) ||
		slices.ContainsFunc(o.k.minis[:], func(m *mini) bool { return m != nil })
}

func (o *oracle) checkTotals(f *firing, a *account) {
	if o.set.Raw != 0 {
		return
	}
	t := &o.out.totals
	var edges uint64
	for from := range t.Edges {
		for to, n := range t.Edges[from] {
			edges += n
			if got := o.edges[from][to]; got > n || got < n && a.RingFull == 0 {
				o.errorf(f, "%d transitions %d -> %d in the totals, %d shown", n, from, to, got)
			}
		}
		for reason, n := range t.Ends[from] {
			if got := o.ends[from][reason]; got > n || got < n && a.RingFull == 0 {
				o.errorf(f, "%d ends of %d by %d in the totals, %d shown", n, from, reason, got)
			}
		}
	}
	if edges != a.Delivered+a.RingFull {
		o.errorf(f, "%d transitions in the totals, %d delivered and %d lost for want of room in the ring", edges, a.Delivered, a.RingFull)
	}
	o.checkLive(f)
}

// checkLive: if nothing was missed, what is counted as live is what is there.
func (o *oracle) checkLive(f *firing) {
	quiet := o.exitsMissed == 0 && o.missed == 0 && o.noStack == 0 && o.failures == 0
	var want [16]int64
	for _, s := range o.k.socks {
		if s != nil && s.state != closed {
			want[s.state]++
		}
	}
	for _, m := range o.k.minis {
		if m != nil && m.substate == timeWait {
			want[timeWait]++
		} else if m != nil {
			want[finWait2]++
		}
	}
	got := o.out.totals.Live
	if o.set.SplitBy != 0 && o.out.totals.GroupLive != got {
		o.errorf(f, "live %v, of all groups %v", got, o.out.totals.GroupLive)
	}
	if o.older() || o.set.LocalPort != 0 {
		quiet = quiet && !o.left()
	}
	if o.k.hooks == tracepointsNoRxSk { // a FIN may show only at the end
		got[finWait2] += got[timeWait]
		want[finWait2] += want[timeWait]
		got[timeWait], want[timeWait] = 0, 0
	}
	if quiet && got != want {
		o.errorf(f, "live %v, there are %v", got, want)
	}
	if o.exitsMissed == 0 && o.missed == 0 && !o.left() && got != ([16]int64{}) {
		o.errorf(f, "live %v, though all are gone", got)
	}
}

// older: something was there before the programs.
func (o *oracle) older() bool {
	return slices.ContainsFunc(o.k.fired, func(f firing) bool { return f.before })
}
