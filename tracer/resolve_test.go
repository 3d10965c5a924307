package tracer

import (
	"bytes"
	"encoding/binary"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unsafe"

	"finwait/internal/ktime"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func testClock() *ktime.Clock {
	return ktime.NewClock(func() (int64, int64) { return 0, 1_000_000_000 })
}

// recorded is an event as the kernel wrote it: FIN_WAIT_2 -> TIME_WAIT of a minisock.
func recorded() bpfEvent {
	ev := bpfEvent{
		TimeNs: 500_043_159, SinceNs: 500_000_000, Cookie: 4098,
		Owner:  bpfOwner{CgroupId: 1, Pid: 11054, Uid: 1000, Holder: 1},
		Closer: bpfCloser{Pid: 11055},
		From:   uint8(FinWait2), To: uint8(TimeWait), Precision: uint8(PrecisionExact), Role: uint8(RoleClient),
		Reason: uint8(ReasonFinReceived), Flags: uint8(bpfEventFlagsEVENT_MINISOCK), Hook: uint8(HookKfreeSKB),
	}
	ev.Tuple.Netns, ev.Tuple.Family, ev.Tuple.Sport, ev.Tuple.Dport = 4026531840, familyIPv4, 54334, 33403
	ev.Tuple.NetnsCookie = 8193
	copy(ev.Tuple.Saddr[:], []byte{127, 0, 0, 1})
	copy(ev.Tuple.Daddr[:], []byte{10, 1, 2, 3})
	copy(ev.Owner.Comm[:], "python3")
	copy(ev.Closer.Comm[:], "sh")
	return ev
}

func comm(s string) (c Comm) {
	copy(c[:], s)
	return c
}

func diff(want, got any) string {
	return cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{}))
}

