//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// A line is one line of finwait trace, with the fields that are checked.
type line struct {
	Event     string
	Cookie    uint64
	NetNS     uint32
	Ktime     int64 `json:"ktime_ns"`
	From, To  string
	Duration  *int64 `json:"duration_ns"`
	Precision string
	text      []byte // the whole line

	summary
}

// A summary accounts for every transition.
type summary struct {
	Seen, Filtered, Delivered uint64
	Lost                      losses
}

func (s summary) String() string {
	return fmt.Sprintf("%d seen, %d filtered, %d delivered, %d lost", s.Seen, s.Filtered, s.Delivered, s.Lost.total())
}

// losses are transitions that were lost, by the words of the causes, as finwait prints them.
type losses map[string]uint64

// Causes that are expected, or compared with something.
const (
	ringFull = "ring_full"
	missed   = "missed"
)

func (l losses) total() (sum uint64) {
	for _, n := range l {
		sum += n
	}
	return sum
}

func (l losses) add(o losses) {
	for cause, n := range o {
		l[cause] += n
	}
}

// moves counts how often a state was entered and left.
type moves struct{ Entered, Left uint64 }

// A stream is the output of one finwait trace.
type stream struct {
	gate sync.Mutex // held while reading is blocked

	// Valid after read has returned.
	transitions uint64
	gaps        uint64 // places in the chain of a socket where a transition is missing
	firstGaps   []string
	moves       map[string]*moves // by state, of the sockets of one network namespace
	summary     *summary
	truncated   bool // the last line is incomplete
	wrong       []string
	err         error // of read

	sockets map[uint64]last
}

// last is what a socket's last transition says.
type last struct {
	to    string
	ktime int64
}

// The states that the first transition of a socket can leave: that of a new socket, and
// that of the listener that accepts it.
const (
	closed = "CLOSED"
	listen = "LISTEN"
)

// reconnected stands for the state of a socket that was disconnected and connected again
// while a minisock continues its first connection. The two share a cookie, so that their
// transitions are not one chain.
const reconnected = "reconnected"

// read reads to the end of the output. It keeps the moves of one namespace.
func (s *stream) read(r io.Reader, netns uint32) {
	s.sockets = make(map[uint64]last)
	s.moves = make(map[string]*moves)
	in := bufio.NewReaderSize(&gated{r, &s.gate}, 64<<10)
	for {
		b, err := in.ReadSlice('\n')
		if err != nil {
			s.truncated = len(b) > 0
			if !errors.Is(err, io.EOF) {
				s.err = err
			}
			return
		}
		var l line
		if err := json.Unmarshal(b, &l); err != nil {
			s.addWrong("not JSON: %v: %q", err, b)
			continue
		}
		switch {
		case s.summary != nil:
			s.addWrong("after the summary comes %q", b)
		case l.Event == "summary":
			s.summary = &l.summary
		case l.Event == "transition":
			l.text = bytes.TrimSpace(b)
			s.transition(&l, netns)
		default:
			s.addWrong("event %q", l.Event)
		}
	}
}

// gated is a reader that waits while the gate is held.
type gated struct {
	io.Reader
	gate *sync.Mutex
}

func (g *gated) Read(p []byte) (int, error) {
	g.gate.Lock()
	defer g.gate.Unlock()
	return g.Reader.Read(p)
}

// block stops reading for a while.
func (s *stream) block(d time.Duration) {
	s.gate.Lock()
	defer s.gate.Unlock()
	time.Sleep(d)
}

func (s *stream) addWrong(format string, args ...any) {
	if len(s.wrong) < 10 {
		s.wrong = append(s.wrong, fmt.Sprintf(format, args...))
	}
}

func (s *stream) transition(l *line, netns uint32) {
	s.transitions++
	before, known := s.sockets[l.Cookie]
	switch {
	case l.Cookie == 0 || before.to == reconnected:
		known = false
	case known && l.From == closed && (before.to == "TIME_WAIT" || before.to == "FIN_WAIT_2"):
		s.sockets[l.Cookie] = last{reconnected, l.Ktime}
		before.to, known = reconnected, false
	case !known:
		// An exact duration has a known start, so a transition into the state must exist.
		if l.From != closed && l.From != listen && l.Precision == "exact" {
			s.addGap(l, before)
		}
	case l.From != before.to:
		s.addGap(l, before)
		known = false
	}
	if err := l.check(before, known); err != "" {
		s.addWrong("%s: %s after %+v", err, l.text, before)
	}
	switch {
	case before.to == reconnected:
	case l.To == closed:
		delete(s.sockets, l.Cookie)
	default:
		s.sockets[l.Cookie] = last{l.To, l.Ktime}
	}
	if l.NetNS != netns {
		return
	}
	s.movesOf(l.To).Entered++
	if l.From != listen || l.To == closed { // a listener stays in LISTEN when it accepts
		s.movesOf(l.From).Left++
	}
}

// addGap counts a place where a transition is missing.
func (s *stream) addGap(l *line, before last) {
	if s.gaps++; len(s.firstGaps) < 3 {
		s.firstGaps = append(s.firstGaps, fmt.Sprintf("%s comes after %+v", l.text, before))
	}
}

func (s *stream) movesOf(state string) *moves {
	if s.moves[state] == nil {
		s.moves[state] = &moves{}
	}
	return s.moves[state]
}

// check says what is wrong with a transition. known: before is the transition right before it.
func (l *line) check(before last, known bool) string {
	switch {
	case l.From == l.To:
		return "from and to are the same state"
	case (l.Duration == nil) != (l.Precision == "unknown"):
		return "the precision does not fit the duration"
	case l.Duration != nil && (*l.Duration < 0 || *l.Duration > l.Ktime):
		return "the duration is impossible"
	case !known:
		return ""
	case l.Ktime < before.ktime:
		return "older than the transition before"
	case l.Duration != nil && l.Precision == "exact" && before.ktime+*l.Duration != l.Ktime:
		return "the duration is not the time since the transition before"
	}
	return ""
}

// faults says what is wrong with the output of a trace that SIGINT ended.
func (s *stream) faults() (all []string) {
	all = append(all, s.wrong...)
	if s.err != nil {
		all = append(all, s.err.Error())
	}
	if s.summary == nil || s.truncated {
		return append(all, "the output has no summary or ends within a line")
	}
	sum := s.summary
	if sum.Seen != sum.Filtered+sum.Delivered+sum.Lost.total() {
		all = append(all, fmt.Sprintf("seen is not filtered + delivered + lost: %+v", *sum))
	}
	if s.transitions != sum.Delivered {
		all = append(all, fmt.Sprintf("%d transitions were printed, %d delivered", s.transitions, sum.Delivered))
	}
	if s.gaps > sum.Lost.total() {
		all = append(all, fmt.Sprintf("transitions are missing in %d places, but %d were counted as lost: %s", s.gaps, sum.Lost.total(), strings.Join(s.firstGaps, "; ")))
	}
	return all
}

// A statistic is the output of finwait stat --audit --by netns for the whole run.
type statistic struct {
	Event  string
	Groups []struct {
		Name   *string
		States []struct {
			State string
			moves
		}
	}
	Ungrouped uint64
	Audit     []struct {
		NetNS          uint32
		Counter        string
		Kernel         int64
		Finwait        int64
		Verdict, Cause string
	}
	Lost losses
}

func parseStatistic(b []byte) (*statistic, error) {
	var st statistic
	if err := json.Unmarshal(b, &st); err != nil || st.Event != "stat" {
		return nil, fmt.Errorf("not the output of finwait stat: %v: %q", err, strings.TrimSpace(string(b)))
	}
	return &st, nil
}
