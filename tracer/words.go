package tracer

// The words of every vocabulary but those of State (state.go) and Errno (errno.go).

var reasons = vocabulary[Reason]{
	words: []string{
		ReasonNone:             "",
		ReasonFinReceived:      "fin_received",
		ReasonExpired:          "expired",
		ReasonReused:           "reused",
		ReasonRecycled:         "recycled",
		ReasonRSTReceived:      "rst_received",
		ReasonRSTSent:          "rst_sent",
		ReasonDestroyed:        "destroyed",
		ReasonNetNSRemoved:     "netns_removed",
		ReasonKilled:           "killed",
		ReasonTimeWaitOverflow: "time_wait_overflow",
		ReasonRefused:          "refused",
		ReasonTimedOut:         "timed_out",
		ReasonUnreachable:      "unreachable",
		ReasonNoPort:           "no_port",
		ReasonReset:            "reset",
		ReasonAborted:          "aborted",
		ReasonClosed:           "closed",
		ReasonInUse:            "in_use",
		ReasonGivenUp:          "given_up",
	},
	unknown: "no reason is called %q: there are %s", between: ", ", last: " and ",
}

// Reasons lists all reasons, ReasonNone first.
func Reasons() []Reason { return reasons.all() }

// String gives the word, such as "timed_out", and "" for ReasonNone.
func (r Reason) String() string { return reasons.word(r) }

// CountsRetransmits reports whether Transition.Retransmits says something about an end for this reason.
func (r Reason) CountsRetransmits() bool {
	return r == ReasonTimedOut || r == ReasonUnreachable || r == ReasonGivenUp
}

// MarshalText gives the word that String gives. It fails for a number that is no reason.
func (r Reason) MarshalText() ([]byte, error) { return reasons.marshal(r) }

// UnmarshalText takes the words that MarshalText gives.
func (r *Reason) UnmarshalText(word []byte) error { return reasons.unmarshal(r, word) }

// detailsOf has every detail, its word and the reason that it belongs to.
var detailsOf = [...]struct {
	word   string
	reason Reason
}{
	DetailNone: {"", ReasonNone},

	DetailUnreadData:     {"unread_data", ReasonAborted},
	DetailLingerZero:     {"linger_zero", ReasonAborted},
	DetailDisconnected:   {"disconnected", ReasonAborted},
	DetailLinger2:        {"linger2", ReasonAborted},
	DetailListenerClosed: {"listener_closed", ReasonAborted},
	DetailOrphanLimit:    {"orphan_limit", ReasonAborted},
	DetailCheckpoint:     {"checkpoint", ReasonAborted},
	DetailListenFailed:   {"listen_failed", ReasonAborted},

	DetailKeepalive:       {"keepalive", ReasonTimedOut},
	DetailUserTimeout:     {"user_timeout", ReasonTimedOut},
	DetailRetransmissions: {"retransmissions", ReasonTimedOut},
	DetailZeroWindow:      {"zero_window", ReasonTimedOut},

	DetailDataAfterClose: {"data_after_close", ReasonRSTSent},
	DetailOutOfWindow:    {"out_of_window", ReasonRSTSent},
	DetailSYN:            {"syn", ReasonRSTSent},

	DetailDataUnacked: {"data_unacked", ReasonReset},
	DetailFINUnacked:  {"fin_unacked", ReasonReset},

	DetailOrphan:   {"orphan", ReasonExpired},
	DetailTimeWait: {"time_wait", ReasonExpired},

	DetailClose:      {"close", ReasonGivenUp},
	DetailShutdown:   {"shutdown", ReasonGivenUp},
	DetailDisconnect: {"disconnect", ReasonGivenUp},
	DetailExit:       {"exit", ReasonGivenUp},
}

var details = vocabulary[Detail]{
	words: func() (words []string) {
		for _, d := range detailsOf {
			words = append(words, d.word)
		}
		return words
	}(),
	unknown: "no detail is called %q: there are %s", between: ", ", last: " and ",
}

// Details lists all details, DetailNone first.
func Details() []Detail { return details.all() }

// String gives the word, such as "unread_data", and "" for DetailNone.
func (d Detail) String() string { return details.word(d) }

// MarshalText gives the word that String gives. It fails for a number that is no detail.
func (d Detail) MarshalText() ([]byte, error) { return details.marshal(d) }

