package tracer

import (
	"testing"
	"time"
)

// spent makes a kernel's record of durations, in one CPU's map.
func spent(ds ...time.Duration) *bpfDurations {
	var sum Durations
	for _, d := range ds {
		sum.Add(d)
	}
	var o bpfDurations
	for i, n := range sum.histogram.All() {
		o.Counts[i] = n
	}
	o.TotalNs, o.MaxNs = uint64(sum.Total), uint64(sum.Max)
	return &o
}

// Totals of two CPUs, less those of an earlier moment.
func TestTotalsSub(t *testing.T) {
	moment := func(cpus [2]bpfTotals, waits ...time.Duration) *Totals {
		var tot Totals
		for i := range cpus {
			tot.add(&cpus[i])
		}
		tot.Durations[TimeWait].add(spent(waits...))
		return &tot
	}
	var a, b bpfTotals
	client, server := &a.Edges[RoleClient], &b.Edges[RoleServer]
	client[FinWait2][TimeWait], client[TimeWait][Closed] = 5, 2
	a.Ends[RoleClient][TimeWait][ReasonExpired] = 2
	a.Live[TimeWait], b.Live[TimeWait] = 5, -2 // one CPU saw them come, the other go
	before := moment([2]bpfTotals{a, b}, time.Minute, 62*time.Second)

	client[FinWait2][TimeWait] = 6
	server[TimeWait][Closed] = 2
	b.Ends[RoleServer][TimeWait][ReasonReused], b.Rearms = 2, 3
	a.Live[TimeWait], b.Live[TimeWait] = 6, -4
	now := moment([2]bpfTotals{a, b}, time.Minute, 62*time.Second, time.Second, 2*time.Second)

	now.Sub(before)
	st := now.State(TimeWait)
	if st.Live != 2 || st.Entered != 1 || st.Left != 2 || now.Rearms != 3 || now.Ends[TimeWait][ReasonExpired] != 0 || now.Ends[TimeWait][ReasonReused] != 2 {
		t.Errorf("%+v, %d re-arms, ends %v; want 2 live, 1 entered, 2 left, 3, 2 reused", st, now.Rearms, now.Ends[TimeWait])
	}
	if of := now.Roles; of[RoleClient].Edges[FinWait2][TimeWait] != 1 || of[RoleClient].Ends[TimeWait][ReasonExpired] != 0 || of[RoleServer].Ends[TimeWait][ReasonReused] != 2 {
		t.Errorf("by role: %+v", of)
	}
	d := st.Durations
	if d.Count() != 2 || d.Total != 3*time.Second || st.Timed != 2 || st.Spent != 3*time.Second {
		t.Errorf("%d durations of together %v, and %d of %v; want 2 of 3s", d.Count(), d.Total, st.Timed, st.Spent)
	}
	// 62 s are the longest of all, but not of these.
	if d.Max < 2*time.Second || d.Max > 2300*time.Millisecond {
		t.Errorf("the longest is %v, want 2s to the bucket's end", d.Max)
	}
	if p50, ok := d.Quantile(0.5); !ok || p50 < 900*time.Millisecond || p50 > 1100*time.Millisecond {
		t.Errorf("the median is %v", p50)
	}
}

// A listener stays one when a child comes out of it.
func TestListenerStays(t *testing.T) {
	var tot Totals
	tot.Edges[Closed][Listen], tot.Edges[Listen][SynRecv], tot.Edges[Listen][Closed] = 2, 10, 1
	if st := tot.State(Listen); st.Entered != 2 || st.Left != 1 {
		t.Errorf("LISTEN: %d entered, %d left; want 2, 1", st.Entered, st.Left)
	}
	if st := tot.State(Closed); st.Entered != 0 || st.Left != 0 {
		t.Errorf("CLOSED: %+v", st)
	}
}

