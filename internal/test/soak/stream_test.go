//go:build linux

package main

import (
	"fmt"
	"strings"
	"testing"
)

// printed is the output of a trace of one socket. wrong replaces lines by their number;
// "" omits the line.
func printed(wrong map[int]string) string {
	lines := []string{
		`{"event":"transition","cookie":1,"netns":7,"ktime_ns":100,"from":"CLOSED","to":"SYN_SENT","duration_ns":null,"precision":"unknown"}`,
		`{"event":"transition","cookie":1,"netns":7,"ktime_ns":150,"from":"SYN_SENT","to":"ESTABLISHED","duration_ns":50,"precision":"exact"}`,
		`{"event":"transition","cookie":1,"netns":7,"ktime_ns":400,"from":"ESTABLISHED","to":"CLOSED","duration_ns":250,"precision":"exact"}`,
		`{"event":"summary","seen":3,"filtered":0,"delivered":3,"lost":{"ring_full":0,"map_full":0,"missed":0,"unwind":0}}`,
	}
	var b strings.Builder
	for i, l := range lines {
		if w, ok := wrong[i]; ok {
			l = w
		}
		if l != "" {
			b.WriteString(l + "\n")
		}
	}
	return b.String()
}

func TestStreamFaults(t *testing.T) {
	const summary = `{"event":"summary","seen":%d,"filtered":0,"delivered":%d,"lost":{"ring_full":%d,"map_full":0,"missed":0,"unwind":0}}`
	for name, c := range map[string]struct {
		wrong map[int]string
		want  string // "": nothing is wrong
	}{
		"whole":                       {nil, ""},
		"lost and counted":            {map[int]string{1: "", 3: fmt.Sprintf(summary, 3, 2, 1)}, ""},
		"lost and not counted":        {map[int]string{1: "", 3: fmt.Sprintf(summary, 2, 2, 0)}, "missing in 1 places"},
		"printed less than delivered": {map[int]string{2: ""}, "2 transitions were printed"},
		"no identity":                 {map[int]string{3: fmt.Sprintf(summary, 4, 3, 0)}, "seen is not"},
		"no end":                      {map[int]string{3: ""}, "no summary"},
		"not JSON":                    {map[int]string{1: `{"event":`}, "not JSON"},
		"a negative duration": {map[int]string{1: `{"event":"transition","cookie":1,"netns":7,"ktime_ns":150,"from":"SYN_SENT","to":"ESTABLISHED",` +
			`"duration_ns":-50,"precision":"exact"}`}, "impossible"},
		"a wrong duration": {map[int]string{1: `{"event":"transition","cookie":1,"netns":7,"ktime_ns":150,"from":"SYN_SENT","to":"ESTABLISHED",` +
			`"duration_ns":49,"precision":"exact"}`}, "not the time since"},
		"a duration that is unknown": {map[int]string{1: `{"event":"transition","cookie":1,"netns":7,"ktime_ns":150,"from":"SYN_SENT","to":"ESTABLISHED",` +
			`"duration_ns":0,"precision":"unknown"}`}, "does not fit"},
	} {
		t.Run(name, func(t *testing.T) {
			var s stream
			s.read(strings.NewReader(printed(c.wrong)), 7)
			all := strings.Join(s.faults(), "\n")
			if c.want == "" && all != "" || !strings.Contains(all, c.want) {
				t.Errorf("faults: %q, want %q", all, c.want)
			}
		})
	}
}

// A stream keeps the moves of its own namespace only.
func TestStreamMoves(t *testing.T) {
	var s stream
	s.read(strings.NewReader(printed(nil)), 7)
	if got := s.moves["ESTABLISHED"]; got == nil || *got != (moves{1, 1}) {
		t.Errorf("ESTABLISHED: %v", got)
	}
	s = stream{}
	s.read(strings.NewReader(printed(nil)), 8)
	if len(s.moves) > 0 {
		t.Errorf("of another namespace: %v", s.moves)
	}
}
