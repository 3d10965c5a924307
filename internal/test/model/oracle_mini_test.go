package model

func (o *oracle) mini(f *firing, r *result, events []event) {
	o.count(events)
	m, v := f.mini, o.miniView(f.mini)
	if f.code == opSendReset { // shows no transition
		v.unanswered = v.unanswered || f.missed || f.before
		o.none(f, events)
		return
	}
	if f.born {
		v.sock = *o.view(m.of)
		v.tainted = v.tainted || v.sock.tainted || v.sock.state != m.from
		if o.stale[m.slot] {
			v.tainted, v.sock.mistaken = true, true
		}
	}
	// The minisock ended while the program of __inet_twsk_schedule() was running. That program
	// then takes it for a minisock that it has not seen before.
	if f.end && o.nested(f) && o.k.ops[f.op-1].Code == opTwskSchedule {
		o.exitsMissed++
		o.stale[m.slot] = true
	}
	if f.end && (f.missed || f.noStack) {
		o.stale[m.slot] = true
	}
	if f.missed && f.end && !v.tainted {
		o.endsMissed++
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
	if f.code == opExisting {
		v.visited = true
	}
	for i := range events {
		o.miniEvent(f, v, &events[i])
	}
	if f.end && !f.missed && !f.before && !f.stale {
		o.complete(f, v)
	}
}

// complete checks that all transitions of an ended minisock were reported, unless one was lost.
func (o *oracle) complete(f *firing, v *miniView) {
	if v.tainted || v.lost || o.garbage || o.filters() || o.hidden(f) {
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

// late reports whether at may be given as the start of TIME_WAIT. The segment that began TIME_WAIT
// was not seen: no program was run for it, or it came in the jiffy of the minisock's birth, or its
// program is still running on another CPU. The next segment that arms the timer looks the same
// (docs/limitations.md).
func (o *oracle) late(f *firing, v *miniView, at uint64) bool {
	arms := f.code == opTwskSchedule || f.time-f.armed <= 2*jiffy
	if o.mayBeLate(f, v) && arms && v.lateAt == 0 {
		v.lateAt = at
	}
	return v.lateAt == at
}

// overlap is how much earlier a program may have begun than the action on another CPU that it sees.
func (o *oracle) overlap(v *miniView) uint64 {
	if v.raced {
		return 2 * o.k.tick
	}
	return 0
}

func (o *oracle) mayBeLate(f *firing, v *miniView) bool {
	return v.missed || v.lateAt != 0 || o.nested(f) || o.k.hooks == tracepointsNoRxSk && f.mini.twLo/jiffy <= f.mini.bornAt/jiffy
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
	// Without a record, an RST and a SYN just after the FIN look the same.
	unsure := e.Reason == killed && (f.reason == recycled || f.reason == rstSent) && (v.tainted || !v.visited && e.Role == noRole)
	unsure = unsure || v.unanswered && f.reason == rstSent
	if e.Reason != f.reason && !unsure && !(v.tainted && f.noStack) {
		o.errorf(f, "reason %d, want %d", e.Reason, f.reason)
	}
	if !v.tainted && !unsure && e.Detail != f.detail {
		o.errorf(f, "detail %d, want %d", e.Detail, f.detail)
	}
	most := m.rearms
	if v.visited && v.raced {
		most++ // visited while the timer was armed for TIME_WAIT, which looks like another re-arm
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
	lost := (v.lost || o.filters()) && !v.timeWait // the event with the start of TIME_WAIT was lost, or filtered
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

// began checks the start of a state in an event. The true start is between lo and hi. As far as the
// timer can tell, it is when the timer was armed last.
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
