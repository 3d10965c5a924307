package tracer

// A hookProgram follows minisocks from one place in the kernel.
type hookProgram struct {
	name string // of the BPF program

	// The kernel function that it is attached to, and how many arguments that has
	// (net/ipv4/inet_timewait_sock.c); "": the place is a tracepoint. A value that
	// the function returns comes after its arguments.
	function string
	args     int
}

// A hookSet has all differences between the sets of hooks.
type hookSet struct {
	hooks    HookSet
	word     string
	programs []hookProgram // in the order to attach them: ends before births, or a missed end leaves a record behind

	seesRearms   bool // a program runs for each re-arm, and counts it
	needsSymbols bool // a minisock's timer is recognised by the address of its function
}

// hookSets are in the order in which HooksAuto tries them.
var hookSets = []hookSet{
	{
		hooks: HooksFentry,
		word:  "fentry",
		programs: []hookProgram{
			{bpfProgTwskKill, "inet_twsk_kill", 1},
			{bpfProgTwskSchedule, "__inet_twsk_schedule", 3},
			{bpfProgTwskAlloc, "inet_twsk_alloc", 3},
		},
		seesRearms: true,
	},
	{
		hooks: HooksTracepoint,
		word:  "tracepoint",
		programs: []hookProgram{
			{name: bpfProgTimerCancel},
			{name: bpfProgTimerExpireEntry},
			{name: bpfProgKfreeSkb},
			{name: bpfProgTimerStart},
		},
		needsSymbols: true,
	},
}

// setState follows full sockets, with every set of hooks.
var setState = []hookProgram{
	{name: bpfProgSetState},
	{name: bpfProgSetStateNested},
	{name: bpfProgSetStateThird},
	{name: bpfProgSetStateFourth},
}

// details see what a reason's detail needs, with every set of hooks, where the kernel has it.
var detailPrograms = []hookProgram{
	{name: bpfProgSendReset},
	{name: bpfProgErrorReport},
}

// handlerPrograms see who uses a connection. load() keeps those that this kernel has, if
// somebody asks for handlers.
var handlerPrograms = []hookProgram{
	{name: bpfProgRecvLength},
	{name: bpfProgSendLength},
	{name: bpfProgRcvSpaceAdjust},
	{bpfProgCskAccept, "inet_csk_accept", 2},
	{bpfProgCskAcceptFlags, "inet_csk_accept", 4},
}

// segmentPrograms see segments. load() keeps those that somebody asks for and this kernel has.
var segmentPrograms = []hookProgram{
	{name: bpfProgRstSent},
	{name: bpfProgRstSentUnexplained},
	{name: bpfProgRstReceived},
	{name: bpfProgSynackAgain},
}

// walkPrograms are run by a SocketWalk only.
var walkPrograms = []string{bpfProgFindTable, bpfProgWalkTable, bpfProgWalkBound}

// set is nil for HooksAuto.
func (h HookSet) set() *hookSet {
	for i := range hookSets {
		if hookSets[i].hooks == h {
			return &hookSets[i]
		}
	}
	return nil
}

var hookSetWords = vocabulary[HookSet]{
	words: func() []string {
		words := make([]string, len(hookSets)+1)
		words[HooksAuto] = "auto"
		for _, set := range hookSets {
			words[set.hooks] = set.word
		}
		return words
	}(),
	unknown: "hooks %q: there are %s", between: ", ", last: " and ",
}

// HookSets lists all sets of hooks, HooksAuto first.
func HookSets() []HookSet { return hookSetWords.all() }

// String gives the word: "auto", "fentry" or "tracepoint".
func (h HookSet) String() string { return hookSetWords.word(h) }

// MarshalText gives the word that String gives. It fails for a number that is no set of hooks.
func (h HookSet) MarshalText() ([]byte, error) { return hookSetWords.marshal(h) }

// UnmarshalText takes the words that MarshalText gives.
func (h *HookSet) UnmarshalText(word []byte) error { return hookSetWords.unmarshal(h, word) }
