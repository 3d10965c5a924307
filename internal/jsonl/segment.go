package jsonl

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"finwait/tracer"

	"github.com/rs/zerolog"
)

// Segment writes an RST or a handshake that waits.
func (w *Writer) Segment(s *tracer.Segment) error {
	w.scratch = w.appendTime(w.scratch[:0], s.Time)
	e := w.Event().Bytes("time", w.scratch).Int64("ktime_ns", int64(s.Ktime))
	if s.Kind == tracer.SegmentSYNACKAgain {
		e.Str("event", "handshake")
	} else {
		e.Str("event", "rst")
	}
	e.Uint32("netns", s.NetNS).Uint64("netns_cookie", s.NetNSCookie)
	w.Endpoints(e, s.Local, s.Remote, s.Scope)
	switch s.Kind {
	case tracer.SegmentRSTSent:
		rstReason(e.Str("direction", "sent"), s.Reason)
	case tracer.SegmentRSTReceived:
		Null(e.Str("direction", "received").Uint64("cookie", s.Cookie), "reason")
	default:
		e.Uint8("retransmits", s.Retransmits)
	}
	e.Send()
	return w.Err()
}

func rstReason(e *zerolog.Event, word string) {
	if word == "" {
		Null(e, "reason")
	} else {
		e.Str("reason", word)
	}
}

// SegmentCount makes an object of a count: as a Segment, with one port and the peer's address.
func SegmentCount(c *tracer.SegmentCount) *zerolog.Event {
	d := zerolog.Dict()
	switch c.Kind {
	case tracer.SegmentRSTSent:
		rstReason(d.Str("event", "rst").Str("direction", "sent"), c.Reason)
	case tracer.SegmentRSTReceived:
		d.Str("event", "rst").Str("direction", "received")
	default:
		d.Str("event", "handshake")
	}
	Known(d, "local_port", c.Local != 0, uint64(c.Local)).Str("remote_addr", c.Remote.Addr().String())
	return Known(d, "remote_port", c.Remote.Port() != 0, uint64(c.Remote.Port())).Uint64("count", c.Count)
}

// endSegments adds where the segments went, if somebody asked for any.
func endSegments(e *zerolog.Event, s tracer.SegmentAccounts) {
	if s.Seen > 0 {
		e.Dict("segments", zerolog.Dict().Uint64("seen", s.Seen).Uint64("filtered", s.Filtered).
			Uint64("delivered", s.Delivered).Uint64("limited", s.Limited).Uint64("ring_full", s.RingFull))
	}
}

func readSegment(line []byte) (*tracer.Segment, error) {
	var in struct {
		Event string `json:"event"`
		ends
		Direction   string           `json:"direction"`
		Reason      nullable[string] `json:"reason"`
		Cookie      must[uint64]     `json:"cookie"`
		Retransmits must[uint8]      `json:"retransmits"`
	}
	if err := json.Unmarshal(line, &in); err != nil {
		return nil, err
	}
	s := &tracer.Segment{Kind: tracer.SegmentSYNACKAgain}
	fields := in.fields()
	switch {
	case in.Event == "handshake":
		fields = append(fields, field{"retransmits", &in.Retransmits})
	case in.Direction == "sent":
		s.Kind, fields = tracer.SegmentRSTSent, append(fields, field{"reason", &in.Reason})
	case in.Direction == "received":
		s.Kind, fields = tracer.SegmentRSTReceived, append(fields, field{"reason", &in.Reason}, field{"cookie", &in.Cookie})
	default:
		return nil, fmt.Errorf("direction %q is neither sent nor received", in.Direction)
	}
	if err := missing(fields); err != nil {
		return nil, err
	}
	s.Time, s.Ktime, s.NetNS, s.NetNSCookie = in.Time.value.UTC(), time.Duration(in.Ktime.value), in.NetNS.value, in.NSCookie.value
	s.Local, s.Remote = in.local(), in.remote()
	s.Cookie, s.Retransmits = in.Cookie.value, in.Retransmits.value
	if in.Reason.value != nil {
		if s.Reason = *in.Reason.value; s.Reason == "" {
			return nil, errors.New("a reason that is not known is null")
		}
	}
	var err error
	s.Scope, err = in.scope()
	return s, err
}

// readSegmentAccounts gives 0 for null: nobody asked for segments.
func readSegmentAccounts(b json.RawMessage) (s tracer.SegmentAccounts, err error) {
	if b == nil {
		return s, nil
	}
	var in struct {
		Seen      must[uint64] `json:"seen"`
		Filtered  must[uint64] `json:"filtered"`
		Delivered must[uint64] `json:"delivered"`
		Limited   must[uint64] `json:"limited"`
		RingFull  must[uint64] `json:"ring_full"`
	}
	if err := json.Unmarshal(b, &in); err != nil {
		return s, err
	}
	err = missing([]field{{"seen", &in.Seen}, {"filtered", &in.Filtered}, {"delivered", &in.Delivered},
		{"limited", &in.Limited}, {"ring_full", &in.RingFull}})
	return tracer.SegmentAccounts{
		Seen: in.Seen.value, Filtered: in.Filtered.value, Delivered: in.Delivered.value, Limited: in.Limited.value, RingFull: in.RingFull.value,
	}, err
}