func TestResolve(t *testing.T) {
	full := Transition{
		Time: time.Unix(1, 500_043_159).UTC(), Ktime: 500_043_159, Cookie: 4098, NetNS: 4026531840, NetNSCookie: 8193,
		Local: netip.MustParseAddrPort("127.0.0.1:54334"), Remote: netip.MustParseAddrPort("10.1.2.3:33403"),
		From: FinWait2, To: TimeWait, Duration: 43159, Precision: PrecisionExact, Role: RoleClient,
		Owner:  Owner{Process{11054, comm("python3")}, true, 1000, 1},
		Closer: Process{PID: 11055, Comm: comm("sh")},
		Reason: ReasonFinReceived, Source: SourceMinisock,
	}
	cases := map[string]struct {
		event func(*bpfEvent)
		want  func(*Transition)
	}{
		"as recorded": {func(*bpfEvent) {}, func(*Transition) {}},
		"start not seen": {
			func(e *bpfEvent) { e.SinceNs, e.Precision = 0, uint8(PrecisionUnknown) },
			func(w *Transition) { w.Duration, w.Precision = 0, PrecisionUnknown }},
		"start claimed, but not dated": {
			func(e *bpfEvent) { e.SinceNs = 0 },
			func(w *Transition) { w.Duration, w.Precision = 0, PrecisionUnknown }},
		"dated, but not claimed": {
			func(e *bpfEvent) { e.Precision = uint8(PrecisionUnknown) },
			func(w *Transition) { w.Duration, w.Precision = 0, PrecisionUnknown }},
		"start after the end": {
			func(e *bpfEvent) { e.SinceNs = e.TimeNs + 1 },
			func(w *Transition) { w.Duration, w.Precision = 0, PrecisionUnknown }},
		"start further back than a duration reaches": {
			func(e *bpfEvent) { e.SinceNs, e.TimeNs = 1, 1<<63+500_043_159 },
			func(w *Transition) {
				w.Time, w.Ktime = time.Unix(0, math.MinInt64+1_500_043_159).UTC(), math.MinInt64+500_043_159
				w.Duration, w.Precision = 0, PrecisionUnknown
			}},
		"known in a way that is not known": {
			func(e *bpfEvent) { e.Precision = uint8(PrecisionAtLeast) + 1 },
			func(w *Transition) { w.Duration, w.Precision = 0, PrecisionUnknown }},
		"at least": {
			func(e *bpfEvent) { e.Precision = uint8(PrecisionAtLeast) },
			func(w *Transition) { w.Precision = PrecisionAtLeast }},
		"nobody's": {
			func(e *bpfEvent) { e.Owner.Pid, e.Closer.Pid = 0, 0 }, // a comm may be left from before
			func(w *Transition) { w.Owner, w.Closer = Owner{}, Process{} }},
		"IPv6": {
			func(e *bpfEvent) { e.Tuple.Family, e.Tuple.Saddr[15], e.Tuple.Daddr[15] = familyIPv6, 1, 2 },
			func(w *Transition) {
				w.Local = netip.MustParseAddrPort("[7f00:1::1]:54334")
				w.Remote = netip.MustParseAddrPort("[a01:203::2]:33403")
			}},
		"re-armed": {
			func(e *bpfEvent) {
				e.From, e.To, e.Rearms = uint8(TimeWait), uint8(Closed), 3
				e.Reason = uint8(ReasonExpired)
			},
			func(w *Transition) {
				w.From, w.To, w.Rearms, w.Reason, w.Detail = TimeWait, Closed, 3, ReasonExpired, DetailTimeWait
			}},
		"an orphan that expired": {
			func(e *bpfEvent) { e.From, e.To, e.Reason = uint8(FinWait2), uint8(Closed), uint8(ReasonExpired) },
			func(w *Transition) { w.From, w.To, w.Reason, w.Detail = FinWait2, Closed, ReasonExpired, DetailOrphan }},
		"given up": {
			func(e *bpfEvent) {
				e.Reason, e.Detail, e.Err, e.Retransmits = uint8(ReasonGivenUp), uint8(DetailClose), 113, 2
			},
			func(w *Transition) {
				w.Reason, w.Detail, w.Errno, w.Retransmits = ReasonGivenUp, DetailClose, 113, 2
			}},
		"full socket": {
			func(e *bpfEvent) { e.Flags = 0 },
			func(w *Transition) { w.Source = SourceSocket }},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			ev, want := bpfWideEvent{Event: recorded()}, full
			c.event(&ev.Event)
			c.want(&want)
			got := Transition{Rearms: 99, Owner: Owner{UID: 99}, Source: 99} // of the transition before
			resolve(&ev, testClock(), &got)
			if d := diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestResolveRaw(t *testing.T) {
	ev := recorded()
	ev.Minisock, ev.TimerLeft, ev.Cpu, ev.Err = 0xffff888108cd0400, -3, 1, 104
	var got RawEvent
	resolveRaw(&bpfWideEvent{Event: ev}, testClock(), &got)
	want := RawEvent{
		Time: time.Unix(1, 500_043_159).UTC(), Ktime: 500_043_159, Hook: HookKfreeSKB, CPU: 1,
		Task: Process{PID: 11054, Comm: comm("python3")}, Cookie: 4098, NetNS: 4026531840, NetNSCookie: 8193,
		Local: netip.MustParseAddrPort("127.0.0.1:54334"), Remote: netip.MustParseAddrPort("10.1.2.3:33403"),
		From: FinWait2, To: TimeWait, Err: 104, Minisock: 0xffff888108cd0400, TimerLeft: -3,
	}
	if d := diff(want, got); d != "" {
		t.Error(d)
	}
}

func bytesOf(ev *bpfEvent) []byte {
	return append([]byte(nil), unsafe.Slice((*byte)(unsafe.Pointer(ev)), eventSize)...)
}

func TestDecode(t *testing.T) {
	want := recorded()
	handler := bpfHandler{Pid: 7, Comm: comm("nginx")}
	got := bpfWideEvent{Handler: handler} // of the record before
	if err := decode(bytesOf(&want), &got); err != nil || got != (bpfWideEvent{Event: want}) {
		t.Errorf("decode: %v\n%s", err, cmp.Diff(want, got.Event))
	}
	if err := decode(bytesOf(&want)[:eventSize-1], &got); err == nil {
		t.Error("a short record was accepted")
	}
	if binary.NativeEndian.Uint64(bytesOf(&want)) != want.TimeNs {
		t.Error("the event does not begin with its time")
	}
	wide := bpfWideEvent{Event: want, Handler: handler}
	sample := unsafe.Slice((*byte)(unsafe.Pointer(&wide)), wideSize)
	if err := decode(sample, &got); err != nil || got != wide {
		t.Errorf("decode with a handler: %v, %+v", err, got.Handler)
	}
}

// Any bytes make a transition that claims nothing which is not in them.
func FuzzResolve(f *testing.F) {
	ev := recorded()
	f.Add(bytesOf(&ev))
	f.Add(make([]byte, eventSize))
	f.Add(bytes.Repeat([]byte{0xff}, eventSize))
	ancient := recorded()
	ancient.SinceNs, ancient.TimeNs = 1, math.MaxUint64
	f.Add(bytesOf(&ancient))
	f.Add(bytesOf(&ev)[1:])
	f.Fuzz(func(t *testing.T, sample []byte) {
		var wide bpfWideEvent
		ev := &wide.Event
		if err := decode(sample, &wide); (err != nil) != (len(sample) < eventSize) {
			t.Fatalf("decode of %d bytes: %v", len(sample), err)
		} else if err != nil {
			return
		}
		got := Transition{Duration: 99, Precision: PrecisionExact, Owner: Owner{UID: 99}, Closer: Process{PID: 99}} // of the one before
		resolve(&wide, testClock(), &got)
		checkDuration(t, ev, &got)
		checkWords(t, ev, &got)
		if wide.Handler.Pid == 0 && got.Handler != (Process{}) {
			t.Errorf("handler %v of nobody", got.Handler)
		}
		if ev.Owner.Pid == 0 && got.Owner != (Owner{}) || ev.Closer.Pid == 0 && got.Closer != (Process{}) {
			t.Errorf("owner %v, closer %v of nobody", got.Owner, got.Closer)
		}

		var raw RawEvent
		resolveRaw(&wide, testClock(), &raw)
		checkWord(t, raw.Hook.String(), ev.Hook, uint8(bpfHookHOOK_COUNT-1))
	})
}

func checkDuration(t *testing.T, ev *bpfEvent, got *Transition) {
	switch {
	case got.Duration < 0:
		t.Errorf("negative duration %v", got.Duration)
	case !got.Known() && got.Duration != 0:
		t.Errorf("unknown, yet %v", got.Duration)
	case !got.Known():
		return
	case ev.SinceNs == 0 || uint64(got.Duration) != ev.TimeNs-ev.SinceNs || ev.SinceNs > ev.TimeNs:
		t.Errorf("%v, from %d to %d", got.Duration, ev.SinceNs, ev.TimeNs)
	case uint8(got.Precision) != ev.Precision || got.Precision > PrecisionAtLeast:
		t.Errorf("precision %v of %d", got.Precision, ev.Precision)
	}
}

func checkWords(t *testing.T, ev *bpfEvent, got *Transition) {
	checkWord(t, got.Reason.String(), ev.Reason, uint8(bpfReasonREASON_COUNT-1))
	checkWord(t, got.Role.String(), ev.Role, uint8(bpfRoleROLE_COUNT-1))
	for n, s := range map[uint8]State{ev.From: got.From, ev.To: got.To} {
		if known := n >= uint8(Established) && n <= uint8(NewSynRecv); known == strings.HasPrefix(s.String(), "STATE_") {
			t.Errorf("state %d is %q", n, s)
		}
	}
}

// checkWord: what is past the last that is known is called unknown, and nothing else is.
func checkWord(t *testing.T, word string, n, last uint8) {
	if (word == "unknown") != (n > last) {
		t.Errorf("%d of %d is %q", n, last, word)
	}
}

// The reader handles an event without allocating.
func TestResolveAllocatesNothing(t *testing.T) {
	ev := recorded()
	sample, clock := bytesOf(&ev), testClock()
	var wide bpfWideEvent
	var got Transition
	if n := testing.AllocsPerRun(1000, func() {
		if err := decode(sample, &wide); err != nil {
			t.Fatal(err)
		}
		resolve(&wide, clock, &got)
	}); n != 0 {
		t.Errorf("%v allocations per event", n)
	}
}

func BenchmarkResolve(b *testing.B) {
	ev := recorded()
	sample, clock := bytesOf(&ev), testClock()
	var wide bpfWideEvent
	var got Transition
	b.ReportAllocs()
	for b.Loop() {
		if err := decode(sample, &wide); err != nil {
			b.Fatal(err)
		}
		resolve(&wide, clock, &got)
	}
}

// The idle task, in whose context a softirq can run, has a name and no pid: it is nobody.
func TestRawOfTheIdleTask(t *testing.T) {
	ev := bpfWideEvent{Event: bpfEvent{Owner: bpfOwner{Comm: [16]uint8{'s', 'w', 'a', 'p'}}}}
	var r RawEvent
	resolveRaw(&ev, ktime.NewClock(func() (int64, int64) { return 0, 0 }), &r)
	if r.Task != (Process{}) {
		t.Errorf("task %+v", r.Task)
	}
	ev.Event.Owner.Pid = 1
	resolveRaw(&ev, ktime.NewClock(func() (int64, int64) { return 0, 0 }), &r)
	if r.Task.PID != 1 || r.Task.Comm.String() != "swap" {
		t.Errorf("task %+v", r.Task)
	}
}
