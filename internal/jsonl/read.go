package jsonl

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"finwait/tracer"
)

// A Summary is what End writes.
type Summary struct {
	Stats tracer.Stats
	Hooks tracer.HookSet
}

// An UnknownError is an object that Read does not know: of a later version, or of another surface.
type UnknownError struct{ Event string }

func (e *UnknownError) Error() string {
	return fmt.Sprintf("an object of event %q cannot be read", e.Event)
}

// Read gives the value of one line: a *tracer.Transition, *tracer.RawEvent, *Summary
// or *tracer.Totals, equal to the one that was written. A field that it does not know
// it leaves out. A field that is missing, or null where a value is always known, is
// an error: it would become a 0 that nobody wrote.
func Read(line []byte) (any, error) {
	var kind struct{ Event string }
	if err := json.Unmarshal(line, &kind); err != nil {
		return nil, fmt.Errorf("read JSON: %w", err)
	}
	var (
		value any
		err   error
	)
	switch kind.Event {
	case "transition":
		value, err = readTransition(line)
	case "raw":
		value, err = readRaw(line)
	case "summary":
		value, err = readSummary(line)
	case "totals":
		value, err = readTotals(line)
	default:
		return nil, &UnknownError{kind.Event}
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", kind.Event, err)
	}
	return value, nil
}

// A must is a field that is always there.
type must[T any] struct {
	value T
	set   bool
}

func (m *must[T]) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil // not set
	}
	m.set = true
	return json.Unmarshal(b, &m.value)
}

func (m *must[T]) there() bool { return m.set }

// A field is the name of a must, and whether it is there.
type field struct {
	name string
	must interface{ there() bool }
}

// missing names the first field that is not there.
func missing(fields []field) error {
	for _, f := range fields {
		if !f.must.there() {
			return fmt.Errorf("no %s", f.name)
		}
	}
	return nil
}

// what transitions and raw events have in common.
type common struct {
	Time       must[time.Time]    `json:"time"`
	Ktime      must[int64]        `json:"ktime_ns"`
	Cookie     must[uint64]       `json:"cookie"`
	NetNS      must[uint32]       `json:"netns"`
	LocalAddr  must[netip.Addr]   `json:"local_addr"`
	LocalPort  must[uint16]       `json:"local_port"`
	RemoteAddr must[netip.Addr]   `json:"remote_addr"`
	RemotePort must[uint16]       `json:"remote_port"`
	From       must[tracer.State] `json:"from"`
}

func (c *common) fields() []field {
	return []field{
		{"time", &c.Time}, {"ktime_ns", &c.Ktime}, {"cookie", &c.Cookie}, {"netns", &c.NetNS},
		{"local_addr", &c.LocalAddr}, {"local_port", &c.LocalPort}, {"remote_addr", &c.RemoteAddr}, {"remote_port", &c.RemotePort},
		{"from", &c.From},
	}
}

func (c *common) local() netip.AddrPort {
	return netip.AddrPortFrom(c.LocalAddr.value, c.LocalPort.value)
}

func (c *common) remote() netip.AddrPort {
	return netip.AddrPortFrom(c.RemoteAddr.value, c.RemotePort.value)
}

type process struct {
	PID  must[uint32] `json:"pid"`
	Comm must[string] `json:"comm"`
	Hex  *string      `json:"comm_hex"`
}

// tracer gives the zero value for null.
func (p *process) tracer() (out tracer.Process, err error) {
	if p == nil {
		return out, nil
	}
	if err := missing([]field{{"pid", &p.PID}, {"comm", &p.Comm}}); err != nil {
		return out, fmt.Errorf("a process has %w", err)
	}
	name := []byte(p.Comm.value)
	if p.Hex != nil {
		if name, err = hex.DecodeString(*p.Hex); err != nil {
			return out, fmt.Errorf("comm_hex: %w", err)
		}
		if utf8.Valid(name) {
			return out, fmt.Errorf("comm_hex of a name that is UTF-8: %q", name)
		}
	}
	switch {
	case p.PID.value == 0:
		return out, errors.New("a process has pid 0")
	case len(name) >= len(out.Comm) || strings.ContainsRune(string(name), 0):
		return out, fmt.Errorf("comm %q: the kernel keeps up to %d bytes, none of them 0", name, len(out.Comm)-1)
	}
	out.PID = p.PID.value
	copy(out.Comm[:], name)
	return out, nil
}