// UnmarshalText takes the words that MarshalText gives.
func (d *Detail) UnmarshalText(word []byte) error { return details.unmarshal(d, word) }

// Reason is the reason that has this detail; ReasonNone for DetailNone and for a number that is no detail.
func (d Detail) Reason() Reason {
	if !details.has(d) {
		return ReasonNone
	}
	return detailsOf[d].reason
}

var roles = vocabulary[Role]{
	words: []string{
		RoleUnknown:  "",
		RoleClient:   "client",
		RoleServer:   "server",
		RoleListener: "listener",
	},
	unknown: "no role is called %q: there are %s", between: ", ", last: " and ",
}

// Roles lists all roles, RoleUnknown first.
func Roles() []Role { return roles.all() }

// String gives the word, such as "client", and "" for RoleUnknown.
func (r Role) String() string { return roles.word(r) }

// MarshalText gives the word that String gives. It fails for a number that is no role.
func (r Role) MarshalText() ([]byte, error) { return roles.marshal(r) }

// UnmarshalText takes the words that MarshalText gives.
func (r *Role) UnmarshalText(word []byte) error { return roles.unmarshal(r, word) }

var precisions = vocabulary[Precision]{
	words: []string{
		PrecisionUnknown: "unknown",
		PrecisionExact:   "exact",
		PrecisionJiffy:   "jiffy",
		PrecisionAtLeast: "at_least",
	},
	unknown: "no precision is called %q: there are %s", between: ", ", last: " and ",
}

// Precisions lists all precisions, PrecisionUnknown first.
func Precisions() []Precision { return precisions.all() }

// String gives the word, such as "at_least".
func (p Precision) String() string { return precisions.word(p) }

// MarshalText gives the word that String gives. It fails for a number that is no precision.
func (p Precision) MarshalText() ([]byte, error) { return precisions.marshal(p) }

// UnmarshalText takes the words that MarshalText gives.
func (p *Precision) UnmarshalText(word []byte) error { return precisions.unmarshal(p, word) }

var sources = vocabulary[Source]{
	words: []string{
		SourceSocket:   "socket",
		SourceMinisock: "minisock",
	},
	unknown: "no source is called %q: there are %s", between: ", ", last: " and ",
}

// Sources lists all sources.
func Sources() []Source { return sources.all() }

// String gives the word: "socket" or "minisock".
func (s Source) String() string { return sources.word(s) }

// MarshalText gives the word that String gives. It fails for a number that is no source.
func (s Source) MarshalText() ([]byte, error) { return sources.marshal(s) }

// UnmarshalText takes the words that MarshalText gives.
func (s *Source) UnmarshalText(word []byte) error { return sources.unmarshal(s, word) }

var hooks = vocabulary[Hook]{
	words: []string{
		HookSetState:    "inet_sock_set_state",
		HookTimerStart:  "timer_start",
		HookTimerCancel: "timer_cancel",
		HookTimerExpire: "timer_expire_entry",
		HookKfreeSKB:    "kfree_skb",
		HookTWAlloc:     "inet_twsk_alloc",
		HookTWSchedule:  "__inet_twsk_schedule",
		HookTWKill:      "inet_twsk_kill",
		HookSendReset:   "tcp_send_reset",
	},
	unknown: "no hook is called %q: there are %s", between: ", ", last: " and ",
}

// Hooks lists all hooks, of every set.
func Hooks() []Hook { return hooks.all() }

// String gives the kernel's name for the tracepoint or function.
func (h Hook) String() string { return hooks.word(h) }

// MarshalText gives the word that String gives. It fails for a number that is no hook.
func (h Hook) MarshalText() ([]byte, error) { return hooks.marshal(h) }

// UnmarshalText takes the words that MarshalText gives.
func (h *Hook) UnmarshalText(word []byte) error { return hooks.unmarshal(h, word) }

var splits = vocabulary[Split]{
	words: []string{
		SplitNone:        "",
		SplitPort:        "port",
		SplitRemote:      "remote",
		SplitPID:         "pid",
		SplitComm:        "comm",
		SplitNetNS:       "netns",
		SplitCgroup:      "cgroup",
		SplitHandler:     "handler",
		SplitDestination: "destination",
	},
	unknown: "totals cannot be split by %q: there are %s", between: ", ", last: ", ",
}

