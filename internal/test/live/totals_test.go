//go:build linux

package live_test

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/internal/test/testnet"
	"finwait/tracer"

	"golang.org/x/sys/unix"
)

// totalsOf makes totals of the transitions that were handed over.
func totalsOf(all []tracer.Transition) *tracer.Totals {
	tot := new(tracer.Totals)
	for i := range all {
		tot.Add(&all[i])
	}
	return tot
}

// moves leaves of totals what was counted when a socket moved: not when that was,
// what is alive, or how often a timer was started again.
func moves(tot *tracer.Totals) *tracer.Totals {
	return &tracer.Totals{Edges: tot.Edges, Ends: tot.Ends}
}

// differences says what is not equal, or differs by more than most.
func differences(got, want *tracer.Totals, most uint64) (all []string) {
	compare := func(what string, got, want uint64) {
		if max(got, want)-min(got, want) > most {
			all = append(all, fmt.Sprintf("%s: %d, want %d", what, got, want))
		}
	}
	for _, from := range tracer.States() {
		for _, to := range tracer.States() {
			compare(fmt.Sprint(from, " -> ", to), got.Edges[from][to], want.Edges[from][to])
		}
		for reason := range want.Ends[from] {
			compare(fmt.Sprint(from, " for ", tracer.Reason(reason)), got.Ends[from][reason], want.Ends[from][reason])
		}
		if n := (got.Live[from] - want.Live[from]); uint64(max(n, -n)) > most {
			all = append(all, fmt.Sprintf("alive in %v: %d, want %d", from, got.Live[from], want.Live[from]))
		}
		a, b := got.State(from), want.State(from)
		compare(fmt.Sprint(from, " entered"), a.Entered, b.Entered)
		compare(fmt.Sprint(from, " left"), a.Left, b.Left)
		compare(fmt.Sprint(from, " timed"), a.Durations.Count(), b.Durations.Count())
		if d, w := &got.Durations[from], &want.Durations[from]; most == 0 && *d != *w {
			all = append(all, fmt.Sprintf("time spent in %v: %v, longest %v, want %v and %v, or distributed in another way", from, d.Total, d.Max, w.Total, w.Max))
		}
	}
	if most == 0 {
		compare("re-arms", got.Rearms, want.Rearms)
		compare("ungrouped", got.Ungrouped, want.Ungrouped)
		if len(all) == 0 && *got != *want {
			all = append(all, "something that is not compared by name")
		}
	}
	return all
}

func totals(t *testing.T, tr *tracer.Tracer) *tracer.Totals {
	t.Helper()
	tot, err := tr.Totals()
	if err != nil {
		t.Fatal(err)
	}
	return tot
}

// live returns the live sockets by state, without states that have none.
func live(tot *tracer.Totals) sandbox.Census {
	c := make(sandbox.Census)
	for _, s := range tracer.States() {
		if n := tot.Live[s]; n != 0 {
			c[uint8(s)] = int(n)
		}
	}
	return c
}

// The totals are the sum of the stream, to the nanosecond. They include every transition, also if
// the ring has no room for it. The kernel counts as many TIME_WAITs, and has as many sockets.
func TestTotals(t *testing.T) {
	t.Parallel()
	testnet.Attempts(t, totalsOnce)
}

