// Package meter turns totals that only grow into reports of what happened in a
// span of time, and writes those as tables or JSON.
package meter

import (
	"cmp"
	"maps"
	"runtime"
	"slices"
	"time"

	"finwait/internal/audit"
	"finwait/internal/source"
	"finwait/tracer"
)

// A Meter reports what happened between moments.
type Meter struct {
	source   source.Source
	options  Options
	first    *moment
	last     *moment
	snapshot *audit.Snapshot // at the first
}

// Options say what a Meter reports beside the totals.
type Options struct {
	By  tracer.Split // also the groups of this split, which the source must keep
	Top int          // of the groups, the busiest so many; the others are summed
	// Names, with SplitCgroup, puts groups together by a name of their cgroup.
	Names *CgroupNames
	// Command: the source has only what a command and its descendants do.
	Command bool
	// Audit reads the kernel's counters; nil: no audit.
	Audit func() (*audit.Snapshot, error)
	// Segments reads what was counted of RSTs and handshakes; nil: nobody asked for them.
	Segments func() ([]tracer.SegmentCount, error)
}

// A moment is all that was counted until then.
type moment struct {
	mono   time.Duration
	wall   time.Time
	stats  tracer.Stats
	totals *tracer.Totals
	groups map[string]*tracer.Group
}

// Start takes the first moment.
func Start(s source.Source, o Options) (*Meter, error) {
	m := &Meter{source: s, options: o}
	var err error
	if o.Audit != nil {
		if m.snapshot, err = o.Audit(); err != nil {
			return nil, err
		}
	}
	m.first, err = m.now()
	m.last = m.first
	return m, err
}

func (m *Meter) now() (*moment, error) {
	now := new(moment)
	now.mono, now.wall = m.source.Now()
	var err error
	if now.stats, err = m.source.Stats(); err != nil {
		return nil, err
	}
	if now.totals, err = m.source.Totals(); err != nil {
		return nil, err
	}
	if m.options.By != tracer.SplitNone {
		now.groups, err = m.source.Groups()
	}
	if m.options.Names != nil {
		now.groups = m.options.Names.join(now.groups)
	}
	return now, err
}

// Interval reports what happened since the last report, or since Start.
func (m *Meter) Interval() (*Report, error) {
	now, err := m.now()
	if err != nil {
		return nil, err
	}
	r := m.between(m.last, now)
	m.last = now
	return r, nil
}

// Step reports what happened since the last report, and what happened since Start, both until
// one moment. The whole has no groups.
func (m *Meter) Step() (rest, whole *Report, err error) {
	now, err := m.now()
	if err != nil {
		return nil, nil, err
	}
	rest, whole = m.between(m.last, now), m.difference(m.first, now)
	m.last = now
	return rest, whole, nil
}

// Finish reports the same. The whole has the groups and the audit.
func (m *Meter) Finish() (rest, whole *Report, err error) {
	now, err := m.now()
	if err != nil {
		return nil, nil, err
	}
	rest, whole = m.between(m.last, now), m.between(m.first, now)
	if m.options.Audit != nil {
		snapshot, err := m.options.Audit()
		if err != nil {
			return nil, nil, err
		}
		whole.Audit = audit.Compare(m.snapshot, snapshot, runtime.NumCPU())
	}
	if m.options.Segments != nil {
		if whole.Segments, err = m.options.Segments(); err != nil {
			return nil, nil, err
		}
		whole.Segmented, whole.Uncounted = true, now.stats.Segments.Uncounted
	}
	return rest, whole, nil
}

func (m *Meter) between(before, now *moment) *Report {
	r := m.difference(before, now)
	r.Split(before.groups, now.groups, m.options.Top)
	return r
}

// difference is without the groups.
func (m *Meter) difference(before, now *moment) *Report {
	totals := *now.totals
	totals.Sub(before.totals)
	return &Report{
		At: now.wall, Span: now.mono - before.mono, Totals: &totals, By: m.options.By, ByWord: m.options.word(), Command: m.options.Command,
		Seen: now.stats.Seen - min(before.stats.Seen, now.stats.Seen), Lost: now.stats.Lost.Sub(before.stats.Lost), Hooks: m.source.Hooks(),
	}
}

// A Report is what happened in a span of time.
type Report struct {
	At      time.Time // the end of the span
	Span    time.Duration
	Totals  *tracer.Totals
	Command bool // only of a command and its descendants
	By      tracer.Split
	ByWord  string          // what the groups are called by
	Groups  []*tracer.Group // the busiest first
	Rest    *tracer.Group   // the sum of the others; nil: there are none
	Others  int             // how many they are
	Seen    uint64          // transitions of the host; the filters let Totals have less
	Lost    tracer.Lost
	Hooks   tracer.HookSet
	Audit   []audit.Row // nil: there is none

	// RSTs and handshakes, of the whole run.
	Segmented bool // they were asked for
	Segments  []tracer.SegmentCount
	Uncounted uint64 // there was no room for these
}

