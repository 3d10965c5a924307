// Package conns joins the transitions of a socket into one connection.
package conns

import (
	"net/netip"
	"time"

	"finwait/tracer"
)

// A Conn is a connection, from its first transition that was seen to its end.
type Conn struct {
	Cookie, NetNSCookie uint64
	NetNS               uint32
	Local, Remote       netip.AddrPort
	Scope               tracer.Scope
	Role                tracer.Role
	Owner               tracer.Owner
	Closer, Handler     tracer.Process

	// Opened is the time of the first transition. Whole says that this was the
	// connection's first; otherwise it began before.
	Opened      time.Time
	OpenedKtime time.Duration
	Whole       bool

	State  tracer.State // that it is in: CLOSED, if it has ended
	States []Stay       // the states that it has left, in their order

	FirstFIN FIN
	Reason   tracer.Reason // of its end; ReasonNone while it lasts
	Detail   tracer.Detail
	Errno    tracer.Errno

	// Missed is how many of its transitions were not seen, as far as the others show: at least so many.
	Missed int

	// Metrics are those of the last transition.
	Metrics tracer.Metrics
}

// A Stay is how long a connection was in a state.
type Stay struct {
	State     tracer.State
	Duration  time.Duration
	Precision tracer.Precision
}

// FIN says who sent the first one.
type FIN uint8

// Who sent the first FIN, as far as that was seen.
const (
	FINUnknown FIN = iota
	FINNone        // the connection ended without
	FINLocal
	FINRemote
	FINBoth // at the same time: both were under way
)

// String gives the word, and "" for FINUnknown.
func (f FIN) String() string { return [...]string{"", "none", "local", "remote", "both"}[f] }

// Handshake is how long a client waited for its connection. A server's handshake waits in
// a request socket, where nobody measures it.
func (c *Conn) Handshake() (time.Duration, bool) { return c.sum(tracer.SynSent) }

// Established is how long it was in ESTABLISHED.
func (c *Conn) Established() (time.Duration, bool) { return c.sum(tracer.Established) }

// Closing is how long it took from the first FIN to TIME_WAIT, or to the end.
func (c *Conn) Closing() (time.Duration, bool) {
	return c.sum(tracer.FinWait1, tracer.FinWait2, tracer.Closing, tracer.CloseWait, tracer.LastAck)
}

// TimeWait is how long it was in TIME_WAIT.
func (c *Conn) TimeWait() (time.Duration, bool) { return c.sum(tracer.TimeWait) }

// sum is how long it was in some states. It is known if each stay was measured from its
// start, and no transition was missed: 0 then means that it was never there.
func (c *Conn) sum(states ...tracer.State) (sum time.Duration, known bool) {
	there := false
	for _, s := range c.States {
		for _, of := range states {
			if s.State != of {
				continue
			}
			if s.Precision != tracer.PrecisionExact && s.Precision != tracer.PrecisionJiffy {
				return 0, false
			}
			there = true
			sum += s.Duration
		}
	}
	return sum, there || c.Whole && c.Missed == 0
}

// A Joiner joins transitions. Those of one socket have to come in their order.
type Joiner struct {
	most int
	open map[uint64][]*Conn // by cookie; a socket that connects again may have two
	n    int
	left map[uint64]bool // cookies of connections that there was no room for, until they end

	// Untracked is how many connections there was no room for. Of those that are older than finwait,
	// some are not counted while leftPerMost times as many as have room are untracked.
	Untracked uint64
}

// leftPerMost is how many connections are only counted, for each that has room. It bounds memory.
const leftPerMost = 16

// NewJoiner joins up to so many connections at a time.
func NewJoiner(most int) *Joiner {
	return &Joiner{most: most, open: make(map[uint64][]*Conn), left: make(map[uint64]bool)}
}

// Add adds a transition, and gives its connection; nil if that is a listener, or if there
// is no room for it. A connection that has ended is forgotten.
func (j *Joiner) Add(t *tracer.Transition) *Conn {
	if t.From == tracer.Listen && t.To == tracer.Closed || t.To == tracer.Listen {
		return nil
	}
	begins := t.From == tracer.Closed || t.From == tracer.Listen
	var c *Conn
	if !begins {
		c = j.find(t)
	}
	if c == nil {
		if j.n >= j.most || j.left[t.Cookie] && !begins {
			j.leave(t, begins)
			return nil
		}
		c = &Conn{
			Cookie: t.Cookie, NetNS: t.NetNS, NetNSCookie: t.NetNSCookie, Whole: begins,
			Opened: t.Time, OpenedKtime: t.Ktime, State: t.From,
		}
		j.open[t.Cookie] = append(j.open[t.Cookie], c)
		j.n++
	}
	c.add(t)
	if t.To == tracer.Closed {
		j.forget(c)
	}
	return c
}

