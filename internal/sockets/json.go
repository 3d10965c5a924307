package sockets

import (
	"io"

	"finwait/internal/jsonl"
	"finwait/tracer"

	"github.com/rs/zerolog"
)

// JSON writes one object a line.
type JSON struct{ w *jsonl.Writer }

// NewJSON writes to w.
func NewJSON(w io.Writer) *JSON { return &JSON{jsonl.NewWriter(w)} }

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
	word(e, "role", r.Role().String())
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
	word(e, "timer", r.Timer.String())
	jsonl.Known(e, "timer_left_ms", ticking(r), uint64(r.TimerLeft.Milliseconds()))
	again, known := r.Retransmits()
	jsonl.Known(e, "retransmits", known, uint64(again))
	probes, known := r.Probes()
	jsonl.Known(e, "probes", known, uint64(probes))
	age, known := r.Age()
	jsonl.Known(e, "age_ms", known, uint64(age.Milliseconds()))
	jsonl.Known(e, "age_ns", known, uint64(age))
	e.Stringer("precision", precision(known, tracer.PrecisionAtLeast))
	idle, known := r.Idle()
	jsonl.Known(e, "idle_ns", known, uint64(idle))
	e.Stringer("idle_precision", precision(known, tracer.PrecisionJiffy))
	truth(e, "queued", r.Queued)
	truth(e, "orphan", r.Orphan)
	e.Send()
	return j.w.Err()
}

// precision of a duration, if it is known.
func precision(known bool, p tracer.Precision) tracer.Precision {
	if !known {
		return tracer.PrecisionUnknown
	}
	return p
}

// word adds a word; null if it is "".
func word(e *zerolog.Event, key, value string) {
	if value == "" {
		jsonl.Null(e, key)
	} else {
		e.Str(key, value)
	}
}

// truth adds true or false; null if it is not known.
func truth(e *zerolog.Event, key string, of func() (is, known bool)) {
	if is, known := of(); known {
		e.Bool(key, is)
	} else {
		jsonl.Null(e, key)
	}
}