// LifeOrder is the order in which a connection passes through the states.
func LifeOrder() []tracer.State {
	return []tracer.State{
		tracer.Listen, tracer.SynSent, tracer.SynRecv, tracer.Established, tracer.FinWait1, tracer.FinWait2,
		tracer.Closing, tracer.TimeWait, tracer.CloseWait, tracer.LastAck,
	}
}

// An Edge is a kind of transition and how often it was made.
type Edge struct {
	From, To tracer.State
	Count    uint64
}

// Edges are the kinds of transitions that were made, by state.
func (r *Report) Edges() (all []Edge) {
	for _, from := range tracer.States() {
		for _, to := range tracer.States() {
			if n := r.Totals.Edges[from][to]; n > 0 {
				all = append(all, Edge{from, to, n})
			}
		}
	}
	return all
}

// A Failure is a reason for which connects failed, or connections ended, and how often.
type Failure struct {
	Reason tracer.Reason
	Count  uint64
}

// Failures are the reasons for which connects failed, the most frequent first.
func (r *Report) Failures() (all []Failure) {
	for reason, n := range r.Totals.Ends[tracer.SynSent] {
		if n > 0 {
			all = append(all, Failure{tracer.Reason(reason), n})
		}
	}
	slices.SortStableFunc(all, func(a, b Failure) int { return cmp.Compare(b.Count, a.Count) })
	return all
}

// Resets is how many connections the peer reset.
func (r *Report) Resets() (n uint64) {
	for _, from := range tracer.States() {
		if from != tracer.SynSent {
			n += r.Totals.Ends[from][tracer.ReasonReset]
		}
	}
	return n
}

// Disagreements is how many counters differ from the kernel's for no known reason.
func (r *Report) Disagreements() (n int) {
	for _, row := range r.Audit {
		if row.Verdict == audit.Disagrees {
			n++
		}
	}
	return n
}

// Split takes the top busiest groups of what happened between two readings, and
// sums the others.
func (r *Report) Split(before, now map[string]*tracer.Group, top int) {
	type busy struct {
		*tracer.Group
		moves uint64
		live  int64
	}
	var groups []busy
	for key, g := range now {
		old, moves, live := before[key], g.Moves(), g.Live()
		if old != nil {
			moves -= old.Moves()
		}
		if moves == 0 && live == 0 {
			continue
		}
		g = clone(g)
		if old != nil {
			g.Sub(old)
		}
		groups = append(groups, busy{g, moves, live})
	}
	slices.SortFunc(groups, func(a, b busy) int {
		return cmp.Or(cmp.Compare(b.moves, a.moves), cmp.Compare(b.live, a.live), cmp.Compare(a.Name, b.Name),
			cmp.Compare(a.NetNSCookie, b.NetNSCookie))
	})
	for _, g := range groups {
		r.Groups = append(r.Groups, g.Group)
	}
	if r.Others = max(0, len(r.Groups)-top); r.Others == 0 {
		return
	}
	r.Rest = &tracer.Group{States: make(map[tracer.State]*tracer.StateTotals), Ends: make(map[tracer.Reason]uint64)}
	for _, g := range r.Groups[top:] {
		r.Rest.Add(g)
	}
	r.Groups = r.Groups[:top]
}

// clone copies a group, from which an earlier reading is to be subtracted.
func clone(g *tracer.Group) *tracer.Group {
	c := &tracer.Group{
		Name: g.Name, NetNSCookie: g.NetNSCookie, States: make(map[tracer.State]*tracer.StateTotals, len(g.States)), Ends: maps.Clone(g.Ends),
	}
	copies := make([]tracer.StateTotals, 0, len(g.States)) // one allocation
	for s, st := range g.States {
		copies = append(copies, *st)
		copied := &copies[len(copies)-1]
		if st.Durations != nil {
			each := *st.Durations
			copied.Durations = &each
		}
		c.States[s] = copied
	}
	return c
}

// EndsOf are the reasons for which sockets of a group have ended, the most frequent first.
func EndsOf(g *tracer.Group) (all []Failure) {
	for reason, n := range g.Ends {
		if n > 0 {
			all = append(all, Failure{reason, n})
		}
	}
	slices.SortFunc(all, func(a, b Failure) int { return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Reason, b.Reason)) })
	return all
}

// UsefulHeld is how long a connection of the group works, and how long it is remembered, on
// average: the time in ESTABLISHED and in TIME_WAIT. ok: some of both were measured.
func UsefulHeld(g *tracer.Group) (useful, held time.Duration, ok bool) {
	est, wait := g.State(tracer.Established), g.State(tracer.TimeWait)
	if est.Timed == 0 || wait.Timed == 0 || est.Spent <= 0 {
		return 0, 0, false
	}
	return est.Spent / time.Duration(est.Timed), wait.Spent / time.Duration(wait.Timed), true
}
