package sockets

import (
	"io"

	"finwait/internal/jsonl"
	"finwait/internal/sockdiag"
	"finwait/tracer"
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
	j.w.Holder(e, "owner", &r.Owner)
	jsonl.Known(e, "uid", r.UIDKnown, uint64(r.UID))
	jsonl.Known(e, "cgroup_id", r.CgroupID != 0, r.CgroupID)
	ticking := r.Timer != sockdiag.NoTimer
	if ticking {
		e.Str("timer", r.Timer.String())
	} else {
		jsonl.Null(e, "timer")
	}
	jsonl.Known(e, "timer_left_ms", ticking, uint64(r.TimerLeft.Milliseconds()))
	age, known := r.Age()
	jsonl.Known(e, "age_ms", known, uint64(age.Milliseconds()))
	precision := tracer.PrecisionUnknown
	if known {
		precision = tracer.PrecisionAtLeast
	}
	e.Str("precision", precision.String())
	if orphan, ok := r.Orphan(); ok {
		e.Bool("orphan", orphan)
	} else {
		jsonl.Null(e, "orphan")
	}
	e.Send()
	return j.w.Err()
}
