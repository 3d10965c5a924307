package jsonl

import (
	"cmp"
	"fmt"
	"slices"

	"finwait/tracer"

	"github.com/rs/zerolog"
)

// A Tally counts transitions by kind, and those to CLOSED by reason.
type Tally struct {
	edges [tracer.NewSynRecv + 1][tracer.NewSynRecv + 1]uint64
	ends  [32][32]uint64 // by reason and detail
}

// Add counts a transition. It allocates nothing.
func (t *Tally) Add(tr *tracer.Transition) {
	if int(tr.From) < len(t.edges) && int(tr.To) < len(t.edges) {
		t.edges[tr.From][tr.To]++
	}
	if tr.To == tracer.Closed && int(tr.Reason) < len(t.ends) && int(tr.Detail) < len(t.ends) {
		t.ends[tr.Reason][tr.Detail]++
	}
}

// A Counted is a kind of transition, or a reason, and how often it was.
type Counted struct {
	From, To tracer.State
	Reason   tracer.Reason
	Detail   tracer.Detail
	Count    uint64
}

// Edges are the kinds of transitions, the most frequent first.
func (t *Tally) Edges() (all []Counted) {
	for from, list := range t.edges {
		for to, n := range list {
			if n > 0 {
				all = append(all, Counted{From: tracer.State(from), To: tracer.State(to), Count: n})
			}
		}
	}
	return sorted(all)
}

// Ends are the reasons for which sockets were closed, the most frequent first.
func (t *Tally) Ends() (all []Counted) {
	for reason, list := range t.ends {
		for detail, n := range list {
			if n > 0 {
				all = append(all, Counted{Reason: tracer.Reason(reason), Detail: tracer.Detail(detail), Count: n})
			}
		}
	}
	return sorted(all)
}

func sorted(all []Counted) []Counted {
	slices.SortStableFunc(all, func(a, b Counted) int { return cmp.Compare(b.Count, a.Count) })
	return all
}

// String is what people read: "closed 12" or "FIN_WAIT_2 -> TIME_WAIT 12".
func (c *Counted) String() string {
	switch {
	case c.From != c.To:
		return fmt.Sprintf("%v -> %v %d", c.From, c.To, c.Count)
	case c.Detail != tracer.DetailNone:
		return fmt.Sprintf("%v %v %d", c.Reason, c.Detail, c.Count)
	}
	return fmt.Sprintf("%v %d", c.Reason, c.Count)
}

// add adds the tally to a summary.
func (t *Tally) add(e *zerolog.Event) {
	edges, ends := zerolog.Arr(), zerolog.Arr()
	for _, c := range t.Edges() {
		edges.Dict(zerolog.Dict().Stringer("from", c.From).Stringer("to", c.To).Uint64("count", c.Count))
	}
	for _, c := range t.Ends() {
		ends.Dict(zerolog.Dict().Stringer("reason", c.Reason).Stringer("detail", c.Detail).Uint64("count", c.Count))
	}
	e.Array("transitions", edges).Array("ends", ends)
}