// totalsOnce returns what was lost, or what the kernel did not report. Then the totals cannot be
// compared. Otherwise it returns "".
func totalsOnce(t *testing.T) string {
	t.Helper()
	ns := sandbox.New(t)
	filter := tracer.Filter{NetNS: []uint64{ns.Cookie}}
	kept, shown, few := newRecorder(t), newRecorder(t), newRecorder(t)
	whole := start(t, tracer.Config{Filter: filter}, kept)
	bare := start(t, tracer.Config{Filter: filter, NoTotals: true}, shown)
	page := start(t, tracer.Config{Filter: filter, RingBytes: uint32(os.Getpagesize())}, few)
	only, err := tracer.New(tracer.Config{Filter: filter, TotalsOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer only.Close()

	before := timeWaits(ns)
	pair := ns.Pair(sandbox.Families[0])
	pair.Client.Close()
	waitPort(t, ns, pair.Client.Local.Port(), tracer.FinWait2)
	pair.Server.Reset() // ends a minisock
	pair.Listener.Close()
	few.hold(func() { load(t, ns) })
	waitStates(t, ns, tracer.LastAck, 0)
	left := ns.States()
	made := uint64(timeWaits(ns) - before)
	if len(left) != 1 || left[uint8(tracer.TimeWait)] == 0 {
		t.Fatalf("the kernel has %v, want TIME_WAITs only", left)
	}
	whole.stop(t)
	page.stop(t)
	bare.stop(t)

	lost := whole.stats(t).Lost.Total() + bare.stats(t).Lost.Total() + page.stats(t).Lost.Total() - page.stats(t).Lost.RingFull
	if lost > 0 {
		return fmt.Sprintf("%d transitions were lost", lost)
	}
	want := totals(t, whole.Tracer)
	for _, d := range differences(totalsOf(kept.snapshot()), want, 0) {
		t.Errorf("of the stream: %s", d)
	}

	if none, err := bare.Totals(); err == nil {
		t.Errorf("totals where none are kept: %+v", none)
	}

	// Programs that run one after the other date the same transition differently.
	// What is told late can be told after a tracer has been stopped.
	want = moves(want)
	for name, got := range map[string]*tracer.Totals{
		"one page": totals(t, page.Tracer), "totals only": totals(t, only), "no totals": totalsOf(shown.snapshot()),
	} {
		got = moves(got)
		if late {
			got.Edges[tracer.FinWait2][tracer.TimeWait] = want.Edges[tracer.FinWait2][tracer.TimeWait]
		}
		for _, d := range differences(got, want, 0) {
			t.Errorf("%s: %s", name, d)
		}
	}
	if st := page.stats(t); st.Lost.RingFull == 0 {
		t.Error("nothing was lost in a ring buffer of one page: this tests nothing")
	}
	for name, tr := range map[string]*tracer.Tracer{"stream": whole.Tracer, "one page": page.Tracer, "totals only": only} {
		tot := totals(t, tr)
		if late {
			tot.Edges[tracer.FinWait2][tracer.TimeWait] += uint64(tot.Live[tracer.FinWait2])
			tot.Live[tracer.TimeWait] += tot.Live[tracer.FinWait2]
			tot.Live[tracer.FinWait2] = 0
		}
		// The kernel also counts the FIN_WAIT_2 that was reset.
		if got := tot.State(tracer.TimeWait).Entered + 1; got != made {
			return fmt.Sprintf("%s: %d minisocks, the kernel made %d", name, got, made)
		}
		if c := live(tot); !maps.Equal(c, left) {
			return fmt.Sprintf("%s: alive are %v, the kernel has %v", name, c, left)
		}
	}
	return ""
}

// The stream says all that the totals say, if it begins before the first socket: also
// what is alive. What was lost is missing, and no more than that.
func TestTotalsOfTheStream(t *testing.T) {
	t.Parallel()
	testnet.Attempts(t, totalsOfTheStreamOnce)
}

// totalsOfTheStreamOnce says what was lost, if that was not for want of room in the ring.
func totalsOfTheStreamOnce(t *testing.T) string {
	t.Helper()
	ns := sandbox.New(t)
	filter := tracer.Filter{NetNS: []uint64{ns.Cookie}}
	if n := len(ns.States()); n > 0 {
		t.Fatalf("sockets in %d states are older than the test", n)
	}
	kept, few := newRecorder(t), newRecorder(t)
	whole := start(t, tracer.Config{Filter: filter}, kept)
	page := start(t, tracer.Config{Filter: filter, RingBytes: uint32(os.Getpagesize())}, few)

	for _, f := range sandbox.Families {
		ns.Pair(f) // stays
		p := ns.Pair(f)
		p.Client.Close()
		p.Server.WaitState(uint8(tracer.CloseWait)) // stays
		p = ns.Pair(f)
		p.Server.Reset()
		p.Client.WaitState(uint8(tracer.Closed))
		p.Listener.Close()
	}
	few.hold(func() { load(t, ns) })
	whole.stop(t)
	page.stop(t)

	for name, run := range map[string]struct {
		*running
		kept *recorder
	}{"stream": {whole, kept}, "one page": {page, few}} {
		lost := run.stats(t).Lost
		if n := lost.Total() - lost.RingFull; n > 0 && !testing.Short() {
			return fmt.Sprintf("%s: %d transitions were lost", name, n)
		}
		got, want := totalsOf(run.kept.snapshot()), totals(t, run.Tracer)
		for _, d := range differences(got, want, lost.Total()) {
			t.Errorf("%s, %d lost: %s", name, lost.Total(), d)
		}
		// The totals count what the ring had no room for, and the stream has nothing else than they have.
		var missing, beyond uint64
		for from := range want.Edges {
			for to, n := range want.Edges[from] {
				missing += n - min(got.Edges[from][to], n)
				beyond += got.Edges[from][to] - min(got.Edges[from][to], n)
			}
		}
		if missing != lost.RingFull || beyond > 0 {
			t.Errorf("%s: the stream lacks %d transitions of the totals and has %d more; lost: %+v", name, missing, beyond, lost)
		}
		if name == "stream" && (got.Live[tracer.Listen] != 4 || got.Live[tracer.Established] != 4 || got.Live[tracer.CloseWait] != 2) {
			t.Errorf("alive: %v", live(got))
		}
	}
	if st := page.stats(t); st.Lost.RingFull == 0 {
		t.Error("nothing was lost in a ring buffer of one page: half of this tests nothing")
	}
	return ""
}

// As many sockets are alive in each state as the kernel lists: those that were
// there before, and those that came; and none when all are gone.
func TestLiveTotals(t *testing.T) {
	t.Parallel()
	ns := sandbox.New(t)
	inhabit(t, ns)
	older := testnet.Fill(t, ns, testnet.Loopback()...)
	tr := start(t, tracer.Config{Filter: tracer.Filter{NetNS: []uint64{ns.Cookie}}}, newRecorder(t))
	delete(older, uint8(tracer.NewSynRecv)) // a request has no socket yet
	if got := live(totals(t, tr.Tracer)); !maps.Equal(got, older) {
		t.Errorf("of older sockets there are %v, want %v", got, older)
	}
	for range 3 {
		p := ns.Pair(sandbox.Families[0])
		p.Client.Close()
		p.Server.WaitState(uint8(tracer.CloseWait))
	}
	older[uint8(tracer.Listen)] += 3
	older[uint8(tracer.FinWait2)] += 3
	older[uint8(tracer.CloseWait)] += 3
	waitStates(t, ns, tracer.FinWait2, older[uint8(tracer.FinWait2)])
	if got := live(totals(t, tr.Tracer)); !maps.Equal(got, older) {
		t.Errorf("with younger sockets there are %v, want %v", got, older)
	}
}

// Older sockets, also minisocks, leave the live counts like new ones.
func TestLiveTotalsAreGone(t *testing.T) {
	t.Parallel()
	ns := sandbox.New(t)
	leave := inhabit(t, ns)
	ns.Pair(sandbox.Families[0])
	orphan, gone := ns.Pair(sandbox.Families[0]), ns.Pair(sandbox.Families[1])
	orphan.Client.Close()
	gone.Client.Close()
	gone.Server.WaitState(uint8(tracer.CloseWait))
	gone.Server.Close()
	waitStates(t, ns, tracer.TimeWait, 1)
	waitStates(t, ns, tracer.FinWait2, 1)
	tr, err := tracer.New(tracer.Config{TotalsOnly: true, Filter: tracer.Filter{NetNS: []uint64{ns.Cookie}}})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	want := sandbox.Census{
		uint8(tracer.Listen): 3, uint8(tracer.Established): 2, uint8(tracer.CloseWait): 1,
		uint8(tracer.FinWait2): 1, uint8(tracer.TimeWait): 1,
	}
	if got := live(totals(t, tr)); !maps.Equal(got, want) {
		t.Errorf("alive: %v, want %v", got, want)
	}
	leave()
	ns.Remove()
	for deadline := time.Now().Add(30 * time.Second); len(live(totals(t, tr))) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the namespace is gone, but these are alive: %v", live(totals(t, tr)))
		}
	}
}

