package sockets

import (
	"io"
	"slices"

	"finwait/internal/jsonl"
	"finwait/tracer"

	"github.com/rs/zerolog"
)

// JSON writes one object a line.
type JSON struct{ w *jsonl.Writer }

// NewJSON writes to w, with names if there are some.
func NewJSON(w io.Writer, names *Names) *JSON {
	out := jsonl.NewWriter(w)
	out.Names = names.Label
	return &JSON{out}
}

// Reading writes when what follows was read.
func (j *JSON) Reading(r *Reading) error {
	j.w.Event().Str("time", r.Time.UTC().Format(jsonl.TimeFormat)).Str("event", "ls").Bool("programs", r.Programs).Send()
	return j.w.Err()
}

// Count writes how many sockets are in a state.
func (j *JSON) Count(c *StateCount) error {
	e := j.w.Event().Stringer("state", c.State)
	jsonl.Known(e, "live", c.Known, c.Count)
	if c.Owners {
		e.Uint64("owner_unknown", c.Unsure)
	}
	e.Send()
	return j.w.Err()
}

// Socket writes a socket.
func (j *JSON) Socket(r *Row) error {
	e := j.w.Event().Uint32("netns", r.NetNS).Uint64("cookie", r.Cookie)
	j.w.Endpoints(e, r.Local, r.Remote, r.Scope)
	e.Stringer("state", r.TCPState())
	jsonl.Word(e, "role", r.Role().String())
	j.w.Holder(e, "owner", &r.Owner)
	jsonl.Known(e, "fd", r.Owner.PID != 0, uint64(r.FD))
	jsonl.Known(e, "inode", r.Inode != 0, r.Inode)
	jsonl.Known(e, "uid", r.UIDKnown, uint64(r.UID))
	jsonl.Known(e, "cgroup_id", r.CgroupID != 0, r.CgroupID)
	recv, send, known := r.Queues()
	listens := r.Role() == tracer.RoleListener
	jsonl.Known(e, "recv_q", known && !listens, uint64(recv))
	jsonl.Known(e, "send_q", known && !listens, uint64(send))
	jsonl.Known(e, "accept_queue", listens, uint64(recv))
	jsonl.Known(e, "accept_queue_max", listens, uint64(send))
	jsonl.Word(e, "timer", r.Timer.String())
	jsonl.Known(e, "timer_left_ms", ticking(r), uint64(r.TimerLeft.Milliseconds()))
	again, known := r.Retransmits()
	jsonl.Known(e, "retransmits", known, uint64(again))
	probes, known := r.Probes()
	jsonl.Known(e, "probes", known, uint64(probes))
	age, exact := r.Age()
	known = exact != tracer.PrecisionUnknown
	jsonl.Known(e, "age_ms", known, uint64(age.Milliseconds()))
	jsonl.Known(e, "age_ns", known, uint64(age))
	e.Stringer("precision", exact)
	idle, known := r.Idle()
	jsonl.Known(e, "idle_ns", known, uint64(idle))
	e.Stringer("idle_precision", precision(known, tracer.PrecisionJiffy))
	truth(e, "queued", r.Queued)
	truth(e, "orphan", r.Orphan)
	j.w.AddNames(e, r.CgroupID, r.NetNS, r.netNSCookie)
	e.Send()
	return j.w.Err()
}

// Groups writes an object for each group, then for the sum of those that are not shown, then for
// what nothing is known of.
func (j *JSON) Groups(t *Table) error {
	for _, g := range t.Groups {
		j.group(t, g, "ls_group", 0)
	}
	if t.Others != nil {
		j.group(t, t.Others, "ls_others", t.Left)
	}
	if t.Unknown != nil {
		j.group(t, t.Unknown, "ls_group", 0)
	}
	return j.w.Err()
}

func (j *JSON) group(t *Table, g *Group, event string, groups int) {
	e := j.w.Event().Str("event", event)
	for i, by := range t.By {
		prefix := [2]string{"", "then_"}[i]
		e.Str(prefix+"by", by)
		if g.values == nil {
			continue
		}
		v := &g.values[i]
		if v.known {
			jsonl.Name(e, prefix+"name", []byte(t.name(i, v)))
		} else {
			jsonl.Null(e, prefix+"name")
		}
		switch by {
		case "netns":
			jsonl.Known(e, "netns_cookie", v.cookie != 0, v.cookie)
			if j.w.Names != nil {
				jsonl.Word(e, "netns_name", j.w.Names.NetNS(v.netns, v.cookie))
			}
		case "pid":
			switch {
			case slices.Contains(t.By, "comm"): // it is a name already
			case v.known:
				jsonl.Name(e, "comm", v.comm.Bytes())
			default:
				jsonl.Null(e, "comm")
			}
		case "cgroup":
			jsonl.Known(e, "cgroup_id", v.known, v.number)
		case destination:
			j.destination(e, v, g.Ports)
		}
	}
	if g.values == nil {
		e.Int("groups", groups)
	}
	states := zerolog.Dict()
	for _, s := range groupStates() {
		if n := g.States[s]; n > 0 {
			states.Uint64(s.String(), n)
		}
	}
	e.Uint64("sockets", g.Sockets).Dict("states", states)
	jsonl.Known(e, "oldest_ns", g.Aged(), uint64(g.Oldest))
	e.Stringer("precision", g.Precision()).Send()
}

func (j *JSON) destination(e *zerolog.Event, v *value, p *Ports) {
	jsonl.Known(e, "netns", v.known, uint64(v.netns))
	if v.known {
		e.Str("local_addr", v.local.String())
	} else {
		jsonl.Null(e, "local_addr")
	}
	known := p != nil
	if !known {
		p = new(Ports)
	}
	jsonl.Known(e, "ports_used", known, uint64(p.Used))
	jsonl.Known(e, "ports_usable", known, uint64(p.Usable))
	jsonl.Known(e, "held_by_bind", p.HeldKnown, uint64(p.Held))
}

// precision of a duration, if it is known.
func precision(known bool, p tracer.Precision) tracer.Precision {
	if !known {
		return tracer.PrecisionUnknown
	}
	return p
}

// truth adds true or false; null if it is not known.
func truth(e *zerolog.Event, key string, of func() (is, known bool)) {
	if is, known := of(); known {
		e.Bool(key, is)
	} else {
		jsonl.Null(e, key)
	}
}