// Of transitions the totals are made that the kernel would have made.
func TestTotalsAdd(t *testing.T) {
	move := func(from, to State, spent time.Duration, p Precision) Transition {
		return Transition{From: from, To: to, Duration: spent, Precision: p}
	}
	by := func(role Role, x Transition) Transition {
		x.Role = role
		return x
	}
	end := func(x Transition, why Reason, rearms uint32) Transition {
		x.Reason, x.Rearms = why, rearms
		return x
	}
	for name, c := range map[string]struct {
		all  []Transition
		want func(*Totals)
	}{
		"nothing": {nil, func(*Totals) {}},
		"a listener and its child": {
			[]Transition{
				move(Closed, Listen, 0, PrecisionUnknown),
				move(Listen, SynRecv, time.Second, PrecisionExact),
				move(SynRecv, Established, time.Millisecond, PrecisionExact),
			},
			func(w *Totals) {
				w.Edges[Closed][Listen], w.Edges[Listen][SynRecv], w.Edges[SynRecv][Established] = 1, 1, 1
				w.Live[Listen], w.Live[Established] = 1, 1
				w.Durations[Listen].Add(time.Second)
				w.Durations[SynRecv].Add(time.Millisecond)
			},
		},
		"a listener that is closed": {
			[]Transition{move(Closed, Listen, 0, PrecisionUnknown), end(move(Listen, Closed, 2, PrecisionExact), ReasonClosed, 0)},
			func(w *Totals) {
				w.Edges[Closed][Listen], w.Edges[Listen][Closed], w.Ends[Listen][ReasonClosed] = 1, 1, 1
				w.Durations[Listen].Add(2)
			},
		},
		"two that waited, one for as long as the timer says": {
			[]Transition{
				move(FinWait2, TimeWait, 3, PrecisionExact),
				end(move(TimeWait, Closed, time.Minute, PrecisionJiffy), ReasonExpired, 2),
				move(FinWait2, TimeWait, 4, PrecisionExact),
				end(move(TimeWait, Closed, time.Second, PrecisionExact), ReasonReused, 1),
			},
			func(w *Totals) {
				w.Edges[FinWait2][TimeWait], w.Edges[TimeWait][Closed] = 2, 2
				w.Ends[TimeWait][ReasonExpired], w.Ends[TimeWait][ReasonReused] = 1, 1
				w.Live[FinWait2] = -2 // open before
				w.Rearms = 3
				for _, d := range []time.Duration{3, 4} {
					w.Durations[FinWait2].Add(d)
				}
				for _, d := range []time.Duration{time.Minute, time.Second} {
					w.Durations[TimeWait].Add(d)
				}
			},
		},
		"at least is no duration": {
			[]Transition{end(move(Established, Closed, time.Hour, PrecisionAtLeast), ReasonReset, 0)},
			func(w *Totals) {
				w.Edges[Established][Closed], w.Ends[Established][ReasonReset] = 1, 1
				w.Live[Established] = -1
			},
		},
		"nor is what is unknown": {
			[]Transition{move(Established, CloseWait, 5, PrecisionUnknown)},
			func(w *Totals) {
				w.Edges[Established][CloseWait] = 1
				w.Live[Established], w.Live[CloseWait] = -1, 1
			},
		},
		"no time at all is one": {
			[]Transition{move(Established, CloseWait, 0, PrecisionExact)},
			func(w *Totals) {
				w.Edges[Established][CloseWait] = 1
				w.Live[Established], w.Live[CloseWait] = -1, 1
				w.Durations[Established].Add(0)
			},
		},
		"a failed connect": {
			[]Transition{move(Closed, SynSent, 0, PrecisionUnknown), end(move(SynSent, Closed, 6, PrecisionExact), ReasonRefused, 0)},
			func(w *Totals) {
				w.Edges[Closed][SynSent], w.Edges[SynSent][Closed], w.Ends[SynSent][ReasonRefused] = 1, 1, 1
				w.Durations[SynSent].Add(6)
			},
		},
		"both ends, by role": {
			[]Transition{
				by(RoleClient, move(SynSent, Established, 7, PrecisionExact)),
				by(RoleClient, move(Established, FinWait1, 8, PrecisionExact)),
				by(RoleServer, move(Established, CloseWait, 9, PrecisionExact)),
				by(RoleClient, end(move(SynSent, Closed, 10, PrecisionExact), ReasonRefused, 0)),
			},
			func(w *Totals) {
				client, server := &w.Roles[RoleClient], &w.Roles[RoleServer]
				client.Edges[SynSent][Established], client.Edges[Established][FinWait1], client.Edges[SynSent][Closed] = 1, 1, 1
				client.Ends[SynSent][ReasonRefused] = 1
				server.Edges[Established][CloseWait] = 1
				w.Edges, w.Ends = client.Edges, client.Ends
				w.Edges[Established][CloseWait] = 1
				w.Live[SynSent], w.Live[Established], w.Live[FinWait1], w.Live[CloseWait] = -2, -1, 1, 1
				w.Handshakes.Add(7)
				w.Sessions[RoleClient].Add(8)
				w.Sessions[RoleServer].Add(9)
				for s, ds := range map[State][]time.Duration{SynSent: {7, 10}, Established: {8, 9}} {
					for _, d := range ds {
						w.Durations[s].Add(d)
					}
				}
			},
		},
		"a reason that has no word": {
			[]Transition{end(move(SynSent, Closed, 0, PrecisionUnknown), Reason(numReasons-1), 0), end(move(SynSent, Closed, 0, PrecisionUnknown), 255, 0)},
			func(w *Totals) {
				w.Edges[SynSent][Closed], w.Ends[SynSent][numReasons-1] = 2, 1
				w.Live[SynSent] = -2
			},
		},
		"what is no state": {
			[]Transition{move(0, Closed, 1, PrecisionExact), move(Closed, NewSynRecv+1, 1, PrecisionExact), move(255, 255, 1, PrecisionExact)},
			func(*Totals) {},
		},
	} {
		var got, want Totals
		for i := range c.all {
			got.Add(&c.all[i])
		}
		c.want(&want)
		if want.Roles == ([numRoles]RoleTotals{}) {
			want.Roles[RoleUnknown] = RoleTotals{want.Edges, want.Ends}
			want.Sessions[RoleUnknown] = want.Durations[Established]
		}
		if got != want {
			for _, s := range States() {
				if a, b := got.State(s), want.State(s); a != b {
					t.Errorf("%s: %v: %+v, want %+v", name, s, a, b)
				}
			}
			t.Errorf("%s: edges %v, ends %v, live %v, %d re-arms; want %v, %v, %v, %d", name,
				got.Edges, got.Ends, got.Live, got.Rearms, want.Edges, want.Ends, want.Live, want.Rearms)
		}
	}
}

