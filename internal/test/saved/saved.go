// Package saved has one run of every scenario as the BPF programs reported it:
// the records of the ring buffer, the transitions and raw events that they mean,
// the totals, and what trace and stat print of them. A change that is not meant
// to be seen must print the same bytes.
//
// Values are stored under names and numbers of this package's own, so that a name
// that changes in package tracer does not change the files.
package saved

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"net/netip"
	"path"
	"time"

	"finwait/internal/histogram"
	"finwait/tracer"
)

//go:embed testdata
var files embed.FS

// Dir is where the files are, from the package's directory.
const Dir = "testdata"

// A Run is one run of one scenario.
type Run struct {
	Name  string `json:"name"`
	Hooks string `json:"hooks"`
	Mono  int64  `json:"mono"` // CLOCK_MONOTONIC and the wall clock at one moment, ns
	Wall  int64  `json:"wall"`

	Events      [][]byte     `json:"events"` // records of the ring buffer (struct event of bpf/event.h)
	Transitions []Transition `json:"transitions"`
	RawEvents   [][]byte     `json:"raw_events"` // the same of a tracer with Config.Raw
	Raws        []Raw        `json:"raws"`

	Stats  Stats   `json:"stats"`
	SpanNs int64   `json:"span_ns"`
	Totals Totals  `json:"totals"`
	Groups []Group `json:"groups"` // by port
}

// A Process is a process and its name, of which every byte counts.
type Process struct {
	PID  uint32 `json:"pid"`
	Comm []byte `json:"comm"`
}

// A Transition is a tracer.Transition.
type Transition struct {
	TimeNs    int64          `json:"time_ns"`
	KtimeNs   int64          `json:"ktime_ns"`
	Cookie    uint64         `json:"cookie"`
	NetNS     uint32         `json:"netns"`
	NSCookie  uint64         `json:"netns_cookie"`
	Local     netip.AddrPort `json:"local"`
	Remote    netip.AddrPort `json:"remote"`
	From      uint8          `json:"from"`
	To        uint8          `json:"to"`
	Duration  int64          `json:"duration"`
	Precision uint8          `json:"precision"`
	Role      uint8          `json:"role"`
	Owner     Process        `json:"owner"`
	UID       uint32         `json:"uid"`
	Holder    bool           `json:"holder,omitempty"`
	CgroupID  uint64         `json:"cgroup_id"`
	Closer    Process        `json:"closer"`
	Reason    uint8          `json:"reason"`
	Detail    uint8          `json:"detail,omitempty"`
	Errno     uint16         `json:"errno,omitempty"`
	Again     uint8          `json:"retransmits,omitempty"`
	Rearms    uint32         `json:"rearms"`
	Source    uint8          `json:"source"`
}

// A Raw is a tracer.RawEvent.
type Raw struct {
	TimeNs    int64          `json:"time_ns"`
	KtimeNs   int64          `json:"ktime_ns"`
	Hook      uint8          `json:"hook"`
	CPU       uint8          `json:"cpu"`
	Task      Process        `json:"task"`
	Cookie    uint64         `json:"cookie"`
	NetNS     uint32         `json:"netns"`
	NSCookie  uint64         `json:"netns_cookie"`
	Local     netip.AddrPort `json:"local"`
	Remote    netip.AddrPort `json:"remote"`
	From      uint8          `json:"from"`
	To        uint8          `json:"to"`
	Err       uint16         `json:"err"`
	Minisock  uint64         `json:"minisock"`
	TimerLeft int32          `json:"timer_left"`
}

// Stats are tracer.Stats.
type Stats struct{ Seen, Filtered, Delivered, RingFull, MapFull, Missed, Unwind uint64 }

// A Count is how often something happened: A and B are numbers of states, of a
// state and a reason, or a bucket and 0.
type Count struct {
	A, B int
	N    int64
}

// Durations are tracer.Durations.
type Durations struct {
	State   int     `json:"state"`
	Buckets []Count `json:"buckets"`
	TotalNs int64   `json:"total_ns"`
	MaxNs   int64   `json:"max_ns"`
}

// Totals are tracer.Totals.
type Totals struct {
	Edges     []Count     `json:"edges"`
	Ends      []Count     `json:"ends"`
	Details   []Count     `json:"details"`
	Live      []Count     `json:"live"`
	Durations []Durations `json:"durations"`
	Rearms    uint64      `json:"rearms"`
	Ungrouped uint64      `json:"ungrouped"`
}

