package model

import "slices"

func (o *oracle) setState(f *firing, r *result, events []event) {
	o.count(events)
	v := o.view(f.sock)
	exit := f.to == closed && (f.from == finWait1 || f.from == finWait2 || f.from == closing)
	if f.made != nil {
		mv := o.miniView(f.made)
		mv.tainted = mv.tainted || v.tainted || f.missed || f.before
	}
	// The program that takes over wrongly concludes that the first was run. Its record has the
	// new state already, because an earlier transition was missed too.
	skipped := !f.missed && o.k.ops[f.op].Skip == 1
	// It concludes the same for a closed socket without a record, and for any socket after a
	// record had no room.
	mistaken := skipped && (v.state == f.to || v.state == 0 && (f.to == closed || o.full))
	if f.before || f.missed || mistaken {
		if !f.before {
			o.missed++
			if exit {
				o.exitsMissed++
			}
			if f.missed && f.to == closed && f.made == nil && v.state == f.from && !v.tainted {
				o.endsMissed++
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
	o.full = o.full || r.FailedStorage > 0
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
	if f.from == closed || v.state == 0 || v.state != f.from && f.from == synSent {
		v.life = f.life
	}
	// So many transitions were missed that the socket seems to be in its life before, and none
	// is reported.
	if v.life != f.life {
		v.state, v.tainted, v.mistaken = f.to, true, true
		return
	}
	v.mistaken = false
	v.state, v.since, v.precision = f.to, f.time, exact
	switch {
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
	if f.to == closed { // a closed socket has no record
		v.state, v.since, v.precision = 0, 0, unknown
	}
}

func (o *oracle) none(f *firing, events []event) {
	if len(events) > 0 {
		o.errorf(f, "shown where there is nothing to show: %+v", events[0])
	}
}

func (o *oracle) filters() bool { return o.set.LocalPort != 0 || o.set.MinDuration != 0 }

// transitions checks the events of a full socket's hook: this transition, and before it a deferred
// one.
func (o *oracle) transitions(f *firing, v *sockView, events []event, since, precision uint64, tainted bool) {
	if v.waiting != 0 && len(events) > 0 && events[0].Time == v.waiting && events[0].Since == 0 && len(events) == 2 {
		events = events[1:]
	}
	if o.hidden(f) {
		o.none(f, events)
		return
	}
	held := (f.to == synSent || f.to == listen) && o.set.LocalPort != 0 || f.halfMade
	if held {
		v.waiting, v.cookie = f.time, o.out.results[f.op].Cookie
		if len(events) == 0 {
			return
		}
	}
	v.waiting = 0
	from := f.from
	if f.restored && !(tainted && len(events) == 1 && events[0].From == f.from) {
		from, since, precision = closed, 0, unknown
	}
	if f.silent {
		if !tainted {
			o.none(f, events)
		}
		return
	}
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
	if o.garbage && e.Since == 0 { // it may have taken the socket's record away: then nothing is known
		since, precision, tainted = 0, unknown, true
	}
	if e.From != from || e.To != f.to || e.Time != f.time {
		o.errorf(f, "shown as %+v", e)
	}
	if e.Since != since || e.Precision != precision {
		o.errorf(f, "since %d, precision %d; it must be %d, %d (in truth %d): %+v", e.Since, e.Precision, since, precision, f.fromSince, e)
	}
	if e.Precision == exact && e.Since != f.fromSince {
		o.errorf(f, "%d is said to be exact, in truth it began at %d", e.Since, f.fromSince)
	}
	if e.Cookie != o.out.results[f.op].Cookie && !f.halfMade {
		o.errorf(f, "cookie %d of a socket of cookie %d", e.Cookie, o.out.results[f.op].Cookie)
	}
	if (e.Flags&eventPortByBind != 0) != f.byBind {
		o.errorf(f, "bind() chose the port: %v, and it says: %+v", f.byBind, e)
	}
	o.who(f, &e, tainted)
	if tainted {
		return
	}
	if f.noStack && f.to == closed { // without the stack the reason must not be invented
		if e.Reason != f.reason && e.Reason != killed || f.from == listen && e.Closer != 0 && e.Closer != f.closer {
			o.errorf(f, "without a stack: reason %d, want %d, closed by %d, want %d", e.Reason, f.reason, e.Closer, f.closer)
		}
		return
	}
	if f.to != closed && e.Detail|e.Errno|e.Retransmits != 0 {
		o.errorf(f, "detail %d, errno %d, %d sent again: but it goes on", e.Detail, e.Errno, e.Retransmits)
	}
	if f.to == closed && (e.Reason != f.reason || e.Detail != f.detail || e.Errno != f.errno || e.Retransmits != f.again) {
		o.errorf(f, "reason %d, detail %d, errno %d, %d sent again; want %d, %d, %d, %d",
			e.Reason, e.Detail, e.Errno, e.Retransmits, f.reason, f.detail, f.errno, f.again)
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
	visited := e.Holder == 1 && (tainted || owner == 0)
	if e.Owner != owner && !visited && (!tainted || e.Owner != 0) {
		o.errorf(f, "owner %d, want %d", e.Owner, owner)
	}
}

// settle checks a run of settle_ports: it sends the first transitions that wait for a port.
func (o *oracle) settle(f *firing, events []event) {
	o.count(events)
	for i := range events {
		e := &events[i]
		if !slices.ContainsFunc(f.settled, func(s settled) bool {
			v := o.view(s.sock)
			told := v.waiting != 0 && v.waiting == e.Time && v.cookie == e.Cookie && e.From == closed && e.To == s.state && e.Since == 0
			if told {
				v.waiting = 0
				of := *f
				of.role, of.owner = s.role, s.owner
				o.who(&of, e, v.tainted)
			}
			return told
		}) && !o.nested(f) {
			o.errorf(f, "shown where there is nothing to show: %+v", *e)
		}
	}
	for _, s := range f.settled {
		if v := o.view(s.sock); v.waiting != 0 && v.state == s.state && !v.tainted && !o.garbage &&
			!o.hidden(&firing{sock: s.sock}) && s.sport == o.set.LocalPort && o.set.MinDuration == 0 && f.time > v.waiting && !f.before && !f.ringFull {
			o.errorf(f, "socket %d has got port %d, and its first transition is not shown", s.sock.slot, s.sport)
		}
	}
}

// existingSock checks a visit of the iterator, which dates a state that no hook has seen.
func (o *oracle) existingSock(f *firing, events []event) {
	o.none(f, events)
	v := o.view(f.sock)
	o.full = o.full || o.out.results[f.op].FailedStorage > 0
	if o.out.results[f.op].FailedStorage > 0 && v.state == 0 {
		v.tainted = true
	} else if f.from == closed { // a closed socket has no record
	} else if v.since == 0 && !v.mistaken {
		v.state, v.since, v.precision, v.life = f.from, f.time, atLeast, f.life
	}
	if o.out.results[f.op].FailedUpdates > 0 {
		v.tainted = true
	}
}