// What the kernel side counts apart is part of its state's durations, too. No key of its map is passed over.
func TestDurationsApart(t *testing.T) {
	spec, err := loadBpf()
	if err != nil {
		t.Fatal(err)
	}
	if n := spec.Maps[bpfMapDurations].MaxEntries; n != durationsKeys {
		t.Fatalf("the kernel side has %d keys, want %d", n, durationsKeys)
	}
	var tot Totals
	for key := range durationsKeys {
		tot.addDurations(key, spent(time.Duration(key)))
	}
	want := map[State]uint64{SynSent: 2, Established: 1 + uint64(numRoles)}
	for _, s := range States() {
		if n := tot.Durations[s].Count(); n != max(want[s], 1) {
			t.Errorf("%v: %d durations, want %d", s, n, max(want[s], 1))
		}
	}
	if tot.Handshakes.Total != time.Duration(handshakesKey) {
		t.Errorf("handshakes: %+v", tot.Handshakes)
	}
	for _, role := range []Role{RoleUnknown, RoleClient, RoleServer, RoleListener} {
		if d := tot.Sessions[role]; d.Total != time.Duration(sessionsKey)+time.Duration(role) {
			t.Errorf("sessions of role %v: %v", role, d.Total)
		}
	}
}

// Who sends the first FIN closes actively, from SYN_RECV, too.
func TestActiveCloses(t *testing.T) {
	var r RoleTotals
	r.Edges[Established][FinWait1], r.Edges[SynRecv][FinWait1], r.Edges[Established][CloseWait] = 3, 1, 5
	if r.ActiveCloses() != 4 || r.PassiveCloses() != 5 {
		t.Errorf("%d active and %d passive closes, want 4 and 5", r.ActiveCloses(), r.PassiveCloses())
	}
}

func TestGroupNames(t *testing.T) {
	v4 := [16]uint8{192, 0, 2, 1}
	v6 := [16]uint8{0x20, 1, 0xd, 0xb8, 15: 1}
	for _, c := range []struct {
		by   Split
		key  bpfGroupKey
		want string
	}{
		{SplitPort, bpfGroupKey{Id: 443}, "443"},
		{SplitPort, bpfGroupKey{}, ""},
		{SplitRemote, bpfGroupKey{Id: familyIPv4, Bytes: v4}, "192.0.2.1"},
		{SplitRemote, bpfGroupKey{Id: familyIPv6, Bytes: v6}, "2001:db8::1"},
		{SplitDestination, bpfGroupKey{Id: 443<<16 | familyIPv4, Bytes: v4}, "192.0.2.1:443"},
		{SplitDestination, bpfGroupKey{Id: 443<<16 | familyIPv6, Bytes: v6}, "[2001:db8::1]:443"},
		{SplitDestination, bpfGroupKey{}, ""},
		{SplitComm, bpfGroupKey{Bytes: [16]uint8{'c', 'u', 'r', 'l'}}, "curl"},
		{SplitComm, bpfGroupKey{}, ""},
		{SplitNetNS, bpfGroupKey{Id: 4026531840}, "4026531840"},
	} {
		if got := (groupName{c.key.Bytes, c.key.Id}).name(c.by); got != c.want {
			t.Errorf("by %v: %q, want %q", c.by, got, c.want)
		}
	}
}

// An audit compares with counters that know no filter.
func TestConfigCheck(t *testing.T) {
	for name, cfg := range map[string]Config{
		"audit of a port":     {Audit: true, Filter: Filter{Ports: []PortRange{Port(80)}}},
		"audit of one family": {Audit: true, Filter: Filter{IPv4: true}},
		"audit of an edge":    {Audit: true, Filter: Filter{From: []State{Listen}}},
		"audit of raw events": {Audit: true, Raw: true},
		"raw totals":          {TotalsOnly: true, Raw: true},
		"split raw":           {SplitBy: SplitPort, Raw: true},
		"no totals, or only":  {NoTotals: true, TotalsOnly: true},
		"a split of none":     {NoTotals: true, SplitBy: SplitPort},
		"an audit of none":    {NoTotals: true, Audit: true},
	} {
		if cfg.check() == nil {
			t.Errorf("%s passes", name)
		}
	}
	if err := (&Config{Audit: true, TotalsOnly: true, SplitBy: SplitComm}).check(); err != nil {
		t.Error(err)
	}
}