// A State is a tracer.StateTotals.
type State struct {
	State     int
	Live      int64
	Entered   uint64
	Left      uint64
	Durations Durations
}

// A Group is a tracer.Group.
type Group struct {
	Name   string
	States []State
}

// All gives every run.
func All() ([]*Run, error) {
	names, err := fs.Glob(files, Dir+"/*.run")
	if err != nil {
		return nil, err
	}
	var all []*Run
	for _, name := range names {
		b, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		r := new(Run)
		if err := json.Unmarshal(b, r); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, r)
	}
	return all, nil
}

// Printed is what a surface (trace.txt, trace.json, raw.txt, raw.json, stat.txt,
// stat.json) printed of the run.
func (r *Run) Printed(surface string) (string, error) {
	b, err := files.ReadFile(path.Join(Dir, r.Name+"."+surface))
	return string(b), err
}

// Clock reads the clocks as they were.
func (r *Run) Clock() (monotonic, wall int64) { return r.Mono, r.Wall }

func (p *Process) tracer() tracer.Process {
	out := tracer.Process{PID: p.PID}
	copy(out.Comm[:], p.Comm)
	return out
}

func fromProcess(p *tracer.Process) Process { return Process{p.PID, p.Comm.Bytes()} }

// Tracer gives the value that was saved.
func (t *Transition) Tracer() tracer.Transition {
	return tracer.Transition{
		Time: time.Unix(0, t.TimeNs).UTC(), Ktime: time.Duration(t.KtimeNs), Cookie: t.Cookie, NetNS: t.NetNS,
		NetNSCookie: t.NSCookie, Local: t.Local, Remote: t.Remote, From: tracer.State(t.From), To: tracer.State(t.To),
		Duration: time.Duration(t.Duration), Precision: tracer.Precision(t.Precision), Role: tracer.Role(t.Role),
		Owner:  tracer.Owner{Process: t.Owner.tracer(), Holder: t.Holder, UID: t.UID, CgroupID: t.CgroupID},
		Closer: t.Closer.tracer(),
		Reason: tracer.Reason(t.Reason), Detail: tracer.Detail(t.Detail), Errno: tracer.Errno(t.Errno), Retransmits: t.Again, Rearms: t.Rearms, Source: tracer.Source(t.Source),
	}
}

// FromTransition saves one.
func FromTransition(t *tracer.Transition) Transition {
	return Transition{
		TimeNs: t.Time.UnixNano(), KtimeNs: int64(t.Ktime), Cookie: t.Cookie, NetNS: t.NetNS, NSCookie: t.NetNSCookie,
		Local: t.Local, Remote: t.Remote, From: uint8(t.From), To: uint8(t.To), Duration: int64(t.Duration), Precision: uint8(t.Precision), Role: uint8(t.Role),
		Owner: fromProcess(&t.Owner.Process), Holder: t.Owner.Holder, UID: t.Owner.UID, CgroupID: t.Owner.CgroupID,
		Closer: fromProcess(&t.Closer), Reason: uint8(t.Reason), Detail: uint8(t.Detail), Errno: uint16(t.Errno), Again: t.Retransmits, Rearms: t.Rearms, Source: uint8(t.Source),
	}
}

// Tracer gives the value that was saved.
func (r *Raw) Tracer() tracer.RawEvent {
	return tracer.RawEvent{
		Time: time.Unix(0, r.TimeNs).UTC(), Ktime: time.Duration(r.KtimeNs), Hook: tracer.Hook(r.Hook), CPU: r.CPU,
		Task: r.Task.tracer(), Cookie: r.Cookie, NetNS: r.NetNS,
		NetNSCookie: r.NSCookie, Local: r.Local, Remote: r.Remote, From: tracer.State(r.From), To: tracer.State(r.To),
		Err: r.Err, Minisock: r.Minisock, TimerLeft: r.TimerLeft,
	}
}

// FromRaw saves one.
func FromRaw(r *tracer.RawEvent) Raw {
	return Raw{
		TimeNs: r.Time.UnixNano(), KtimeNs: int64(r.Ktime), Hook: uint8(r.Hook), CPU: r.CPU, Task: fromProcess(&r.Task),
		Cookie: r.Cookie, NetNS: r.NetNS, NSCookie: r.NetNSCookie, Local: r.Local, Remote: r.Remote, From: uint8(r.From), To: uint8(r.To),
		Err: r.Err, Minisock: r.Minisock, TimerLeft: r.TimerLeft,
	}
}