// A TIME_WAIT that expires is counted in the bucket of its length.
func TestTotalsOfAWholeTimeWait(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a TIME_WAIT takes a minute; the tests on the running kernel wait for it")
	}
	ns := sandbox.New(t)
	kept := newRecorder(t)
	tr := start(t, tracer.Config{Filter: tracer.Filter{NetNS: []uint64{ns.Cookie}}}, kept)
	p := ns.Pair(sandbox.Families[0])
	p.Client.Close()
	p.Server.WaitState(uint8(tracer.CloseWait))
	p.Server.Close()
	last := kept.chain(p.Client.Cookie).last()
	fullTimeWait(t, last)

	st := totals(t, tr.Tracer).State(tracer.TimeWait)
	d := st.Durations
	if d.Count() != 1 || d.Max != last.Duration || d.Total != last.Duration {
		t.Fatalf("%d durations, longest %v, together %v; want 1 of %v", d.Count(), d.Max, d.Total, last.Duration)
	}
	for b := range d.Buckets() {
		if last.Duration < b.Low || last.Duration >= b.High || b.High-b.Low > 1100*time.Millisecond {
			t.Errorf("%v is counted from %v to %v", last.Duration, b.Low, b.High)
		}
	}
}

// A grouping is how a tracer's totals are split.
type grouping struct {
	by   tracer.Split
	sums bool // without buckets
}

