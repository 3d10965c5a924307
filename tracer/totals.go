package tracer

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"time"
)

// numReasons, numDetails and numRoles are what the kernel side has room for
// (bpf/tally.h), so that one that is added there is counted here.
const (
	numStates  = int(NewSynRecv) + 1
	numReasons = len(bpfTotals{}.Ends[0][0])
	numDetails = len(bpfTotals{}.Details[0])
	numRoles   = len(bpfTotals{}.Edges)
)

// Keys of durations that the kernel side counts apart (enum durations_apart in bpf/tally.h).
const (
	handshakesKey = uint32(len(bpfTotals{}.Edges[0]))
	sessionsKey   = handshakesKey + 1 // of the first role
	durationsKeys = sessionsKey + uint32(numRoles)
)

// Totals is what happened to all sockets that pass the filter. The kernel side counts
// it, whether or not Run keeps up.
type Totals struct {
	Edges     [numStates][numStates]uint64  // transitions, [from][to]
	Ends      [numStates][numReasons]uint64 // those to CLOSED, [from][reason]
	Details   [numStates][numDetails]uint64 // those of them that have a detail, [from][detail]
	Live      [numStates]int64              // sockets in each state now; not of CLOSED
	Durations [numStates]Durations          // spent in each state
	Rearms    uint64                        // of timers of TIME_WAIT
	Ungrouped uint64                        // transitions for whose group there was no room
	Gone      [numStates]uint64             // live sockets of each state whose end was missed: LossMissed

	Roles      [numRoles]RoleTotals // Edges and Ends by the socket's role; together they are those
	Handshakes Durations            // those of Durations[SynSent] that ended in ESTABLISHED: a client's handshake
	Sessions   [numRoles]Durations  // Durations[Established] by role: from the handshake to the first FIN, or to an RST
}

// RoleTotals are the transitions of sockets that have one role.
type RoleTotals struct {
	Edges [numStates][numStates]uint64  // [from][to]
	Ends  [numStates][numReasons]uint64 // those to CLOSED, [from][reason]
}

// ActiveCloses is how many connections sent the first FIN: they left ESTABLISHED, or
// SYN_RECV, for FIN_WAIT_1. If both ends send one before they receive any, both did.
func (r *RoleTotals) ActiveCloses() uint64 {
	return r.Edges[Established][FinWait1] + r.Edges[SynRecv][FinWait1]
}

// PassiveCloses is how many connections received the first FIN.
func (r *RoleTotals) PassiveCloses() uint64 { return r.Edges[Established][CloseWait] }

// StateTotals is what happened to one state.
type StateTotals struct {
	Live          int64
	Entered, Left uint64
	Timed         uint64        // of Left, those of which the start was seen
	Spent         time.Duration // in the state, by those together
	Durations     *Durations    // of those, each; nil: there are none, or Config.GroupSums
}

// Add adds o, which may be nil.
func (st *StateTotals) Add(o *StateTotals) {
	if o == nil {
		return
	}
	st.Live += o.Live
	st.Entered += o.Entered
	st.Left += o.Left
	st.Timed += o.Timed
	st.Spent += o.Spent
	if o.Durations != nil {
		if st.Durations == nil {
			st.Durations = new(Durations)
		}
		st.Durations.merge(o.Durations)
	}
}

// State gives the totals of one state. CLOSED has none: a socket is CLOSED before the
// kernel reports it for the first time.
func (t *Totals) State(s State) StateTotals {
	if s == Closed {
		return StateTotals{}
	}
	d := t.Durations[s]
	st := StateTotals{Live: t.Live[s], Timed: d.Count(), Spent: d.Total, Durations: &d}
	for other := range t.Edges {
		st.Entered += t.Edges[other][s]
		if leaves(s, State(other)) {
			st.Left += t.Edges[s][other]
		}
	}
	return st
}

// leaves reports whether a transition ends a socket's time in from. A listener stays
// what it is when a child comes out of it; CLOSED is not counted.
func leaves(from, to State) bool {
	return from != Closed && (from != Listen || to == Closed)
}

// An Ending is a state that sockets left for CLOSED, why, and how often.
type Ending struct {
	State  State
	Reason Reason
	Detail Detail
	Count  uint64
}

// Endings are the ways in which sockets closed, in the order of states, reasons and
// details. Their counts add up to those of Ends.
func (t *Totals) Endings() (all []Ending) {
	for s := range t.Ends {
		for reason, n := range t.Ends[s] {
			var detailed []Ending
			for _, d := range Details() {
				if c := t.Details[s][d]; c > 0 && d.Reason() == Reason(reason) {
					// While sockets close, the two counts are not of the same moment.
					c = min(c, n)
					n -= c
					detailed = append(detailed, Ending{State(s), Reason(reason), d, c})
				}
			}
			if n > 0 {
				all = append(all, Ending{State(s), Reason(reason), DetailNone, n})
			}
			all = append(all, detailed...)
		}
	}
	return all
}