// Tracer gives the value that was saved.
func (s *Stats) Tracer() tracer.Stats {
	return tracer.Stats{Seen: s.Seen, Filtered: s.Filtered, Delivered: s.Delivered,
		Lost: tracer.Lost{RingFull: s.RingFull, MapFull: s.MapFull, Missed: s.Missed, Unwind: s.Unwind}}
}

// FromStats saves them.
func FromStats(s tracer.Stats) Stats {
	return Stats{Seen: s.Seen, Filtered: s.Filtered, Delivered: s.Delivered,
		RingFull: s.Lost.RingFull, MapFull: s.Lost.MapFull, Missed: s.Lost.Missed, Unwind: s.Lost.Unwind}
}

func (d *Durations) tracer() (out tracer.Durations) {
	for _, c := range d.Buckets {
		low, high := histogram.Bounds(c.A)
		b := tracer.Bucket{Low: time.Duration(low), High: time.Duration(min(high, math.MaxInt64)), Count: uint64(c.N)}
		if err := out.AddBucket(b); err != nil {
			panic(err) // both count in the same buckets
		}
	}
	out.Total, out.Max = time.Duration(d.TotalNs), time.Duration(d.MaxNs)
	return out
}

func fromDurations(state int, d *tracer.Durations) Durations {
	out := Durations{State: state, TotalNs: int64(d.Total), MaxNs: int64(d.Max)}
	for b := range d.Buckets() {
		out.Buckets = append(out.Buckets, Count{histogram.Index(uint64(b.Low)), 0, int64(b.Count)})
	}
	return out
}

// Tracer gives the value that was saved.
func (t *Totals) Tracer() *tracer.Totals {
	out := &tracer.Totals{Rearms: t.Rearms, Ungrouped: t.Ungrouped}
	for _, c := range t.Edges {
		out.Edges[c.A][c.B] = uint64(c.N)
	}
	for _, c := range t.Ends {
		out.Ends[c.A][c.B] = uint64(c.N)
	}
	for _, c := range t.Details {
		out.Details[c.A][c.B] = uint64(c.N)
	}
	for _, c := range t.Live {
		out.Live[c.A] = c.N
	}
	for i := range t.Durations {
		out.Durations[t.Durations[i].State] = t.Durations[i].tracer()
	}
	return out
}

// FromTotals saves them.
func FromTotals(t *tracer.Totals) Totals {
	out := Totals{Rearms: t.Rearms, Ungrouped: t.Ungrouped}
	for a := range t.Edges {
		for b, n := range t.Edges[a] {
			if n != 0 {
				out.Edges = append(out.Edges, Count{a, b, int64(n)})
			}
		}
		for b, n := range t.Ends[a] {
			if n != 0 {
				out.Ends = append(out.Ends, Count{a, b, int64(n)})
			}
		}
		for b, n := range t.Details[a] {
			if n != 0 {
				out.Details = append(out.Details, Count{a, b, int64(n)})
			}
		}
		if t.Live[a] != 0 {
			out.Live = append(out.Live, Count{a, 0, t.Live[a]})
		}
		if d := fromDurations(a, &t.Durations[a]); d.TotalNs != 0 {
			out.Durations = append(out.Durations, d)
		}
	}
	return out
}

// TracerGroups gives the groups that were saved, by name.
func (r *Run) TracerGroups() map[string]*tracer.Group {
	all := make(map[string]*tracer.Group)
	for _, g := range r.Groups {
		out := &tracer.Group{Name: g.Name, States: make(map[tracer.State]*tracer.StateTotals)}
		for _, s := range g.States {
			d := s.Durations.tracer()
			out.States[tracer.State(s.State)] = &tracer.StateTotals{
				Live: s.Live, Entered: s.Entered, Left: s.Left, Timed: d.Count(), Spent: d.Total, Durations: &d,
			}
		}
		all[g.Name] = out
	}
	return all
}

// FromGroup saves one.
func FromGroup(g *tracer.Group) Group {
	out := Group{Name: g.Name}
	for _, s := range tracer.States() {
		if st := g.States[s]; st != nil {
			out.States = append(out.States, State{int(s), st.Live, st.Entered, st.Left, fromDurations(int(s), st.Durations)})
		}
	}
	return out
}
