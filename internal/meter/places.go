package meter

import (
	"cmp"
	"iter"
	"maps"
	"math"
	"slices"
	"time"

	"finwait/internal/text"
	"finwait/tracer"
)

// OtherPlace is what the groups together are called that have no place of their own.
const OtherPlace = "other"

// When places change hands. A group whose name comes and goes would make new series each time, so
// nothing is hurried.
const (
	placeIdle = 10 * time.Minute // without a socket and a move; then the place is given up
	placeHeld = 10 * time.Minute // at least, before a busier group takes the place
	busier    = 2.0              // times as many moves that group must make
	halfLife  = 5 * time.Minute  // of moves, in that comparison
)

// Places give the busiest groups a place each, and count the others in one place together. The
// counts of a place only grow, and each move of a group is counted in one place: what it did until the
// report before it got its place stays with the others, and what it did there is not added to them
// when it leaves.
// Groups whose names are printed alike are one.
type Places struct {
	limit   int
	places  map[string]*Place
	other   *Place
	waiting map[string]*waiting // groups without a place
	fresh   map[string]*tracer.Group
}

// A Place is what a group did since it has the place.
type Place struct {
	Since time.Time
	Group *tracer.Group // live counts are of now

	load load
}

// waiting is a group among the others.
type waiting struct{ load }

// A load is how busy a group is.
type load struct {
	moves  float64   // of the last minutes; older ones count less
	active time.Time // when it last had a socket or made a move
}

func (l *load) add(r *Report, g *tracer.Group) {
	l.decay(r.Span)
	moves := g.Moves()
	l.moves += float64(moves)
	if moves > 0 || g.Live() != 0 {
		l.active = r.At
	}
}

func (l *load) decay(span time.Duration) {
	l.moves *= math.Exp2(-float64(span) / float64(halfLife))
}

// NewPlaces makes limit places, and the one for the others.
func NewPlaces(limit int, now time.Time) *Places {
	return &Places{
		limit: limit, places: make(map[string]*Place), waiting: make(map[string]*waiting),
		other: newPlace("", now),
	}
}

func newPlace(name string, since time.Time) *Place {
	return &Place{Since: since, Group: &tracer.Group{
		Name: name, States: make(map[tracer.State]*tracer.StateTotals), Ends: make(map[tracer.Reason]uint64),
	}}
}

// Add adds what all groups did since the last report.
func (p *Places) Add(r *Report) {
	p.fresh = make(map[string]*tracer.Group)
	for _, g := range r.Groups {
		name := text.Printable(g.Name)
		if old := p.fresh[name]; old != nil {
			old.Add(g)
		} else {
			p.fresh[name] = g
		}
	}
	p.leave(r)
	p.enter(r)
	p.displace(r)
	for _, place := range p.places {
		place.clearLive()
	}
	p.other.clearLive()
	for name, g := range p.fresh {
		if place := p.places[name]; place != nil {
			place.Group.Add(g)
		} else {
			p.other.Group.Add(g)
		}
	}
}

func (p *Place) clearLive() {
	for _, st := range p.Group.States {
		st.Live = 0
	}
}

// leave takes the places of groups that do nothing any more.
func (p *Places) leave(r *Report) {
	idle := func(name string, l *load) bool {
		if g := p.fresh[name]; g != nil {
			l.add(r, g)
		} else {
			l.decay(r.Span)
		}
		return r.At.Sub(l.active) >= placeIdle
	}
	maps.DeleteFunc(p.places, func(name string, place *Place) bool { return idle(name, &place.load) })
	maps.DeleteFunc(p.waiting, func(name string, w *waiting) bool { return idle(name, &w.load) })
}

// enter gives groups that are new a place, the busiest first, as long as there is one.
func (p *Places) enter(r *Report) {
	var strangers []string
	for name := range p.fresh {
		if p.places[name] == nil {
			strangers = append(strangers, name)
			if p.waiting[name] == nil {
				p.waiting[name] = &waiting{}
				p.waiting[name].add(r, p.fresh[name])
			}
		}
	}
	slices.SortFunc(strangers, func(a, b string) int {
		return cmp.Or(cmp.Compare(p.waiting[b].moves, p.waiting[a].moves), cmp.Compare(a, b))
	})
	for _, name := range strangers {
		// What is not known is no group, so it takes nobody's place. What is called as the others
		// are cannot be told from them.
		if name != OtherPlace && (name == "" || p.Placed() < p.limit) {
			p.give(name, r.At.Add(-r.Span))
		}
	}
}

// give makes a place, which begins with nothing.
func (p *Places) give(name string, since time.Time) {
	place := newPlace(name, since)
	place.load = p.waiting[name].load
	p.places[name] = place
	delete(p.waiting, name)
}

// displace gives the places of the quietest groups to those that are much busier.
func (p *Places) displace(r *Report) {
	for {
		busiest, quietest := "", ""
		for name, w := range p.waiting {
			if name != OtherPlace && (busiest == "" || before(w.moves, p.waiting[busiest].moves, name, busiest)) {
				busiest = name
			}
		}
		for name, place := range p.places {
			if name != "" && r.At.Sub(place.Since) >= placeHeld &&
				(quietest == "" || before(p.places[quietest].load.moves, place.load.moves, name, quietest)) {
				quietest = name
			}
		}
		if busiest == "" || quietest == "" || p.waiting[busiest].moves <= busier*p.places[quietest].load.moves {
			return
		}
		p.waiting[quietest] = &waiting{p.places[quietest].load}
		delete(p.places, quietest)
		p.give(busiest, r.At.Add(-r.Span))
	}
}

// before orders by moves, and equal ones by name.
func before(a, b float64, name, other string) bool { return a > b || a == b && name < other }

// All gives each place by its name: that of the group, OtherPlace, and "" for the groups whose name
// is not known.
func (p *Places) All() iter.Seq2[string, *Place] {
	return func(yield func(string, *Place) bool) {
		for name, place := range p.places {
			if !yield(name, place) {
				return
			}
		}
		yield(OtherPlace, p.other)
	}
}

// Placed is how many groups have a place of their own.
func (p *Places) Placed() int {
	n := len(p.places)
	if p.places[""] != nil {
		n--
	}
	return n
}

// WithoutRoom is how many groups have none.
func (p *Places) WithoutRoom() int { return len(p.waiting) }
