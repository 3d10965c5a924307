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

// A line is what finwait trace prints, as far as it is checked.
type line struct {
	Event     string
	Cookie    uint64
	NetNS     uint32
	Ktime     int64 `json:"ktime_ns"`
	From, To  string
	Duration  *int64 `json:"duration_ns"`
	Precision string
	text      []byte // all of it

	summary
}

// A summary says where every transition went.
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
	ringFull  = "ring_full"
	recursion = "recursion"
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

// moves are how often a state was entered and left.
type moves struct{ Entered, Left uint64 }

// A stream is what one finwait trace has printed.
type stream struct {
	gate sync.Mutex // held while nobody is to read

	// To be looked at when read has returned.
	transitions uint64
	breaks      uint64            // places in the life of a socket where something is missing
	broken      []string          // the first of them
	watched     map[string]*moves // of the sockets of one network namespace
	summary     *summary
	cut         bool // the last line has no end
	wrong       []string
	err         error // of reading

	sockets map[uint64]last
}

// last is what is known of a socket from its last transition.
type last struct {
	to    string
	ktime int64
}

// The states of which a socket can be seen first: that of one that is new, and of
// the listener that accepts it.
const (
	closed = "CLOSED"
	listen = "LISTEN"
)

// twice is in place of the state of a socket that disconnected and connected again
// while its first life goes on in a minisock: what it does is not one chain.
const twice = "twice"

// read reads all that comes until the end. Of one namespace the moves are kept.
func (s *stream) read(r io.Reader, netns uint32) {
	s.sockets = make(map[uint64]last)
	s.watched = make(map[string]*moves)
	in := bufio.NewReaderSize(&gated{r, &s.gate}, 64<<10)
	for {
		b, err := in.ReadSlice('\n')
		if err != nil {
			s.cut = len(b) > 0
			if !errors.Is(err, io.EOF) {
				s.err = err
			}
			return
		}
		var l line
		if err := json.Unmarshal(b, &l); err != nil {
			s.complain("not JSON: %v: %q", err, b)
			continue
		}
		switch {
		case s.summary != nil:
			s.complain("after the summary comes %q", b)
		case l.Event == "summary":
			s.summary = &l.summary
		case l.Event == "transition":
			l.text = bytes.TrimSpace(b)
			s.transition(&l, netns)
		default:
			s.complain("event %q", l.Event)
		}
	}
}

// gated reads while the gate is open.
type gated struct {
	io.Reader
	gate *sync.Mutex
}

func (g *gated) Read(p []byte) (int, error) {
	g.gate.Lock()
	defer g.gate.Unlock()
	return g.Reader.Read(p)
}

// leave does not read for a while.
func (s *stream) leave(d time.Duration) {
	s.gate.Lock()
	defer s.gate.Unlock()
	time.Sleep(d)
}

func (s *stream) complain(format string, args ...any) {
	if len(s.wrong) < 10 {
		s.wrong = append(s.wrong, fmt.Sprintf(format, args...))
	}
}

func (s *stream) transition(l *line, netns uint32) {
	s.transitions++
	before, known := s.sockets[l.Cookie]
	switch {
	case l.Cookie == 0 || before.to == twice:
		known = false
	case known && l.From == closed && (before.to == "TIME_WAIT" || before.to == "FIN_WAIT_2"):
		s.sockets[l.Cookie] = last{twice, l.Ktime}
		before.to, known = twice, false
	case !known:
		// A start that was seen is that of a transition, which should be there.
		if l.From != closed && l.From != listen && l.Precision == "exact" {
			s.gap(l, before)
		}
	case l.From != before.to:
		s.gap(l, before)
		known = false
	}
	if err := l.check(before, known); err != "" {
		s.complain("%s: %s after %+v", err, l.text, before)
	}
	switch {
	case before.to == twice:
	case l.To == closed:
		delete(s.sockets, l.Cookie)
	default:
		s.sockets[l.Cookie] = last{l.To, l.Ktime}
	}
	if l.NetNS != netns {
		return
	}
	s.move(l.To).Entered++
	if l.From != listen || l.To == closed { // a listener stays when it accepts
		s.move(l.From).Left++
	}
}

// gap counts a place where something is missing.
func (s *stream) gap(l *line, before last) {
	if s.breaks++; len(s.broken) < 3 {
		s.broken = append(s.broken, fmt.Sprintf("%s comes after %+v", l.text, before))
	}
}

func (s *stream) move(state string) *moves {
	if s.watched[state] == nil {
		s.watched[state] = &moves{}
	}
	return s.watched[state]
}

// check says what is wrong with a transition; known: the one before is the last one seen.
func (l *line) check(before last, known bool) string {
	switch {
	case l.From == l.To:
		return "no transition"
	case (l.Duration == nil) != (l.Precision == "unknown"):
		return "the precision does not fit the duration"
	case l.Duration != nil && (*l.Duration < 0 || *l.Duration > l.Ktime):
		return "a duration that cannot be"
	case !known:
		return ""
	case l.Ktime < before.ktime:
		return "older than the one before"
	case l.Duration != nil && l.Precision == "exact" && before.ktime+*l.Duration != l.Ktime:
		return "a duration that is not the time since the one before"
	}
	return ""
}

// faults says what is wrong with the stream of a finwait that ended in order.
func (s *stream) faults() (all []string) {
	all = append(all, s.wrong...)
	if s.err != nil {
		all = append(all, s.err.Error())
	}
	if s.summary == nil || s.cut {
		return append(all, "the output has no end")
	}
	sum := s.summary
	if sum.Seen != sum.Filtered+sum.Delivered+sum.Lost.total() {
		all = append(all, fmt.Sprintf("seen is not filtered + delivered + lost: %+v", *sum))
	}
	if s.transitions != sum.Delivered {
		all = append(all, fmt.Sprintf("%d transitions were printed, %d delivered", s.transitions, sum.Delivered))
	}
	if s.breaks > sum.Lost.total() {
		all = append(all, fmt.Sprintf("something is missing in %d places, but %d were counted as lost: %s", s.breaks, sum.Lost.total(), strings.Join(s.broken, "; ")))
	}
	return all
}

// A statistic is what finwait stat --audit --by netns says of the whole run.
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
		return nil, fmt.Errorf("not what finwait stat prints: %v: %q", err, strings.TrimSpace(string(b)))
	}
	return &st, nil
}
