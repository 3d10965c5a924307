package page

import (
	"cmp"
	"slices"
	"time"

	"finwait/internal/histogram"
	"finwait/internal/jsonl"
	"finwait/internal/meter"
	"finwait/internal/text"
	"finwait/tracer"
)

// maxGroups is how many groups a frame has, at most.
const maxGroups = 20

// A frame is what happened in one interval. What is 0 is left out.
type frame struct {
	Event     string              `json:"event"`
	N         uint64              `json:"n"`
	Time      string              `json:"time"` // the end of the interval
	Span      int64               `json:"span_ns"`
	Live      map[string]int64    `json:"live"`
	Edges     [][3]any            `json:"edges"`      // from, to, count
	Ends      [][4]any            `json:"ends"`       // state, reason, detail, count
	Durations map[string]duration `json:"durations"`  // of states, and of handshakes and sessions
	FirstFINs [][3]any            `json:"first_fins"` // role, how many have sent the first FIN, and received it
	Rearms    uint64              `json:"rearms"`
	Seen      uint64              `json:"seen"`
	Lost      map[string]uint64   `json:"lost"` // by cause; what is 0, too
	Ungrouped uint64              `json:"ungrouped"`
	Groups    []group             `json:"groups,omitempty"`
	Others    *group              `json:"others,omitempty"` // the sum of those that are not in Groups
}

// What has durations beside the states. A role follows that of sessions.
const (
	handshakes = "handshake"
	sessions   = "session "
)

// A duration is how long the sockets stayed in a state that left it.
type duration struct {
	Total   int64       `json:"total_ns"`
	Max     int64       `json:"max_ns"`
	Buckets [][2]uint64 `json:"buckets"` // number of the bucket, as in hello's bounds_ns; count
}

// A group is sockets that have something in common.
type group struct {
	Name     *string          `json:"name"` // null: not known
	Groups   int              `json:"groups,omitempty"`
	Live     map[string]int64 `json:"live"`
	Opened   uint64           `json:"opened"`
	Accepted uint64           `json:"accepted"`
	Closed   uint64           `json:"closed"`
	Moves    uint64           `json:"moves"`
}

func newFrame(r *meter.Report, groups []*tracer.Group, others *tracer.Group, left int) *frame {
	f := &frame{
		Event: "frame", Time: stamp(r.At), Span: int64(r.Span), Edges: [][3]any{}, Ends: [][4]any{}, FirstFINs: [][3]any{},
		Live: make(map[string]int64), Durations: make(map[string]duration), Lost: make(map[string]uint64),
		Rearms: r.Totals.Rearms, Seen: r.Seen, Ungrouped: r.Totals.Ungrouped,
	}
	for _, s := range tracer.States() {
		if n := r.Totals.Live[s]; n != 0 {
			f.Live[s.String()] = n
		}
		if d := &r.Totals.Durations[s]; d.Count() > 0 {
			f.Durations[s.String()] = newDuration(d)
		}
	}
	if d := &r.Totals.Handshakes; d.Count() > 0 {
		f.Durations[handshakes] = newDuration(d)
	}
	for _, role := range tracer.Roles() {
		if d := &r.Totals.Sessions[role]; d.Count() > 0 {
			f.Durations[sessions+role.String()] = newDuration(d)
		}
		if of := &r.Totals.Roles[role]; of.ActiveCloses()+of.PassiveCloses() > 0 {
			f.FirstFINs = append(f.FirstFINs, [3]any{role.String(), of.ActiveCloses(), of.PassiveCloses()})
		}
	}
	for _, e := range r.Edges() {
		f.Edges = append(f.Edges, [3]any{e.From.String(), e.To.String(), e.Count})
	}
	for _, e := range r.Totals.Endings() {
		f.Ends = append(f.Ends, [4]any{e.State.String(), e.Reason.String(), e.Detail.String(), e.Count})
	}
	for cause, n := range r.Lost.All() {
		if cause != tracer.LossRingFull { // there is no stream
			f.Lost[cause.String()] = n
		}
	}
	for _, g := range groups {
		of := newGroup(g)
		if g.Name != "" {
			name := text.Printable(g.Name)
			of.Name = &name
		}
		f.Groups = append(f.Groups, of)
	}
	if others != nil {
		of := newGroup(others)
		of.Groups = left
		f.Others = &of
	}
	return f
}

func newDuration(d *tracer.Durations) duration {
	all := duration{Total: int64(d.Total), Max: int64(d.Max)}
	for b := range d.Buckets() {
		all.Buckets = append(all.Buckets, [2]uint64{uint64(histogram.Index(uint64(b.Low))), b.Count})
	}
	return all
}

func newGroup(g *tracer.Group) group {
	of := group{Live: make(map[string]int64), Opened: g.State(tracer.SynSent).Entered, Accepted: g.State(tracer.SynRecv).Entered, Moves: g.Moves()}
	for s, st := range g.States {
		if st.Live != 0 {
			of.Live[s.String()] = st.Live
		}
	}
	for _, end := range meter.EndsOf(g) {
		of.Closed += end.Count
	}
	return of
}

// bounds are the lower ends of all buckets in ns. The upper end of one is the lower end of the next.
func bounds() []uint64 {
	all := make([]uint64, histogram.Buckets)
	for i := range all {
		all[i], _ = histogram.Bounds(i)
	}
	return all
}

func stamp(t time.Time) string { return t.UTC().Format(jsonl.TimeFormat) }

// A ranking keeps the same groups on the page while they are busy. Without it a list would jump from
// interval to interval.
type ranking map[groupID]float64

type groupID struct {
	name  string
	netns uint64
}

// calm is how much of its score a group keeps from one interval to the next.
const calm = 0.9

// top takes the groups of a report with the most sockets and transitions in the last intervals, and
// sums the others.
func (k *ranking) top(r *meter.Report) (groups []*tracer.Group, others *tracer.Group, left int) {
	scores := make(ranking, len(r.Groups))
	for _, g := range r.Groups {
		id := groupID{g.Name, g.NetNSCookie}
		scores[id] = calm*(*k)[id] + float64(g.Moves()) + float64(g.Live())
	}
	*k = scores
	groups = slices.Clone(r.Groups)
	slices.SortStableFunc(groups, func(a, b *tracer.Group) int {
		return cmp.Compare(scores[groupID{b.Name, b.NetNSCookie}], scores[groupID{a.Name, a.NetNSCookie}])
	})
	if left = r.Others + max(0, len(groups)-maxGroups); left == 0 {
		return groups, nil, 0
	}
	others = &tracer.Group{States: make(map[tracer.State]*tracer.StateTotals), Ends: make(map[tracer.Reason]uint64)}
	if r.Rest != nil {
		others.Add(r.Rest)
	}
	n := min(len(groups), maxGroups)
	for _, g := range groups[n:] {
		others.Add(g)
	}
	return groups[:n], others, left
}
