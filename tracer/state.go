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

var states = vocabulary[State]{
	first: Established,
	words: []string{
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
	},
	unknown: "no TCP state is called %q; the states are %s", between: " ", last: " ",
}

// otherSpellings are, folded, the names that differ from the words above in more than foldState removes.
var otherSpellings = map[string]State{
	"estab":       Established, // ss
	"synrcv":      SynRecv,     // ss, as a filter
	"synrcvd":     SynRecv,     // BSD
	"synreceived": SynRecv,     // RFC 9293, Windows
	"close":       Closed,      // the kernel (include/net/tcp_states.h), netstat
	"unconn":      Closed,      // ss
	"unconnected": Closed,      // ss, as a filter
	"listening":   Listen,      // ss, as a filter; Windows
}

// States lists all states in the order of the kernel's numbers.
func States() []State { return states.all() }

// String spells a state as RFC 9293 does, with underscores.
func (s State) String() string {
	if states.has(s) {
		return states.words[s]
	}
	return fmt.Sprintf("STATE_%d", uint8(s))
}

// MarshalText gives the word that String gives. It fails for a number that is no state.
func (s State) MarshalText() ([]byte, error) { return states.marshal(s) }

// UnmarshalText takes every usual spelling, in any case: that of MarshalText
// (TIME_WAIT), RFC 9293 (SYN-RECEIVED), ss (ESTAB, fin-wait-1), netstat
// (FIN_WAIT1), BSD (SYN_RCVD, TCPS_LISTEN), Windows (LISTENING) and the kernel
// (TCP_CLOSE, BPF_TCP_CLOSE).
func (s *State) UnmarshalText(word []byte) error {
	folded := foldState(string(word))
	if other, ok := otherSpellings[folded]; ok {
		*s = other
		return nil
	}
	for _, known := range States() {
		if folded == foldState(known.String()) {
			*s = known
			return nil
		}
	}
	return states.refuse(word)
}

// foldState makes spellings equal that differ in case, in "_" and "-", or in the
// prefix that the constants of a kernel have.
func foldState(name string) string {
	name = strings.ReplaceAll(strings.ToLower(name), "-", "_")
	name = strings.TrimPrefix(name, "bpf_")
	if bsd, ok := strings.CutPrefix(name, "tcps_"); ok {
		name = bsd
	} else {
		name = strings.TrimPrefix(name, "tcp_")
	}
	return strings.ReplaceAll(name, "_", "")
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
