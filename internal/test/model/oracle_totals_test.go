package model

import "slices"

// finally checks the sums at the end of a run.
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
	for m, v := range o.minis {
		if m.twLo != 0 && !v.timeWait {
			o.unshown++
		}
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
	if o.gap != "" && !o.filters() && a.RingFull+a.MapFull+a.Missed+a.UnwindFailed == 0 {
		o.errorf(f, "%s, and nothing is counted as lost", o.gap)
	}
	o.checkTotals(f, a)
	if !o.k.swept {
		return
	}
	// Nothing but last transitions was missed: the sweep finds each of them. It cannot if the
	// minisock of the socket's next life has the same address.
	if o.missed == o.endsMissed && !o.reconnected() && o.noStack == 0 && o.failures == 0 && !o.older() && o.set.Raw == 0 && a.Missed != o.missed {
		o.errorf(f, "%d last transitions were missed, %d are said to be", o.missed, a.Missed)
	}
	if last.Minisocks > 0 {
		o.errorf(f, "%d records of minisocks stay", last.Minisocks)
	}
	if last.Sockets > 0 {
		o.errorf(f, "%d records of sockets stay", last.Sockets)
	}
}

// left reports whether a socket or a minisock still exists.
func (o *oracle) left() bool {
	return slices.ContainsFunc(o.k.socks[:], func(s *sock) bool { return s != nil }) ||
		slices.ContainsFunc(o.k.minis[:], func(m *mini) bool { return m != nil })
}

func (o *oracle) checkTotals(f *firing, a *account) {
	t := &o.out.totals
	if o.set.Raw != 0 || o.set.NoTotals != 0 {
		if *t != (totals{}) {
			o.errorf(f, "there are totals: %+v", *t)
		}
		return
	}
	var edges uint64
	for role := range t.Edges {
		for from := range t.Edges[role] {
			for to, n := range t.Edges[role][from] {
				edges += n
				if got := o.edges[role][from][to]; got > n || got < n && a.RingFull == 0 {
					o.errorf(f, "%d transitions %d -> %d of role %d in the totals, %d shown", n, from, to, role, got)
				}
			}
			for reason, n := range t.Ends[role][from] {
				if got := o.ends[role][from][reason]; got > n || got < n && a.RingFull == 0 {
					o.errorf(f, "%d ends of %d of role %d by %d in the totals, %d shown", n, from, role, reason, got)
				}
			}
		}
	}
	for of, n := range t.Timed {
		if got := o.timed[of]; got > n || got < n && a.RingFull == 0 {
			o.errorf(f, "%d durations of %d in the totals, %d shown", n, of, got)
		}
	}
	for from := range t.Details {
		for detail, n := range t.Details[from] {
			if got := o.details[from][detail]; got > n || got < n && a.RingFull == 0 {
				o.errorf(f, "%d ends of %d with detail %d in the totals, %d shown", n, from, detail, got)
			}
		}
	}
	if edges != a.Delivered+a.RingFull {
		o.errorf(f, "%d transitions in the totals, %d delivered and %d lost for want of room in the ring", edges, a.Delivered, a.RingFull)
	}
	o.checkLive(f)
}

// checkLive checks that, if nothing was missed, the live counts are those of the existing sockets.
func (o *oracle) checkLive(f *firing) {
	quiet := o.exitsMissed == 0 && o.missed == 0 && o.noStack == 0 && o.failures == 0
	var want [16]int64
	for _, s := range o.k.socks {
		if s != nil && s.state != closed && !o.hidden(&firing{sock: s}) {
			want[s.state]++
		}
	}
	for _, m := range o.k.minis {
		switch {
		case m == nil || o.hidden(&firing{mini: m}):
		case m.substate == timeWait:
			want[timeWait]++
		default:
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
	if o.k.hooks == tracepointsNoRxSk { // a FIN may be reported only at the end
		got[finWait2] += got[timeWait]
		want[finWait2] += want[timeWait]
		got[timeWait], want[timeWait] = 0, 0
	}
	if quiet && got != want {
		o.errorf(f, "live %v, there are %v", got, want)
	}
	if o.k.swept && got != ([16]int64{}) {
		o.errorf(f, "live %v, though all are gone", got)
	}
}

// reconnected reports whether a socket had more than one life.
func (o *oracle) reconnected() bool {
	return slices.ContainsFunc(o.k.fired, func(f firing) bool { return f.life > 1 })
}

// older reports whether something happened before the programs were attached.
func (o *oracle) older() bool {
	return slices.ContainsFunc(o.k.fired, func(f firing) bool { return f.before })
}
