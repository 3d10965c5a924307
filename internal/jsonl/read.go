package jsonl

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

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

// Read gives the value of one line: a *tracer.Transition, *tracer.Segment,
// *tracer.RawEvent, *Summary or *tracer.Totals, equal to the one that was written. A field that it does not know
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
	case "rst", "handshake":
		value, err = readSegment(line)
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

func readTransition(line []byte) (*tracer.Transition, error) {
	var in struct {
		common
		metrics
		stack
		To        must[state]            `json:"to"`
		Duration  nullable[int64]        `json:"duration_ns"`
		Precision must[tracer.Precision] `json:"precision"`
		Role      nullable[tracer.Role]  `json:"role"`
		Owner     nullable[struct {
			process
			UID      must[uint32] `json:"uid"`
			CgroupID must[uint64] `json:"cgroup_id"`
			Holder   must[bool]   `json:"holder"`
		}] `json:"owner"`
		Closer  nullable[process] `json:"closer"`
		Handler nullable[process] `json:"handler"`
		RSTBy   nullable[struct {
			End     must[tracer.RSTEnd] `json:"end"`
			Process nullable[process]   `json:"process"`
		}] `json:"rst_by"`
		Reason      must[tracer.Reason]    `json:"reason"`
		Detail      must[tracer.Detail]    `json:"detail"`
		Errno       nullable[tracer.Errno] `json:"errno"`
		Retransmits nullable[uint8]        `json:"retransmits"`
		Rearms      must[uint32]           `json:"rearms"`
		Source      must[tracer.Source]    `json:"source"`
		PortByBind  bool                   `json:"port_by_bind"`
	}
	if err := json.Unmarshal(line, &in); err != nil {
		return nil, err
	}
	if err := missing(append(in.fields(), field{"to", &in.To}, field{"duration_ns", &in.Duration}, field{"precision", &in.Precision},
		field{"role", &in.Role}, field{"owner", &in.Owner}, field{"closer", &in.Closer}, field{"handler", &in.Handler},
		field{"rst_by", &in.RSTBy}, field{"reason", &in.Reason},
		field{"detail", &in.Detail}, field{"errno", &in.Errno}, field{"retransmits", &in.Retransmits},
		field{"rearms", &in.Rearms}, field{"source", &in.Source})); err != nil {
		return nil, err
	}
	t := &tracer.Transition{
		Time: in.Time.value.UTC(), Ktime: time.Duration(in.Ktime.value), Cookie: in.Cookie.value,
		NetNS: in.NetNS.value, NetNSCookie: in.NSCookie.value,
		Local: in.local(), Remote: in.remote(), From: in.From.value.State, To: in.To.value.State, Precision: in.Precision.value,
		Reason: in.Reason.value, Detail: in.Detail.value, Rearms: in.Rearms.value, Source: in.Source.value, PortByBind: in.PortByBind,
	}
	if t.Known() != (in.Duration.value != nil) {
		return nil, fmt.Errorf("duration_ns does not go with precision %q", t.Precision)
	}
	if of := t.Detail.Reason(); t.Detail != tracer.DetailNone && of != t.Reason {
		return nil, fmt.Errorf("detail %q is one of reason %q", t.Detail, of)
	}
	if in.Errno.value != nil {
		if t.Errno = *in.Errno.value; t.Errno == 0 {
			return nil, errors.New("no error is null")
		}
	}
	switch n := in.Retransmits.value; {
	case n != nil && (t.Reason.CountsRetransmits() || *n > 0):
		t.Retransmits = *n
	case n != nil || t.Reason.CountsRetransmits():
		return nil, fmt.Errorf("retransmits does not go with reason %q", t.Reason)
	}
	if in.Duration.value != nil {
		t.Duration = time.Duration(*in.Duration.value)
	}
	if in.Role.value != nil {
		if t.Role = *in.Role.value; t.Role == tracer.RoleUnknown {
			return nil, errors.New("a role that is not known is null")
		}
	}
	var err error
	if t.Scope, err = in.scope(); err != nil {
		return nil, err
	}
	if owner := in.Owner.value; owner != nil {
		if t.Owner.Process, err = owner.process.tracer(); err != nil {
			return nil, fmt.Errorf("owner: %w", err)
		}
		if err := missing([]field{{"uid", &owner.UID}, {"cgroup_id", &owner.CgroupID}, {"holder", &owner.Holder}}); err != nil {
			return nil, fmt.Errorf("the owner has %w", err)
		}
		t.Owner.UID, t.Owner.CgroupID, t.Owner.Holder = owner.UID.value, owner.CgroupID.value, owner.Holder.value
	}
	if t.Closer, err = in.Closer.value.tracer(); err != nil {
		return nil, fmt.Errorf("closer: %w", err)
	}
	if t.Handler, err = in.Handler.value.tracer(); err != nil {
		return nil, fmt.Errorf("handler: %w", err)
	}
	if by := in.RSTBy.value; by != nil {
		if err := missing([]field{{"end", &by.End}, {"process", &by.Process}}); err != nil {
			return nil, fmt.Errorf("rst_by has %w", err)
		}
		if t.RSTBy.End = by.End.value; t.RSTBy.End == tracer.RSTEndUnknown {
			return nil, errors.New("a sender that is not known is null")
		}
		if t.RSTBy.Process, err = by.Process.value.tracer(); err != nil {
			return nil, fmt.Errorf("rst_by: %w", err)
		}
	}
	if t.Metrics, err = in.metrics.tracer(); err != nil {
		return nil, err
	}
	if t.Stack, err = in.stack.tracer(); err != nil {
		return nil, err
	}
	return t, nil
}