// Add counts one transition as the kernel does (tally() and tally_move() of
// bpf/tally.h). Of all transitions that Run hands over it makes the totals that
// Totals reads, with these exceptions:
//
//   - Ungrouped and Gone stay 0.
//   - What was lost is missing. What the ring buffer had no room for is missing here only.
//   - Live counts from the first transition on. A socket that was open before is -1
//     when it leaves its state; Totals knows it.
//   - A re-arm is counted when the TIME_WAIT ends, in Totals when it happens.
//   - A filter on single transitions (Filter.States, From, To, MinDuration) hides
//     from Run what Live and Rearms of Totals count.
//
// A number that is no state counts nowhere.
func (t *Totals) Add(x *Transition) {
	if !states.has(x.From) || !states.has(x.To) {
		return
	}
	role := int(x.Role) & (numRoles - 1) // as the kernel side does
	t.Edges[x.From][x.To]++
	t.Roles[role].Edges[x.From][x.To]++
	if x.To == Closed && int(x.Reason) < numReasons {
		t.Ends[x.From][x.Reason]++
		t.Roles[role].Ends[x.From][x.Reason]++
	}
	if x.To == Closed && x.Detail != DetailNone && int(x.Detail) < numDetails {
		t.Details[x.From][x.Detail]++
	}
	// "At least" is no duration.
	if x.Precision == PrecisionExact || x.Precision == PrecisionJiffy {
		t.Durations[x.From].Add(x.Duration)
		switch {
		case x.From == Established:
			t.Sessions[role].Add(x.Duration)
		case x.From == SynSent && x.To == Established:
			t.Handshakes.Add(x.Duration)
		}
	}
	if leaves(x.From, x.To) {
		t.Live[x.From]--
	}
	if x.To != Closed {
		t.Live[x.To]++
	}
	t.Rearms += uint64(x.Rearms)
}

// Sub takes before away, earlier totals of the same Tracer. Live stays as it is.
func (t *Totals) Sub(before *Totals) {
	all := RoleTotals{t.Edges, t.Ends}
	all.sub(&RoleTotals{before.Edges, before.Ends})
	t.Edges, t.Ends = all.Edges, all.Ends
	for s := range t.Details {
		for d := range t.Details[s] {
			t.Details[s][d] -= before.Details[s][d]
		}
		t.Durations[s].sub(&before.Durations[s])
	}
	for s := range t.Gone {
		t.Gone[s] -= before.Gone[s]
	}
	for role := range t.Roles {
		t.Roles[role].sub(&before.Roles[role])
		t.Sessions[role].sub(&before.Sessions[role])
	}
	t.Handshakes.sub(&before.Handshakes)
	t.Rearms -= before.Rearms
	t.Ungrouped -= before.Ungrouped
}

func (r *RoleTotals) sub(before *RoleTotals) {
	for s := range r.Edges {
		for other := range r.Edges[s] {
			r.Edges[s][other] -= before.Edges[s][other]
		}
		for reason := range r.Ends[s] {
			r.Ends[s][reason] -= before.Ends[s][reason]
		}
	}
}

// add adds what the kernel counted on one CPU.
func (t *Totals) add(o *bpfTotals) {
	for role := range t.Roles {
		of := &t.Roles[role]
		for s := range t.Edges {
			for other := range t.Edges[s] {
				of.Edges[s][other] += o.Edges[role][s][other]
				t.Edges[s][other] += o.Edges[role][s][other]
			}
			for r := range t.Ends[s] {
				of.Ends[s][r] += o.Ends[role][s][r]
				t.Ends[s][r] += o.Ends[role][s][r]
			}
			t.Details[s][expiredDetail(State(s))] += o.Ends[role][s][ReasonExpired]
		}
	}
	for s := range t.Live {
		for d := range t.Details[s] {
			t.Details[s][d] += o.Details[s][d]
		}
		t.Live[s] += o.Live[s]
		t.Gone[s] += o.Gone[s]
	}
	t.Rearms += o.Rearms
	t.Ungrouped += o.Ungrouped
}

// addDurations adds what the kernel counted under a key on one CPU.
func (t *Totals) addDurations(key uint32, o *bpfDurations) {
	switch {
	case key >= sessionsKey:
		t.Sessions[key-sessionsKey].add(o)
		t.Durations[Established].add(o)
	case key == handshakesKey:
		t.Handshakes.add(o)
		t.Durations[SynSent].add(o)
	case key < uint32(numStates):
		t.Durations[key].add(o)
	}
}