// sameStateTotals: no durations are the same as empty ones.
func sameStateTotals(a, b tracer.StateTotals) bool {
	da, db := a.Durations, b.Durations
	a.Durations, b.Durations = nil, nil
	if da == nil || db == nil {
		return a == b && da.Count() == 0 && db.Count() == 0
	}
	return a == b && *da == *db
}

// The groups of every split add up to the totals, also if they have no buckets.
func TestGroups(t *testing.T) {
	t.Parallel()
	ns := sandbox.New(t)
	filter := tracer.Filter{NetNS: []uint64{ns.Cookie}}
	tracers := make(map[grouping]*tracer.Tracer)
	splits := []tracer.Split{tracer.SplitRemote, tracer.SplitPort, tracer.SplitPID, tracer.SplitComm, tracer.SplitNetNS, tracer.SplitCgroup, tracer.SplitDestination}
	if testing.Short() {
		splits = splits[:1] // loading a tracer takes seconds on an emulated machine
	}
	groupings := []grouping{{tracer.SplitPort, true}}
	for _, by := range splits {
		groupings = append(groupings, grouping{by, false})
	}
	for _, g := range groupings {
		tr, err := tracer.New(tracer.Config{Filter: filter, TotalsOnly: true, SplitBy: g.by, GroupSums: g.sums})
		if err != nil {
			t.Fatal(err)
		}
		defer tr.Close()
		tracers[g] = tr
	}
	var ports []string
	destinations := []string{""} // the servers' ends, and the listeners
	for _, f := range sandbox.Families {
		for range 2 {
			p := ns.Pair(f)
			destinations = append(destinations, p.Listener.Local.String())
			ports = append(ports, strconv.Itoa(int(p.Listener.Local.Port())))
			p.Client.Close()
			p.Server.WaitState(uint8(tracer.CloseWait))
			p.Server.Close()
		}
	}
	refused := netip.AddrPortFrom(sandbox.Families[0].Addr, 9)
	if err := ns.Socket(sandbox.Families[0]).TryConnect(refused); err != unix.ECONNREFUSED {
		t.Fatal(err)
	}
	ports, destinations = append(ports, "9"), append(destinations, refused.String())
	slices.Sort(ports)
	slices.Sort(destinations)
	waitStates(t, ns, tracer.TimeWait, 4)

	names := map[tracer.Split][]string{
		tracer.SplitPort:  ports,
		tracer.SplitPID:   {strconv.Itoa(os.Getpid())},
		tracer.SplitComm:  {processName(t)},
		tracer.SplitNetNS: {fmt.Sprintf("%d/%d", ns.Inode, ns.Cookie)},
		// A listener has no remote address.
		tracer.SplitRemote:      {"0.0.0.0", "127.0.0.1", "::", "::1"},
		tracer.SplitDestination: destinations,
	}
	for of, tr := range tracers {
		by := of.by
		groups, err := tr.Groups()
		if err != nil {
			t.Fatal(err)
		}
		if got, want := slices.Sorted(maps.Keys(groups)), names[by]; want != nil && !slices.Equal(got, want) {
			t.Errorf("by %v: groups %q, want %q", by, got, want)
		}
		tot := totals(t, tr)
		for _, s := range tracer.States() {
			var sum tracer.StateTotals
			for _, g := range groups {
				sum.Add(g.States[s])
			}
			want := tot.State(s)
			if of.sums {
				want.Durations = nil
			}
			if !sameStateTotals(sum, want) {
				t.Errorf("by %v, only sums: %v: the groups' %v: live %d, entered %d, left %d, %d durations, %v; all's: %d, %d, %d, %d, %v", by, of.sums, s,
					sum.Live, sum.Entered, sum.Left, sum.Timed, sum.Spent, want.Live, want.Entered, want.Left, want.Timed, want.Spent)
			}
		}
		ends, wantEnds := make(map[tracer.Reason]uint64), make(map[tracer.Reason]uint64)
		for _, g := range groups {
			for reason, n := range g.Ends {
				ends[reason] += n
			}
		}
		for _, s := range tracer.States() {
			for reason, n := range tot.Ends[s] {
				if n > 0 {
					wantEnds[tracer.Reason(reason)] += n
				}
			}
		}
		if !maps.Equal(ends, wantEnds) {
			t.Errorf("by %v: the groups' ends %v, all's %v", by, ends, wantEnds)
		}
		if by == tracer.SplitDestination && groups[refused.String()].Ends[tracer.ReasonRefused] != 1 {
			t.Errorf("nothing was refused by %v: %v", refused, groups[refused.String()])
		}
		if tot.Ungrouped != 0 {
			t.Errorf("by %v: %d times there was no room", by, tot.Ungrouped)
		}
	}
}

