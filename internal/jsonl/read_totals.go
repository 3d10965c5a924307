package jsonl

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"finwait/tracer"
)

type edgeIn struct {
	From, To must[state]
	Count    must[uint64]
}

type endIn struct {
	State  must[state]
	Reason must[tracer.Reason]
	Detail must[tracer.Detail]
	Count  must[uint64]
}

type roleIn struct {
	Role  must[tracer.Role]
	Edges must[[]edgeIn]
	Ends  must[[]endIn] // without details
}

type bucketIn struct {
	From  must[uint64] `json:"from_ns"`
	To    must[uint64] `json:"to_ns"`
	Count must[uint64]
}

type durationsIn struct {
	State   must[state]
	Role    must[tracer.Role]
	Total   must[int64] `json:"total_ns"`
	Max     must[int64] `json:"max_ns"`
	Buckets must[[]bucketIn]
}

func readTotals(line []byte) (*tracer.Totals, error) {
	var in struct {
		Live       must[map[state]must[int64]]
		Edges      must[[]edgeIn]
		Ends       must[[]endIn]
		Roles      must[[]roleIn]
		Durations  must[[]durationsIn]
		Handshakes must[durationsIn]
		Sessions   must[[]durationsIn]
		Rearms     must[uint64]
		Ungrouped  must[uint64]
		Gone       must[map[state]must[uint64]]
	}
	if err := json.Unmarshal(line, &in); err != nil {
		return nil, err
	}
	if err := missing([]field{{"live", &in.Live}, {"edges", &in.Edges}, {"ends", &in.Ends}, {"roles", &in.Roles}, {"durations", &in.Durations},
		{"handshakes", &in.Handshakes}, {"sessions", &in.Sessions},
		{"rearms", &in.Rearms}, {"ungrouped", &in.Ungrouped}, {"gone", &in.Gone}}); err != nil {
		return nil, err
	}
	t := &tracer.Totals{Rearms: in.Rearms.value, Ungrouped: in.Ungrouped.value}
	for s, n := range in.Live.value {
		if !n.set {
			return nil, fmt.Errorf("no number of sockets in %v", s)
		}
		t.Live[s.State] = n.value
	}
	for s, n := range in.Gone.value {
		if !n.set {
			return nil, fmt.Errorf("no number of sockets that are gone in %v", s)
		}
		t.Gone[s.State] = n.value
	}
	for _, e := range in.Edges.value {
		if err := readEdge(&t.Edges, &e); err != nil {
			return nil, err
		}
	}
	ended := make(map[tracer.Ending]bool)
	for _, e := range in.Ends.value {
		if err := missing([]field{{"state", &e.State}, {"reason", &e.Reason}, {"detail", &e.Detail}, {"count", &e.Count}}); err != nil {
			return nil, fmt.Errorf("an end has %w", err)
		}
		s, r, d, n := e.State.value.State, e.Reason.value, e.Detail.value, e.Count.value
		end := tracer.Ending{State: s, Reason: r, Detail: d}
		switch {
		case ended[end]:
			return nil, fmt.Errorf("end of %v: twice", s)
		case d != tracer.DetailNone && d.Reason() != r:
			return nil, fmt.Errorf("end of %v: detail %q is one of reason %q", s, d, d.Reason())
		}
		ended[end] = true
		t.Ends[s][r] += n
		if d != tracer.DetailNone {
			t.Details[s][d] = n
		}
	}
	for _, role := range in.Roles.value {
		if err := readRole(t, &role); err != nil {
			return nil, err
		}
	}
	return t, readAllDurations(t, in.Durations.value, in.Sessions.value, &in.Handshakes.value)
}

func readAllDurations(t *tracer.Totals, states, sessions []durationsIn, handshakes *durationsIn) error {
	for _, d := range states {
		if err := missing([]field{{"state", &d.State}}); err != nil {
			return fmt.Errorf("durations have %w", err)
		}
		if err := readDurations(&t.Durations[d.State.value.State], &d); err != nil {
			return fmt.Errorf("durations of %v: %w", d.State.value, err)
		}
	}
	for _, d := range sessions {
		if err := missing([]field{{"role", &d.Role}}); err != nil {
			return fmt.Errorf("sessions have %w", err)
		}
		if err := readDurations(&t.Sessions[d.Role.value], &d); err != nil {
			return fmt.Errorf("sessions of role %v: %w", d.Role.value, err)
		}
	}
	if err := readDurations(&t.Handshakes, handshakes); err != nil {
		return fmt.Errorf("handshakes: %w", err)
	}
	return nil
}

func readDurations(to *tracer.Durations, d *durationsIn) error {
	if err := missing([]field{{"total_ns", &d.Total}, {"max_ns", &d.Max}, {"buckets", &d.Buckets}}); err != nil {
		return err
	}
	if *to != (tracer.Durations{}) {
		return errors.New("twice")
	}
	to.Total, to.Max = time.Duration(d.Total.value), time.Duration(d.Max.value)
	for _, b := range d.Buckets.value {
		if err := missing([]field{{"from_ns", &b.From}, {"to_ns", &b.To}, {"count", &b.Count}}); err != nil {
			return fmt.Errorf("a bucket has %w", err)
		}
		if b.From.value > math.MaxInt64 {
			return fmt.Errorf("a bucket from %d ns", b.From.value)
		}
		high := time.Duration(min(b.To.value, math.MaxInt64))
		if err := to.AddBucket(tracer.Bucket{Low: time.Duration(b.From.value), High: high, Count: b.Count.value}); err != nil {
			return err
		}
	}
	return nil
}

func readRole(t *tracer.Totals, in *roleIn) error {
	if err := missing([]field{{"role", &in.Role}, {"edges", &in.Edges}, {"ends", &in.Ends}}); err != nil {
		return fmt.Errorf("the totals of a role have %w", err)
	}
	of := &t.Roles[in.Role.value]
	for _, e := range in.Edges.value {
		if err := readEdge(&of.Edges, &e); err != nil {
			return fmt.Errorf("role %v: %w", in.Role.value, err)
		}
	}
	for _, e := range in.Ends.value {
		if err := missing([]field{{"state", &e.State}, {"reason", &e.Reason}, {"count", &e.Count}}); err != nil {
			return fmt.Errorf("role %v: an end has %w", in.Role.value, err)
		}
		if err := put(&of.Ends[e.State.value.State][e.Reason.value], e.Count.value); err != nil {
			return fmt.Errorf("role %v: end of %v: %w", in.Role.value, e.State.value, err)
		}
	}
	return nil
}

func readEdge(to *edgeCounts, e *edgeIn) error {
	if err := missing([]field{{"from", &e.From}, {"to", &e.To}, {"count", &e.Count}}); err != nil {
		return fmt.Errorf("an edge has %w", err)
	}
	if err := put(&to[e.From.value.State][e.To.value.State], e.Count.value); err != nil {
		return fmt.Errorf("edge %v to %v: %w", e.From.value, e.To.value, err)
	}
	return nil
}

// put sets a count that has not been set.
func put(to *uint64, n uint64) error {
	if *to != 0 {
		return errors.New("twice")
	}
	*to = n
	return nil
}