// A Group is one part of the totals: those with the same value of Config.SplitBy.
type Group struct {
	Name        string // a port, address, pid, comm (of any bytes), inode number or address:port; "": not known
	NetNSCookie uint64 // with SplitNetNS: two namespaces can have had one inode number; else 0
	States      map[State]*StateTotals
	Ends        map[Reason]uint64 // transitions to CLOSED
}

// State gives the totals of one state of the group.
func (g *Group) State(s State) StateTotals {
	if st := g.States[s]; st != nil {
		return *st
	}
	return StateTotals{}
}

// Moves is how often a socket of the group entered or left a state.
func (g *Group) Moves() (n uint64) {
	for _, st := range g.States {
		n += st.Entered + st.Left
	}
	return n
}

// Live is how many sockets of the group there are.
func (g *Group) Live() (n int64) {
	for _, st := range g.States {
		n += st.Live
	}
	return n
}

// Add adds the totals of another group.
func (g *Group) Add(o *Group) {
	for s, st := range o.States {
		if g.States[s] == nil {
			g.States[s] = new(StateTotals)
		}
		g.States[s].Add(st)
	}
	for reason, n := range o.Ends {
		g.Ends[reason] += n
	}
}

// Sub takes before away, earlier totals of the same group. Live stays as it is.
func (g *Group) Sub(before *Group) {
	for s, st := range g.States {
		if old := before.States[s]; old != nil {
			st.Entered -= old.Entered
			st.Left -= old.Left
			st.Timed -= old.Timed
			st.Spent -= old.Spent
			if st.Durations != nil && old.Durations != nil {
				st.Durations.sub(old.Durations)
			}
		}
	}
	for reason := range g.Ends {
		g.Ends[reason] -= before.Ends[reason]
	}
}

// newStateTotals is what the kernel counted without buckets.
func newStateTotals(o *bpfGroupSums) StateTotals {
	return StateTotals{Live: o.Live, Entered: o.Entered, Left: o.Left, Timed: o.Timed, Spent: time.Duration(o.TotalNs)}
}

// setDurations sets what the kernel counted in buckets.
func (st *StateTotals) setDurations(o *bpfGroup) {
	st.Durations = new(Durations)
	st.Durations.add(&bpfDurations{TotalNs: o.Sums.TotalNs, MaxNs: o.MaxNs, Counts: o.Counts})
	st.Timed = st.Durations.Count()
}

// groupName is what the programs call a group.
type groupName struct {
	bytes [16]uint8
	id    uint64
}

// netNSCookie is of a group of SplitNetNS.
func (n groupName) netNSCookie() uint64 { return binary.NativeEndian.Uint64(n.bytes[:]) }

func (n groupName) name(by Split) string {
	addr := netip.AddrFrom16(n.bytes)
	if uint16(n.id) == familyIPv4 {
		addr = netip.AddrFrom4([4]byte(n.bytes[:4]))
	}
	switch {
	case by == SplitComm, by == SplitHandler:
		c := Comm(n.bytes)
		return c.String()
	case n.id == 0:
		return ""
	case by == SplitRemote:
		return addr.String()
	case by == SplitDestination:
		return netip.AddrPortFrom(addr, uint16(n.id>>16)).String()
	}
	return strconv.FormatUint(n.id, 10)
}

// NetNSTotals is what the kernel's own counters of one network namespace should have
// counted since New, by the kernel's names (RFC 1213; TcpExt in
// include/uapi/linux/snmp.h).
type NetNSTotals struct {
	ActiveOpens      int64
	PassiveOpens     int64
	AttemptFails     int64 // of sockets; the kernel also counts handshakes that fail before they have one
	MaybeFails       int64 // the kernel may have counted them as AttemptFails: SYN_RECV -> CLOSED without an error
	EstabResets      int64
	Established      int64 // entered less left
	CloseWait        int64 // entered less left
	Minisocks        int64 // born: TcpExt TW and TWKilled
	MinisocksAlive   int64 // born less ended
	Reused           int64 // TcpExt TWRecycled
	TimeWaitOverflow int64 // TcpExt TCPTimeWaitOverflow
	Lost             int64 // lost transitions whose namespace is known; the counts above lack them
}

func (n *NetNSTotals) add(o *bpfNetnsTotals) {
	n.ActiveOpens += int64(o.SynSent - o.NoSyn)
	n.PassiveOpens += int64(o.PassiveOpens)
	n.AttemptFails += int64(o.AttemptFails)
	n.MaybeFails += int64(o.MaybeFails)
	n.EstabResets += int64(o.EstabResets)
	n.Established += o.Established
	n.CloseWait += o.CloseWait
	n.Minisocks += int64(o.Minisocks)
	n.MinisocksAlive += int64(o.Minisocks - o.MinisocksGone)
	n.Reused += int64(o.Reused)
	n.TimeWaitOverflow += int64(o.TimewaitOverflow)
	n.Lost += int64(o.Lost)
}