// The number of groups is bounded. A transition without a group is counted, and is in the totals.
func TestGroupsFull(t *testing.T) {
	t.Parallel()
	ns := sandbox.New(t)
	tr, err := tracer.New(tracer.Config{
		Filter: tracer.Filter{NetNS: []uint64{ns.Cookie}}, TotalsOnly: true, SplitBy: tracer.SplitPort, GroupStates: 3,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	for range 3 {
		ns.Pair(sandbox.Families[0])
	}
	groups, err := tr.Groups()
	if err != nil {
		t.Fatal(err)
	}
	states := 0
	for _, g := range groups {
		states += len(g.States)
	}
	tot := totals(t, tr)
	if states != 3 || tot.Ungrouped == 0 || tot.State(tracer.Established).Entered != 6 {
		t.Errorf("%d states of groups, %d ungrouped, %d entered ESTABLISHED; want 3, some, 6",
			states, tot.Ungrouped, tot.State(tracer.Established).Entered)
	}
}

// A filter of transitions applies to the counts of transitions, but not to live sockets.
func TestTotalsAreFiltered(t *testing.T) {
	t.Parallel()
	ns := sandbox.New(t)
	tr, err := tracer.New(tracer.Config{TotalsOnly: true, Filter: tracer.Filter{
		NetNS: []uint64{ns.Cookie}, To: []tracer.State{tracer.Established},
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	p := ns.Pair(sandbox.Families[0])
	p.Client.Close()
	waitStates(t, ns, tracer.FinWait2, 1)
	waitStates(t, ns, tracer.CloseWait, 1)

	tot := totals(t, tr)
	var want tracer.Totals
	want.Edges[tracer.SynSent][tracer.Established], want.Edges[tracer.SynRecv][tracer.Established] = 1, 1
	for _, d := range differences(moves(tot), &want, 0) {
		t.Error(d)
	}
	if got, want := live(tot), (sandbox.Census{
		uint8(tracer.Listen): 1, uint8(tracer.FinWait2): 1, uint8(tracer.CloseWait): 1,
	}); !maps.Equal(got, want) {
		t.Errorf("alive: %v, want %v", got, want)
	}
	st, err := tr.Stats()
	if err != nil || st.Delivered != 2 || st.Seen != st.Delivered+st.Filtered {
		t.Errorf("accounts %+v, %v", st, err)
	}
}