// Splits lists all that totals can be split by, SplitNone first.
func Splits() []Split { return splits.all() }

// String gives the word, such as "port", and "" for SplitNone.
func (s Split) String() string { return splits.word(s) }

// MarshalText gives the word that String gives. It fails for a number that is no split.
func (s Split) MarshalText() ([]byte, error) { return splits.marshal(s) }

// UnmarshalText takes the words that MarshalText gives.
func (s *Split) UnmarshalText(word []byte) error { return splits.unmarshal(s, word) }

var rstEnds = vocabulary[RSTEnd]{
	words: []string{
		RSTEndUnknown:  "",
		RSTEndSocket:   "socket",
		RSTEndMinisock: "minisock",
		RSTEndListener: "listener",
		RSTEndNoSocket: "no_socket",
	},
	unknown: "nothing that sends RSTs is called %q: there are %s", between: ", ", last: " and ",
}

// RSTEnds lists what can send an RST, RSTEndUnknown first.
func RSTEnds() []RSTEnd { return rstEnds.all() }

// String gives the word, such as "no_socket", and "" for RSTEndUnknown.
func (e RSTEnd) String() string { return rstEnds.word(e) }

// MarshalText gives the word that String gives. It fails for a number that is no RSTEnd.
func (e RSTEnd) MarshalText() ([]byte, error) { return rstEnds.marshal(e) }

// UnmarshalText takes the words that MarshalText gives.
func (e *RSTEnd) UnmarshalText(word []byte) error { return rstEnds.unmarshal(e, word) }

var stacks = vocabulary[Stacks]{
	words: []string{
		StacksKernel: "kernel",
		StacksUser:   "user",
		StacksBoth:   "both",
	},
	first:   StacksKernel,
	unknown: "no stacks are called %q: there are %s", between: ", ", last: " and ",
}

// AllStacks lists what can be asked for: StacksKernel, StacksUser and StacksBoth.
func AllStacks() []Stacks { return stacks.all() }

// String gives the word, such as "kernel".
func (s Stacks) String() string { return stacks.word(s) }

// MarshalText gives the word that String gives. It fails for StacksNone.
func (s Stacks) MarshalText() ([]byte, error) { return stacks.marshal(s) }

// UnmarshalText takes the words that MarshalText gives.
func (s *Stacks) UnmarshalText(word []byte) error { return stacks.unmarshal(s, word) }

var segmentKinds = vocabulary[SegmentKind]{
	words: []string{
		SegmentRSTSent:     "rst_sent",
		SegmentRSTReceived: "rst_received",
		SegmentSYNACKAgain: "synack_again",
	},
	unknown: "no segment is called %q: there are %s", between: ", ", last: " and ",
}

// SegmentKinds lists all kinds of segments.
func SegmentKinds() []SegmentKind { return segmentKinds.all() }

// String gives the word, such as "rst_sent".
func (k SegmentKind) String() string { return segmentKinds.word(k) }

// MarshalText gives the word that String gives. It fails for a number that is no kind.
func (k SegmentKind) MarshalText() ([]byte, error) { return segmentKinds.marshal(k) }

// UnmarshalText takes the words that MarshalText gives.
func (k *SegmentKind) UnmarshalText(word []byte) error { return segmentKinds.unmarshal(k, word) }

var featureStates = vocabulary[FeatureState]{
	words: []string{
		FeatureMissing:   "missing",
		FeatureInUse:     "in use",
		FeatureAvailable: "available",
		FeatureUnclear:   "unclear",
	},
	unknown: "no state of a feature is called %q: there are %s", between: ", ", last: " and ",
}

// FeatureStates lists all states of a feature.
func FeatureStates() []FeatureState { return featureStates.all() }

// String gives the words, such as "in use".
func (s FeatureState) String() string { return featureStates.word(s) }

// MarshalText gives the words that String gives. It fails for a number that is no state of a feature.
func (s FeatureState) MarshalText() ([]byte, error) { return featureStates.marshal(s) }

// UnmarshalText takes the words that MarshalText gives.
func (s *FeatureState) UnmarshalText(word []byte) error { return featureStates.unmarshal(s, word) }
