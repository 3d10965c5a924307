package main

import (
	"cmp"
	"slices"

	"finwait/tracer"
)

// split takes the busiest groups, and what is left of the totals without them.
func (r *statReport) split(before, now map[string]*tracer.Group, top int) {
	if r.by == tracer.NoSplit {
		return
	}
	for name, g := range now {
		g = clone(g)
		if old := before[name]; old != nil {
			g.Sub(old)
		}
		if g.Weight() > 0 {
			r.groups = append(r.groups, g)
		}
	}
	slices.SortFunc(r.groups, func(a, b *tracer.Group) int {
		return cmp.Or(cmp.Compare(b.Weight(), a.Weight()), cmp.Compare(a.Name, b.Name))
	})
	if r.others = max(0, len(r.groups)-top); r.others == 0 && r.totals.Ungrouped == 0 {
		return
	}
	r.groups = r.groups[:len(r.groups)-r.others]
	r.rest = &tracer.Group{States: make(map[tracer.State]*tracer.StateTotals)}
	for _, s := range tracer.States() {
		st := r.totals.State(s)
		for _, g := range r.groups {
			st.Take(g.States[s])
		}
		r.rest.States[s] = &st
	}
}

// clone copies a group, of which later ones are to be subtracted from.
func clone(g *tracer.Group) *tracer.Group {
	c := &tracer.Group{Name: g.Name, States: make(map[tracer.State]*tracer.StateTotals, len(g.States))}
	for s, st := range g.States {
		copied := *st
		c.States[s] = &copied
	}
	return c
}
