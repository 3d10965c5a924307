package tracer

import (
	"fmt"
	"strings"
)

// A State is a TCP state with the kernel's number for it (include/net/tcp_states.h).
type State uint8

// The states of RFC 9293, section 3.3.2, and NEW_SYN_RECV, in which Linux keeps
// a handshake that has no socket yet.
const (
	Established State = 1 + iota
	SynSent
	SynRecv
	FinWait1
	FinWait2
	TimeWait
	Closed
	CloseWait
	LastAck
	Listen
	Closing
	NewSynRecv
)

var stateNames = [...]string{
	Established: "ESTABLISHED",
	SynSent:     "SYN_SENT",
	SynRecv:     "SYN_RECV",
	FinWait1:    "FIN_WAIT_1",
	FinWait2:    "FIN_WAIT_2",
	TimeWait:    "TIME_WAIT",
	Closed:      "CLOSED",
	CloseWait:   "CLOSE_WAIT",
	LastAck:     "LAST_ACK",
	Listen:      "LISTEN",
	Closing:     "CLOSING",
	NewSynRecv:  "NEW_SYN_RECV",
}

// String spells a state as RFC 9293 does, with underscores.
func (s State) String() string {
	if int(s) < len(stateNames) && stateNames[s] != "" {
		return stateNames[s]
	}
	return fmt.Sprintf("STATE_%d", uint8(s))
}

// States are all states, in the order of the kernel's numbers.
func States() []State {
	all := make([]State, 0, NewSynRecv)
	for s := Established; s <= NewSynRecv; s++ {
		all = append(all, s)
	}
	return all
}

// ParseState takes any usual spelling: TIME_WAIT, time-wait, TIMEWAIT, FIN_WAIT1, CLOSE, SYN_RECEIVED.
func ParseState(name string) (State, error) {
	switch folded := foldState(name); folded {
	case "close":
		return Closed, nil
	case "synreceived":
		return SynRecv, nil
	case "synrcv":
		return SynRecv, nil
	default:
		for _, s := range States() {
			if folded == foldState(s.String()) {
				return s, nil
			}
		}
	}
	return 0, fmt.Errorf("no TCP state is called %q; the states are %s", name, strings.Join(stateNames[1:], " "))
}

func foldState(name string) string {
	return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(name))
}

// next lists what the kernel can make of each state, as far as a hook sees it.
// NEW_SYN_RECV is missing: a request_sock makes no transition that a hook sees.
var next = map[State][]State{
	Closed:      {SynSent, Listen},
	Listen:      {SynRecv, Closed},
	SynSent:     {Established, SynRecv, Closed},
	SynRecv:     {Established, FinWait1, CloseWait, Closed},
	Established: {FinWait1, CloseWait, Closed},
	FinWait1:    {FinWait2, Closing, Closed},
	FinWait2:    {TimeWait, Closed},
	Closing:     {TimeWait, Closed},
	TimeWait:    {Closed},
	CloseWait:   {LastAck, Closed},
	LastAck:     {Closed},
}
