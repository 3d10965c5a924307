package main

import (
	"cmp"
	"slices"

	"finwait/tracer"
)

// split takes the busiest groups, and sums the others.
func (r *statReport) split(before, now map[string]*tracer.Group, top int) {
	for name, g := range now {
		g = clone(g)
		if old := before[name]; old != nil {
			g.Sub(old)
		}
		if g.Moves() > 0 || g.Live() != 0 {
			r.groups = append(r.groups, g)
		}
	}
	slices.SortFunc(r.groups, func(a, b *tracer.Group) int {
		return cmp.Or(cmp.Compare(b.Moves(), a.Moves()), cmp.Compare(b.Live(), a.Live()), cmp.Compare(a.Name, b.Name))
	})
	if r.others = max(0, len(r.groups)-top); r.others == 0 {
		return
	}
	r.rest = &tracer.Group{States: make(map[tracer.State]*tracer.StateTotals)}
	for _, g := range r.groups[top:] {
		for s, st := range g.States {
			if r.rest.States[s] == nil {
				r.rest.States[s] = new(tracer.StateTotals)
			}
			r.rest.States[s].Add(st)
		}
	}
	r.groups = r.groups[:top]
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