func readTransition(line []byte) (*tracer.Transition, error) {
	var in struct {
		common
		To        must[tracer.State]     `json:"to"`
		Duration  *int64                 `json:"duration_ns"`
		Precision must[tracer.Precision] `json:"precision"`
		Role      *tracer.Role           `json:"role"`
		Owner     *struct {
			process
			UID      must[uint32] `json:"uid"`
			CgroupID must[uint64] `json:"cgroup_id"`
		} `json:"owner"`
		Closer *process            `json:"closer"`
		Reason must[tracer.Reason] `json:"reason"`
		Rearms must[uint32]        `json:"rearms"`
		Source must[tracer.Source] `json:"source"`
	}
	if err := json.Unmarshal(line, &in); err != nil {
		return nil, err
	}
	if err := missing(append(in.fields(), field{"to", &in.To}, field{"precision", &in.Precision},
		field{"reason", &in.Reason}, field{"rearms", &in.Rearms}, field{"source", &in.Source})); err != nil {
		return nil, err
	}
	t := &tracer.Transition{
		Time: in.Time.value.UTC(), Ktime: time.Duration(in.Ktime.value), Cookie: in.Cookie.value, NetNS: in.NetNS.value,
		Local: in.local(), Remote: in.remote(), From: in.From.value, To: in.To.value, Precision: in.Precision.value,
		Reason: in.Reason.value, Rearms: in.Rearms.value, Source: in.Source.value,
	}
	if t.Known() != (in.Duration != nil) {
		return nil, fmt.Errorf("duration_ns does not go with precision %q", t.Precision)
	}
	if in.Duration != nil {
		t.Duration = time.Duration(*in.Duration)
	}
	if in.Role != nil {
		if t.Role = *in.Role; t.Role == tracer.RoleUnknown {
			return nil, errors.New("a role that is not known is null")
		}
	}
	var err error
	if in.Owner != nil {
		if t.Owner.Process, err = in.Owner.process.tracer(); err != nil {
			return nil, fmt.Errorf("owner: %w", err)
		}
		if err := missing([]field{{"uid", &in.Owner.UID}, {"cgroup_id", &in.Owner.CgroupID}}); err != nil {
			return nil, fmt.Errorf("the owner has %w", err)
		}
		t.Owner.UID, t.Owner.CgroupID = in.Owner.UID.value, in.Owner.CgroupID.value
	}
	if t.Closer, err = in.Closer.tracer(); err != nil {
		return nil, fmt.Errorf("closer: %w", err)
	}
	return t, nil
}

func readRaw(line []byte) (*tracer.RawEvent, error) {
	var in struct {
		common
		Hook     must[tracer.Hook]  `json:"hook"`
		CPU      must[uint8]        `json:"cpu"`
		Task     *process           `json:"task"`
		To       must[tracer.State] `json:"to"`
		Err      must[uint16]       `json:"err"`
		Minisock *string            `json:"minisock"`
		Left     must[int32]        `json:"timer_left_jiffies"`
	}
	if err := json.Unmarshal(line, &in); err != nil {
		return nil, err
	}
	fields := append(in.fields(), field{"hook", &in.Hook}, field{"cpu", &in.CPU})
	if in.Minisock == nil {
		fields = append(fields, field{"to", &in.To}, field{"err", &in.Err})
	} else {
		fields = append(fields, field{"timer_left_jiffies", &in.Left})
	}
	if err := missing(fields); err != nil {
		return nil, err
	}
	r := &tracer.RawEvent{
		Time: in.Time.value.UTC(), Ktime: time.Duration(in.Ktime.value), Hook: in.Hook.value, CPU: in.CPU.value,
		Cookie: in.Cookie.value, NetNS: in.NetNS.value, Local: in.local(), Remote: in.remote(), From: in.From.value,
	}
	if in.Minisock == nil {
		r.To, r.Err = in.To.value, in.Err.value
	} else {
		digits, ok := strings.CutPrefix(*in.Minisock, "0x")
		addr, err := strconv.ParseUint(digits, 16, 64)
		if !ok || err != nil || addr == 0 {
			return nil, fmt.Errorf("minisock %q is no address", *in.Minisock)
		}
		r.Minisock, r.TimerLeft = addr, in.Left.value
	}
	var err error
	if r.Task, err = in.Task.tracer(); err != nil {
		return nil, fmt.Errorf("task: %w", err)
	}
	return r, nil
}