// leave counts a connection once, and does not take it up in the middle when there is room again.
func (j *Joiner) leave(t *tracer.Transition, begins bool) {
	room := len(j.left) < leftPerMost*j.most
	if begins || room && !j.left[t.Cookie] {
		j.Untracked++
	}
	switch {
	case t.To == tracer.Closed:
		delete(j.left, t.Cookie)
	case room:
		j.left[t.Cookie] = true
	}
}

// find gives the connection of a transition: of two with the same cookie the one that is in
// its state, or else the one with its ports.
func (j *Joiner) find(t *tracer.Transition) (best *Conn) {
	score := 1 // a cookie alone is not enough: another life of the socket may have it
	for _, c := range j.open[t.Cookie] {
		s := 1
		if c.State == t.From {
			s += 2
		}
		if c.Remote == t.Remote && (c.Local == t.Local || c.Local.Port() == 0) {
			s += 4
		}
		if s > score {
			best, score = c, s
		}
	}
	return best
}

func (j *Joiner) forget(c *Conn) {
	all := j.open[c.Cookie]
	for i := range all {
		if all[i] != c {
			continue
		}
		j.n--
		if len(all) == 1 {
			delete(j.open, c.Cookie)
		} else {
			j.open[c.Cookie] = append(all[:i:i], all[i+1:]...)
		}
		return
	}
}

// Open gives every connection that has not ended.
func (j *Joiner) Open(yield func(*Conn) bool) {
	for _, all := range j.open {
		for _, c := range all {
			if !yield(c) {
				return
			}
		}
	}
}

func (c *Conn) add(t *tracer.Transition) {
	missed := c.State != t.From
	if missed {
		c.Missed++
	}
	c.learn(t)
	if t.From != tracer.Closed && t.From != tracer.Listen {
		c.States = append(c.States, Stay{t.From, t.Duration, t.Precision})
	}
	c.State = t.To
	switch {
	case c.FirstFIN != FINUnknown && !(c.FirstFIN == FINLocal && t.From == tracer.FinWait1 && t.To == tracer.Closing):
	case missed:
	case t.To == tracer.FinWait1:
		c.FirstFIN = FINLocal
	case t.To == tracer.CloseWait:
		c.FirstFIN = FINRemote
	case t.To == tracer.Closing:
		c.FirstFIN = FINBoth
	case t.To == tracer.Closed && c.beforeFIN(t.From):
		c.FirstFIN = FINNone
	}
	if t.To == tracer.Closed {
		c.Reason, c.Detail, c.Errno = t.Reason, t.Detail, t.Errno
	}
}

// beforeFIN reports whether no FIN was sent or received in a state.
func (c *Conn) beforeFIN(s tracer.State) bool {
	return s == tracer.Established || s == tracer.SynSent || s == tracer.SynRecv || s == tracer.Closed
}

// learn keeps what later transitions know better.
func (c *Conn) learn(t *tracer.Transition) {
	if t.Local.Port() != 0 || !c.Local.IsValid() {
		c.Local = t.Local
	}
	if t.Remote.Port() != 0 || !c.Remote.IsValid() {
		c.Remote = t.Remote
	}
	if t.Scope.ID != 0 {
		c.Scope = t.Scope
	}
	if t.Role != tracer.RoleUnknown {
		c.Role = t.Role
	}
	// A full socket may lose its owner: another listener has taken it over. The minisock of
	// which no record was found has none.
	if t.Owner.PID != 0 || t.Source == tracer.SourceSocket {
		c.Owner = t.Owner
	}
	if t.Closer.PID != 0 {
		c.Closer = t.Closer
	}
	if t.Handler.PID != 0 {
		c.Handler = t.Handler
	}
	// Those of before are no longer true when a minisock has none: the full socket may have
	// received more.
	if t.Metrics != nil {
		c.Metrics = *t.Metrics
	}
}