func readRaw(line []byte) (*tracer.RawEvent, error) {
	var in struct {
		common
		stack
		Hook     must[tracer.Hook] `json:"hook"`
		CPU      must[uint8]       `json:"cpu"`
		Task     nullable[process] `json:"task"`
		To       must[state]       `json:"to"`
		Err      must[uint16]      `json:"err"`
		Minisock *string           `json:"minisock"`
		Left     must[int32]       `json:"timer_left_jiffies"`
	}
	if err := json.Unmarshal(line, &in); err != nil {
		return nil, err
	}
	fields := append(in.fields(), field{"hook", &in.Hook}, field{"cpu", &in.CPU}, field{"task", &in.Task})
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
		Cookie: in.Cookie.value, NetNS: in.NetNS.value, NetNSCookie: in.NSCookie.value, Local: in.local(), Remote: in.remote(), From: in.From.value.State,
	}
	if in.Minisock == nil {
		r.To, r.Err = in.To.value.State, in.Err.value
	} else {
		digits, ok := strings.CutPrefix(*in.Minisock, "0x")
		address, err := strconv.ParseUint(digits, 16, 64)
		if !ok || err != nil || address == 0 {
			return nil, fmt.Errorf("minisock %q is no address", *in.Minisock)
		}
		r.Minisock, r.TimerLeft = address, in.Left.value
	}
	var err error
	if r.Scope, err = in.scope(); err != nil {
		return nil, err
	}
	if r.Task, err = in.Task.value.tracer(); err != nil {
		return nil, fmt.Errorf("task: %w", err)
	}
	if r.Stack, err = in.stack.tracer(); err != nil {
		return nil, err
	}
	return r, nil
}

func readSummary(line []byte) (*Summary, error) {
	var in struct {
		Seen      must[uint64]                 `json:"seen"`
		Filtered  must[uint64]                 `json:"filtered"`
		Delivered must[uint64]                 `json:"delivered"`
		Lost      map[tracer.Loss]must[uint64] `json:"lost"`
		Hooks     must[tracer.HookSet]         `json:"hooks"`
		Segments  json.RawMessage              `json:"segments"`
	}
	if err := json.Unmarshal(line, &in); err != nil {
		return nil, err
	}
	if err := missing([]field{{"seen", &in.Seen}, {"filtered", &in.Filtered}, {"delivered", &in.Delivered}, {"hooks", &in.Hooks}}); err != nil {
		return nil, err
	}
	s := &Summary{Hooks: in.Hooks.value}
	var err error
	if s.Stats.Segments, err = readSegmentAccounts(in.Segments); err != nil {
		return nil, fmt.Errorf("segments: %w", err)
	}
	s.Stats.Seen, s.Stats.Filtered, s.Stats.Delivered = in.Seen.value, in.Filtered.value, in.Delivered.value
	for cause := range s.Stats.Lost.All() {
		n := in.Lost[cause]
		if !n.set {
			return nil, fmt.Errorf("no count of what was lost to %v", cause)
		}
		s.Stats.Lost.Add(cause, n.value)
	}
	return s, nil
}