func readSummary(line []byte) (*Summary, error) {
	var in struct {
		Seen      must[uint64]           `json:"seen"`
		Filtered  must[uint64]           `json:"filtered"`
		Delivered must[uint64]           `json:"delivered"`
		Lost      map[tracer.Loss]uint64 `json:"lost"`
		Hooks     must[tracer.HookSet]   `json:"hooks"`
	}
	if err := json.Unmarshal(line, &in); err != nil {
		return nil, err
	}
	if err := missing([]field{{"seen", &in.Seen}, {"filtered", &in.Filtered}, {"delivered", &in.Delivered}, {"hooks", &in.Hooks}}); err != nil {
		return nil, err
	}
	s := &Summary{Hooks: in.Hooks.value}
	s.Stats.Seen, s.Stats.Filtered, s.Stats.Delivered = in.Seen.value, in.Filtered.value, in.Delivered.value
	for cause := range s.Stats.Lost.All() {
		n, ok := in.Lost[cause]
		if !ok {
			return nil, fmt.Errorf("no count of what was lost to %v", cause)
		}
		s.Stats.Lost.Add(cause, n)
	}
	return s, nil
}

func readTotals(line []byte) (*tracer.Totals, error) {
	type edge struct {
		From, To must[tracer.State]
		Count    must[uint64]
	}
	type end struct {
		State  must[tracer.State]
		Reason must[tracer.Reason]
		Count  must[uint64]
	}
	type bucket struct {
		From  must[uint64] `json:"from_ns"`
		To    must[uint64] `json:"to_ns"`
		Count must[uint64]
	}
	type durations struct {
		State   must[tracer.State]
		Total   must[int64] `json:"total_ns"`
		Max     must[int64] `json:"max_ns"`
		Buckets []bucket
	}
	var in struct {
		Live      map[tracer.State]int64
		Edges     []edge
		Ends      []end
		Durations []durations
		Rearms    must[uint64]
		Ungrouped must[uint64]
	}
	if err := json.Unmarshal(line, &in); err != nil {
		return nil, err
	}
	if err := missing([]field{{"rearms", &in.Rearms}, {"ungrouped", &in.Ungrouped}}); err != nil {
		return nil, err
	}
	t := &tracer.Totals{Rearms: in.Rearms.value, Ungrouped: in.Ungrouped.value}
	for state, n := range in.Live {
		if err := countable(state); err != nil {
			return nil, err
		}
		t.Live[state] = n
	}
	for _, e := range in.Edges {
		if err := errors.Join(missing([]field{{"from", &e.From}, {"to", &e.To}, {"count", &e.Count}}), countable(e.From.value), countable(e.To.value)); err != nil {
			return nil, fmt.Errorf("an edge: %w", err)
		}
		t.Edges[e.From.value][e.To.value] += e.Count.value
	}
	for _, e := range in.Ends {
		if err := errors.Join(missing([]field{{"state", &e.State}, {"reason", &e.Reason}, {"count", &e.Count}}), countable(e.State.value)); err != nil {
			return nil, fmt.Errorf("an end: %w", err)
		}
		t.Ends[e.State.value][e.Reason.value] += e.Count.value
	}
	for _, d := range in.Durations {
		if err := errors.Join(missing([]field{{"state", &d.State}, {"total_ns", &d.Total}, {"max_ns", &d.Max}}), countable(d.State.value)); err != nil {
			return nil, fmt.Errorf("durations: %w", err)
		}
		to := &t.Durations[d.State.value]
		to.Total, to.Max = time.Duration(d.Total.value), time.Duration(d.Max.value)
		for _, b := range d.Buckets {
			if err := missing([]field{{"from_ns", &b.From}, {"to_ns", &b.To}, {"count", &b.Count}}); err != nil {
				return nil, fmt.Errorf("a bucket has %w", err)
			}
			if b.From.value > math.MaxInt64 {
				return nil, fmt.Errorf("a bucket from %d ns", b.From.value)
			}
			high := time.Duration(min(b.To.value, math.MaxInt64))
			if err := to.AddBucket(tracer.Bucket{Low: time.Duration(b.From.value), High: high, Count: b.Count.value}); err != nil {
				return nil, err
			}
		}
	}
	return t, nil
}

// countable refuses what totals have no place for, such as STATE_0.
func countable(s tracer.State) error {
	if s < tracer.Established || s > tracer.NewSynRecv {
		return fmt.Errorf("totals do not count %v", s)
	}
	return nil
}
