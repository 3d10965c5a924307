package scenario

import (
	"strings"

	"finwait/internal/text"
	"finwait/tracer"
)

// A Life is the transitions of one socket, in order.
type Life []tracer.Transition

// Seen are the lives of a scenario's sockets, in the order of their first transitions.
type Seen []Life

// lives groups transitions by socket.
func lives(all []tracer.Transition) Seen {
	index := make(map[uint64]int)
	var seen Seen
	for _, t := range all {
		i, ok := index[t.Cookie]
		if !ok {
			i = len(seen)
			index[t.Cookie] = i
			seen = append(seen, nil)
		}
		seen[i] = append(seen[i], t)
	}
	return seen
}

// Of returns the sockets of one role.
func (s Seen) Of(r tracer.Role) Seen {
	var of Seen
	for _, l := range s {
		if l[0].Role == r {
			of = append(of, l)
		}
	}
	return of
}

// Client is the n-th socket that connected, or nil.
func (s Seen) Client(n int) Life { return s.Of(tracer.RoleClient).at(n) }

// Server is the n-th socket that was accepted, or nil.
func (s Seen) Server(n int) Life { return s.Of(tracer.RoleServer).at(n) }

func (s Seen) at(n int) Life {
	if n >= len(s) {
		return nil
	}
	return s[n]
}

// Leaving is the transition that left a state, or the zero value if none did.
func (l Life) Leaving(s tracer.State) tracer.Transition {
	for _, t := range l {
		if t.From == s {
			return t
		}
	}
	return tracer.Transition{}
}

// Lasted says in words how long the socket was in a state.
func (l Life) Lasted(s tracer.State) string {
	t := l.Leaving(s)
	if !t.Known() {
		return "an unknown time"
	}
	text := text.Span(t.Duration)
	switch t.Precision {
	case tracer.PrecisionAtLeast:
		text = "at least " + text
	case tracer.PrecisionJiffy:
		text = "about " + text
	}
	if t.Reason == tracer.ReasonNetNSRemoved {
		text += " until its namespace was removed"
	}
	return text
}

// Path is the states that the socket entered, such as "FIN_WAIT_2 TIME_WAIT:fin_received".
// A reason, if there is one, says why the state before ended. A detail follows it, as in
// "CLOSED:aborted:unread_data". "|" marks a missing transition.
func (l Life) Path() string { return strings.Join(l.steps(), " ") }

func (l Life) steps() (path []string) {
	for i, t := range l {
		if i > 0 && l[i-1].To != t.From {
			path = append(path, "|")
		}
		step := t.To.String()
		if t.Reason != tracer.ReasonNone {
			step += ":" + t.Reason.String()
		}
		if t.Detail != tracer.DetailNone {
			step += ":" + t.Detail.String()
		}
		path = append(path, step)
	}
	return path
}

// isStep reports whether a step of a Path is as wanted. A detail counts only if one is wanted.
func isStep(got, want string) bool {
	detail := strings.LastIndexByte(got, ':')
	return got == want || strings.Count(got, ":") == 2 && strings.Count(want, ":") == 1 && got[:detail] == want
}

// A Want is the role of one socket, and how its Path must begin. Details may be left out.
type Want struct {
	Role tracer.Role
	Path string
}

// How the paths of connections begin.
const (
	opened   = "SYN_SENT ESTABLISHED "
	accepted = "SYN_RECV ESTABLISHED "
)

func client(path string) Want { return Want{tracer.RoleClient, path} }
func server(path string) Want { return Want{tracer.RoleServer, path} }

// expiry is the end of a path whose TIME_WAIT expires.
var expiry = []string{"TIME_WAIT", "CLOSED:expired"}

func (w Want) minute() bool {
	_, ends := w.cut()
	return ends
}

// cut removes the expiry of a TIME_WAIT from the path. found: the path has one.
func (w Want) cut() (before []string, found bool) {
	steps := strings.Fields(w.Path)
	last := len(steps) - 1
	if last < 1 || steps[last] != expiry[1] || !strings.HasPrefix(steps[last-1], expiry[0]) {
		return steps, false
	}
	return steps[:last], true
}
