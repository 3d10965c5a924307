package meter

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"finwait/internal/audit"
	"finwait/internal/text"
	"finwait/tracer"

	"github.com/google/go-cmp/cmp"
)

// sampleReport is what a minute of little traffic comes to.
func sampleReport() *Report {
	var tot tracer.Totals
	tot.Edges[tracer.FinWait2][tracer.TimeWait] = 3
	tot.Edges[tracer.TimeWait][tracer.Closed] = 2
	tot.Ends[tracer.TimeWait][tracer.ReasonExpired] = 1
	tot.Ends[tracer.TimeWait][tracer.ReasonReused] = 1
	tot.Details[tracer.TimeWait][tracer.DetailTimeWait] = 1
	tot.Live[tracer.TimeWait] = 1
	tot.Rearms = 4
	tot.Gone[tracer.TimeWait] = 1
	d := &tot.Durations[tracer.TimeWait]
	for _, ns := range []time.Duration{2 * time.Second, 61 * time.Second} {
		d.Add(ns)
	}
	return &Report{
		At: time.Date(2026, 11, 22, 10, 24, 1, 123456789, time.UTC), Span: time.Minute, Totals: &tot,
		Seen: 5000, Lost: tracer.Lost{Missed: 1}, Hooks: tracer.HooksTracepoint,
		Audit: []audit.Row{
			{NetNS: 4026531840, Counter: "TcpExtTW+TWKilled", Kernel: 3, Finwait: 3, Verdict: audit.Agrees},
			{NetNS: 4026532000, Verdict: audit.Explained, Cause: "was removed"},
		},
	}
}

func reportJSON(t *testing.T, r *Report) string {
	t.Helper()
	var out bytes.Buffer
	if err := NewJSON(&out).Report(r); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func reportText(t *testing.T, s *Text, r *Report) string {
	t.Helper()
	var out bytes.Buffer
	s.w = bufio.NewWriter(&out)
	if err := s.Report(r); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// The contract: keys and their order, and what is not known is null.
func TestStatJSON(t *testing.T) {
	got := reportJSON(t, sampleReport())
	if !strings.HasPrefix(got, `{"time":"2026-11-22T10:24:01.123456789Z","event":"stat","span_ns":60000000000,"counts":"host","states":[{"state":"LISTEN","live":0,`) {
		t.Errorf("it begins %.200s", got)
	}
	for _, want := range []string{
		`{"state":"FIN_WAIT_2","live":0,"entered":0,"left":3,"timed":0,"p50_ns":null,"p90_ns":null,"p99_ns":null,"max_ns":null,"total_ns":0}`,
		`{"state":"TIME_WAIT","live":1,"entered":3,"left":2,"timed":2,"p50_ns":1946157056,`,
		`"max_ns":61000000000,"total_ns":63000000000}`,
		`"edges":[{"from":"FIN_WAIT_2","to":"TIME_WAIT","count":3},{"from":"TIME_WAIT","to":"CLOSED","count":2}],` +
			`"ends":[{"state":"TIME_WAIT","reason":"expired","detail":"time_wait","count":1},{"state":"TIME_WAIT","reason":"reused","detail":"","count":1}],` +
			`"time_wait":{"rearms":4,"undisturbed_from_ns":60000000000,`,
		`"durations":[{"from_ns":1879048192,"to_ns":2013265920,"count":1},{"from_ns":60129542144,"to_ns":61203283968,"count":1}]}`,
		`"audit":[{"netns":4026531840,"counter":"TcpExtTW+TWKilled","kernel":3,"finwait":3,"verdict":"agrees"},` +
			`{"netns":4026532000,"counter":null,"kernel":null,"finwait":null,"verdict":"explained","cause":"was removed"}],` +
			`"gone":{"TIME_WAIT":1},"lost":{"ring_full":0,"map_full":0,"missed":1,"unwind":0},"hooks":"tracepoint"}` + "\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no\n%s in\n%s", want, got)
		}
	}
	if strings.Count(got, "\n") != 1 || !json.Valid([]byte(got)) {
		t.Error("more than one object")
	}
}

// A report of a command says so.
func TestStatCommand(t *testing.T) {
	r := sampleReport()
	r.Command, r.Audit = true, nil
	got, table := reportJSON(t, r), reportText(t, new(Text), r)
	if !strings.Contains(got, `,"counts":"command",`) || !strings.Contains(got, `,"audit":null,`) {
		t.Error(got)
	}
	if head, _, _ := strings.Cut(table, "\n"); head != "60.000 s of TCP: the sockets of the command and of what it started" {
		t.Error(table)
	}
}

func TestStatText(t *testing.T) {
	const want = `60.000 s of TCP

STATE            LIVE   ENTERED      LEFT        P50        P90        P99        MAX       TOTAL
FIN_WAIT_2          0         0         3          -          -          -          -           -
TIME_WAIT           1         3         2       1.9s      60.7s      60.7s    61.000s     63.000s

TRANSITION                     COUNT
FIN_WAIT_2 -> TIME_WAIT            3
TIME_WAIT -> CLOSED                2

CLOSED FROM, WHY                           COUNT
TIME_WAIT expired time_wait                    1
TIME_WAIT reused                               1

TIME_WAIT: BAND; started again 4 times
      1.9s to 2.0s               1  ########################################
     60.1s to 61.2s              1  ########################################

1 transitions of the host were lost of 5000 seen: map_full 0, missed 1, unwind 0; sockets that were gone: TIME_WAIT 1

audit: 1 counters in 1 network namespaces: 1 agree with the kernel's, 0 differ for a known reason, 0 disagree
       1 network namespaces could not be compared
NETNS      COUNTER                       KERNEL   FINWAIT  VERDICT
4026531840 TcpExtTW+TWKilled                  3         3  agrees
4026532000 -                                  -         -  explained: was removed

hooks: tracepoint
`
	got := reportText(t, &Text{audit: true}, sampleReport())
	for line := range strings.Lines(got) {
		if strings.HasPrefix(line, "TIME_WAIT: ") { // it depends on the kernel
			got = strings.Replace(got, line, "TIME_WAIT: BAND; "+line[strings.Index(line, "started again"):], 1)
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if got := reportText(t, &Text{}, sampleReport()); strings.Contains(got, "VERDICT") {
		t.Errorf("without --audit, each comparison is shown:\n%s", got)
	}
	r := sampleReport()
	r.Audit[0].Verdict, r.Audit[0].Finwait = audit.Disagrees, 2
	if got := reportText(t, &Text{}, r); !strings.Contains(got, "3         2  disagrees") || strings.Contains(got, "explained:") {
		t.Errorf("without --audit, what disagrees is not shown alone:\n%s", got)
	}
}

// The busiest groups are shown, the rest is summed; strangers name them.
// RSTs and handshakes are shown if they were asked for, also if there were none.
func TestStatSegments(t *testing.T) {
	lines := func(r *Report) string {
		var out bytes.Buffer
		w := bufio.NewWriter(&out)
		if err := NewText(w, text.Form{}, false, false).Report(r); err != nil {
			t.Fatal(err)
		}
		w.Flush()
		return out.String()
	}
	object := func(r *Report) string {
		var out bytes.Buffer
		if err := NewJSON(&out).Report(r); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	r := &Report{Totals: new(tracer.Totals)}
	if s := lines(r) + object(r); strings.Contains(s, "WITHOUT A TRANSITION") || strings.Contains(s, "segments") {
		t.Errorf("segments, and nobody asked:\n%s", s)
	}
	r.Segmented = true
	if s := lines(r); !strings.Contains(s, "WITHOUT A TRANSITION") {
		t.Errorf("no table:\n%s", s)
	}
	if s := object(r); !strings.Contains(s, `"segments":[],"segments_uncounted":0`) {
		t.Errorf("no segments in %s", s)
	}
	r.Uncounted = 7
	r.Segments = []tracer.SegmentCount{
		{Kind: tracer.SegmentRSTSent, Reason: "no_socket", Local: 9, Remote: netip.MustParseAddrPort("10.0.0.1:0"), Count: 3},
		{Kind: tracer.SegmentRSTSent, Local: 9, Remote: netip.MustParseAddrPort("10.0.0.1:0"), Count: 3},
		{Kind: tracer.SegmentRSTReceived, Remote: netip.MustParseAddrPort("[2001:db8::1]:443"), Count: 2},
		{Kind: tracer.SegmentSYNACKAgain, Local: 22, Remote: netip.MustParseAddrPort("10.0.0.2:0"), Count: 1},
	}
	for _, want := range []string{
		"RST sent no_socket                    9  10.0.0.1                            3\n",
		"RST received                          -  [2001:db8::1]:443                   2\n",
		"SYN-ACK sent again                   22  10.0.0.2                            1\n",
		"(7 of further ports and peers: there was no room)\n",
	} {
		if s := lines(r); !strings.Contains(s, want) {
			t.Errorf("no %q in\n%s", want, s)
		}
	}
	for _, want := range []string{
		`{"event":"rst","direction":"sent","reason":"no_socket","local_port":9,"remote_addr":"10.0.0.1","remote_port":null,"count":3}`,
		`{"event":"rst","direction":"sent","reason":null,`,
		`{"event":"rst","direction":"received","local_port":null,"remote_addr":"2001:db8::1","remote_port":443,"count":2}`,
		`{"event":"handshake","local_port":22,"remote_addr":"10.0.0.2","remote_port":null,"count":1}`,
		`"segments_uncounted":7`,
	} {
		if s := object(r); !strings.Contains(s, want) {
			t.Errorf("no %s in %s", want, s)
		}
	}
}

func TestStatGroups(t *testing.T) {
	group := func(name string, n uint64) *tracer.Group {
		st := timed(n, time.Millisecond)
		st.Entered, st.Left = n, n
		return &tracer.Group{Name: name, States: map[tracer.State]*tracer.StateTotals{tracer.Established: st}}
	}
	r := &Report{By: tracer.SplitComm, ByWord: "comm", Totals: new(tracer.Totals)}
	now := map[string]*tracer.Group{
		"a": group("a", 3), "quiet": group("quiet", 2), "": group("", 5), "\x1b[2J": group("\x1b[2J", 4), "b": group("b", 1),
	}
	r.Split(map[string]*tracer.Group{"quiet": group("quiet", 2), "b": group("b", 0)}, now, 2)

	if len(r.Groups) != 2 || r.Groups[0].Name != "" || r.Groups[1].Name != "\x1b[2J" || r.Others != 2 {
		t.Fatalf("groups %v and %d others", r.Groups, r.Others)
	}
	if st := r.Rest.State(tracer.Established); st.Entered != 4 || st.Left != 4 || st.Durations.Count() != 4 || st.Timed != 4 || st.Spent != 4*time.Millisecond || st.Durations.Max != time.Millisecond {
		t.Errorf("the rest: %d entered, %d left, %d durations, %v; want 4, 4, 4, 4ms", st.Entered, st.Left, st.Timed, st.Spent)
	}
	if now["quiet"].States[tracer.Established].Entered != 2 {
		t.Error("what was read is changed: the next interval would be wrong")
	}
	lines := reportText(t, &Text{}, r)
	if strings.Contains(lines, "\x1b") || !strings.Contains(lines, `\x1b[2J`) || !strings.Contains(lines, "(2 others)") {
		t.Errorf("text:\n%s", lines)
	}
	got := reportJSON(t, r)
	if !strings.Contains(got, `"by":"comm","groups":[{"name":null,"states":[`) || !strings.Contains(got, `"ungrouped":0,"others":{"groups":2,"states":[`) {
		t.Errorf("JSON: %s", got)
	}
}

// failing is an interval in which connects failed and connections were reset.
func failing(at time.Time, by tracer.Split) *Report {
	var tot tracer.Totals
	tot.Edges[tracer.Closed][tracer.SynSent] = 9
	tot.Ends[tracer.SynSent][tracer.ReasonTimedOut] = 1
	tot.Ends[tracer.SynSent][tracer.ReasonRefused] = 3
	tot.Ends[tracer.SynSent][tracer.ReasonReset] = 1    // of a connect, and no connection
	tot.Ends[tracer.SynRecv][tracer.ReasonTimedOut] = 5 // of no connect
	tot.Ends[tracer.Established][tracer.ReasonReset] = 4
	tot.Ends[tracer.CloseWait][tracer.ReasonReset] = 2
	tot.Ends[tracer.Established][tracer.ReasonTimedOut] = 8
	r := &Report{At: at, Span: time.Second, Totals: &tot, By: by, ByWord: by.String(), Hooks: tracer.HooksFentry}
	if by != tracer.SplitNone {
		r.Groups = []*tracer.Group{{Name: "curl", States: map[tracer.State]*tracer.StateTotals{tracer.SynSent: {Entered: 9, Left: 9}}}}
	}
	return r
}

// Failures are told by reason, resets beside them; of a group neither is known.
func TestIntervalText(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 24, 1, 0, time.UTC)
	for by, want := range map[tracer.Split]string{
		tracer.SplitNone: `TIME          OPENED ACCEPTED FAILED  RESET   ESTAB CLOSE_WAIT FIN_WAIT_1 FIN_WAIT_2 TIME_WAIT  TW_CAME  TW_WENT     TW_P50   LOST  WHY_FAILED
10:24:01.000       9        0      5      6       0          0          0          0         0        0        0          -      0  refused 3, timed_out 1, reset 1
10:24:01.000       0        0      0      0       0          0          0          0         0        0        0          -      0
`,
		tracer.SplitComm: `TIME          OPENED ACCEPTED FAILED  RESET   ESTAB CLOSE_WAIT FIN_WAIT_1 FIN_WAIT_2 TIME_WAIT  TW_CAME  TW_WENT     TW_P50   LOST  COMM            WHY_FAILED
10:24:01.000       9        0      5      6       0          0          0          0         0        0        0          -      0  all             refused 3, timed_out 1, reset 1
10:24:01.000       9        0      -      -       0          0          0          0         0        0        0          -         curl
10:24:01.000       0        0      0      0       0          0          0          0         0        0        0          -      0  all
`,
	} {
		var out bytes.Buffer
		s := NewText(bufio.NewWriter(&out), text.Form{}, false, false)
		for _, r := range []*Report{failing(at, by), {At: at, Totals: new(tracer.Totals), By: by, ByWord: by.String()}} {
			if err := s.Interval(r); err != nil {
				t.Fatal(err)
			}
		}
		if d := cmp.Diff(want, out.String()); d != "" {
			t.Error(d)
		}
		// The whole run comes below the intervals, apart.
		before := out.Len()
		if err := s.Report(sampleReport()); err != nil {
			t.Fatal(err)
		}
		if whole := out.String()[before:]; !strings.HasPrefix(whole, "\n60.000 s of TCP\n") || !strings.Contains(whole, "CLOSED FROM, WHY") {
			t.Errorf("after intervals: %s", whole)
		}
	}
}

// Only after intervals is the whole an object of another name.
func TestTotalJSON(t *testing.T) {
	var out bytes.Buffer
	s := NewJSON(&out)
	at := time.Date(2026, 11, 22, 10, 24, 1, 0, time.UTC)
	for _, err := range []error{s.Interval(failing(at, tracer.SplitNone)), s.Interval(failing(at, tracer.SplitNone)), s.Report(sampleReport())} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var events []string
	for line := range strings.Lines(out.String()) {
		var o struct {
			Event string
			Audit []any
		}
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatal(err)
		}
		events = append(events, o.Event)
		if (o.Audit != nil) != (o.Event == "stat_total") {
			t.Errorf("the audit is of the whole: %s", line)
		}
	}
	if d := cmp.Diff([]string{"stat", "stat", "stat_total"}, events); d != "" {
		t.Error(d)
	}
	if want := `{"state":"SYN_SENT","reason":"refused","detail":"","count":3}`; strings.Count(out.String(), want) != 2 {
		t.Errorf("no %s in the intervals:\n%s", want, &out)
	}
}

// Groups of cgroups with one name are one group, by the name that was known first. Nothing is left
// out: what has no name is one group, too.
func TestCgroupNames(t *testing.T) {
	group := func(name string, entered uint64) *tracer.Group {
		return &tracer.Group{
			Name: name, States: map[tracer.State]*tracer.StateTotals{tracer.Established: {Entered: entered, Live: 1}},
			Ends: map[tracer.Reason]uint64{tracer.ReasonClosed: entered},
		}
	}
	names := map[uint64]string{7: "web", 8: "web"}
	n := &CgroupNames{Word: "pod", Of: func(id uint64) string { return names[id] }}
	groups := map[string]*tracer.Group{"7": group("7", 1), "8": group("8", 2), "9": group("9", 4), "": group("", 8)}
	for range 2 {
		got := n.join(groups)
		web, none := got["web"], got[""]
		if len(got) != 2 || web.State(tracer.Established).Entered != 3 || web.Live() != 2 || web.Ends[tracer.ReasonClosed] != 3 ||
			none.State(tracer.Established).Entered != 12 || none.Name != "" || web.Name != "web" {
			t.Errorf("%+v %+v", web, none)
		}
		names = map[uint64]string{9: "late"}
	}
	if groups["7"].State(tracer.Established).Entered != 1 {
		t.Error("the groups that were read have changed")
	}
}

// timed is a state that was left n times, each time after spent.
func timed(n uint64, spent time.Duration) *tracer.StateTotals {
	st := &tracer.StateTotals{Timed: n, Spent: time.Duration(n) * spent, Durations: new(tracer.Durations)}
	for range n {
		st.Durations.Add(spent)
	}
	return st
}

// split is a report with groups: of IPv6, of IPv4, of which nothing is known, and others.
func split() *Report {
	group := func(name string, opened, accepted, live uint64, wait time.Duration, ends map[tracer.Reason]uint64) *tracer.Group {
		g := &tracer.Group{Name: name, Ends: ends, States: map[tracer.State]*tracer.StateTotals{
			tracer.SynSent: {Entered: opened, Left: opened}, tracer.SynRecv: {Entered: accepted, Left: accepted},
			tracer.Established: {Entered: opened + accepted, Left: opened + accepted}, tracer.TimeWait: {Live: int64(live), Entered: opened, Left: opened - live},
		}}
		g.States[tracer.Established].Add(timed(opened, 44300*time.Nanosecond))
		g.States[tracer.TimeWait].Add(timed(opened, wait))
		return g
	}
	r := &Report{By: tracer.SplitDestination, ByWord: "destination", Totals: new(tracer.Totals), Span: time.Second}
	r.Totals.Edges[tracer.Closed][tracer.SynSent] = 1_234_567
	r.Split(nil, map[string]*tracer.Group{
		"v6": group("[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:50443", 1200, 0, 3, 60*time.Second,
			map[tracer.Reason]uint64{tracer.ReasonReused: 939, tracer.ReasonExpired: 200, tracer.ReasonNoPort: 61}),
		"v4":   group("10.244.112.131:54321", 300, 0, 0, time.Second, map[tracer.Reason]uint64{tracer.ReasonClosed: 300, tracer.ReasonNone: 2}),
		"none": group("", 0, 100, 0, 0, nil),
		"a":    group("a", 9, 0, 9, 2*time.Second, nil), "b": group("b", 5, 0, 1, 2*time.Second, map[tracer.Reason]uint64{tracer.ReasonReset: 4}),
	}, 3)
	return r
}

// formed is the report on a terminal that wide, or on none: 0.
func formed(t *testing.T, wide int, brief bool) string {
	t.Helper()
	var out bytes.Buffer
	if err := NewText(bufio.NewWriter(&out), text.Form{Width: func() int { return wide }}, false, brief).Report(split()); err != nil {
		t.Fatal(err)
	}
	got, _, _ := strings.Cut(out.String(), "\nTRANSITION")
	return got
}

// The tables fit the terminal, and all groups add up: none is left out.
func TestReportFits(t *testing.T) {
	for _, c := range []struct {
		wide  int
		brief bool
		want  string
	}{
		{80, true, `1.000 s of TCP

STATE           LIVE  ENTERED     LEFT       P50       P99        MAX      TOTAL
SYN_SENT           0  1234567        0         -         -          -          -

DESTINATION                      LIVE  OPENED CLOSED  TW_P50  WHY_CLOSED
[2001:db8:aa…eeee:ffff]:50443       3    1200   1200   59.6s  reused 939, …
10.244.112.131:54321                0     300    302 973.1ms  closed 300, - 2
-                                   0       0      0       -
(2 others)                         10      14      4    1.9s  reset 4
`},
		{100, true, `1.000 s of TCP

STATE            LIVE   ENTERED      LEFT        P50        P90        P99        MAX       TOTAL
SYN_SENT            0   1234567         0          -          -          -          -           -

DESTINATION                      LIVE  OPENED ACCEPTED  CLOSED  EST_P50   TW_P50  WHY_CLOSED
[2001:db8:aa…eeee:ffff]:50443       3    1200        0    1200   43.0us    59.6s  reused 939, …
10.244.112.131:54321                0     300        0     302   43.0us  973.1ms  closed 300, - 2
-                                   0       0      100       0        -        -
(2 others)                         10      14        0       4   43.0us     1.9s  reset 4
`},
		{200, true, `1.000 s of TCP

STATE            LIVE   ENTERED      LEFT        P50        P90        P99        MAX       TOTAL
SYN_SENT            0   1234567         0          -          -          -          -           -

DESTINATION                                        LIVE   OPENED ACCEPTED   CLOSED  EST_P50   TW_P50  WHY_CLOSED
[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:50443        3     1200        0     1200   43.0us    59.6s  reused 939, expired 200, no_port 61
10.244.112.131:54321                                  0      300        0      302   43.0us  973.1ms  closed 300, - 2
-                                                     0        0      100        0        -        -
(2 others)                                           10       14        0        4   43.0us     1.9s  reset 4
`},
		{0, true, `1.000 s of TCP

STATE            LIVE   ENTERED      LEFT        P50        P90        P99        MAX       TOTAL
SYN_SENT            0   1234567         0          -          -          -          -           -

DESTINATION                                        LIVE   OPENED ACCEPTED   CLOSED  EST_P50   TW_P50  WHY_CLOSED
[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:50443        3     1200        0     1200   43.0us    59.6s  reused 939, expired 200, no_port 61
10.244.112.131:54321                                  0      300        0      302   43.0us  973.1ms  closed 300, - 2
-                                                     0        0      100        0        -        -
(2 others)                                           10       14        0        4   43.0us     1.9s  reset 4
`},
		{80, false, `1.000 s of TCP

STATE           LIVE  ENTERED       P50      TOTAL  DESTINATION
SYN_SENT           0  1234567         -          -  all

SYN_SENT           0     1200         -          -  [2001:db8:a…eeee:ffff]:50443
ESTABLISHED        0     1200    43.0us   53.160ms  [2001:db8:a…eeee:ffff]:50443
TIME_WAIT          3     1200     59.6s 72000.000s  [2001:db8:a…eeee:ffff]:50443
closed: reused 939, expired 200, no_port 61
works 44.3 µs, is remembered 60 s: 1 : 1,354,401

SYN_SENT           0      300         -          -  10.244.112.131:54321
ESTABLISHED        0      300    43.0us   13.290ms  10.244.112.131:54321
TIME_WAIT          0      300   973.1ms   300.000s  10.244.112.131:54321
closed: closed 300, - 2
works 44.3 µs, is remembered 1 s: 1 : 22,573

SYN_RECV           0      100         -          -  -
ESTABLISHED        0      100         -          -  -

SYN_SENT           0       14         -          -  (2 others)
ESTABLISHED        0       14    43.0us  620.200us  (2 others)
TIME_WAIT         10       14      1.9s    28.000s  (2 others)
closed: reset 4
works 44.3 µs, is remembered 2 s: 1 : 45,146
`},
		{100, false, `1.000 s of TCP

STATE           LIVE  ENTERED     LEFT       P50        MAX      TOTAL  DESTINATION
SYN_SENT           0  1234567        0         -          -          -  all

SYN_SENT           0     1200     1200         -          -          -  [2001:db8:a…eeee:ffff]:50443
ESTABLISHED        0     1200     1200    43.0us   44.300us   53.160ms  [2001:db8:a…eeee:ffff]:50443
TIME_WAIT          3     1200     1197     59.6s    60.000s 72000.000s  [2001:db8:a…eeee:ffff]:50443
closed: reused 939, expired 200, no_port 61
works 44.3 µs, is remembered 60 s: 1 : 1,354,401

SYN_SENT           0      300      300         -          -          -  10.244.112.131:54321
ESTABLISHED        0      300      300    43.0us   44.300us   13.290ms  10.244.112.131:54321
TIME_WAIT          0      300      300   973.1ms     1.000s   300.000s  10.244.112.131:54321
closed: closed 300, - 2
works 44.3 µs, is remembered 1 s: 1 : 22,573

SYN_RECV           0      100      100         -          -          -  -
ESTABLISHED        0      100      100         -          -          -  -

SYN_SENT           0       14       14         -          -          -  (2 others)
ESTABLISHED        0       14       14    43.0us   44.300us  620.200us  (2 others)
TIME_WAIT         10       14        4      1.9s     2.000s    28.000s  (2 others)
closed: reset 4
works 44.3 µs, is remembered 2 s: 1 : 45,146
`},
	} {
		got := formed(t, c.wide, c.brief)
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%d columns, brief %v: %s", c.wide, c.brief, d)
		}
		for line := range strings.Lines(got) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); c.wide > 0 && n > c.wide {
				t.Errorf("%d columns of %d: %s", n, c.wide, line)
			}
		}
	}
	if brief, whole := formed(t, 0, true), formed(t, 0, false); !strings.Contains(brief, "(2 others)") || !strings.Contains(whole, "(2 others)") {
		t.Errorf("no sum of the others:\n%s\n%s", brief, whole)
	}
}

// On a terminal, sentences have as many lines as they need, and nothing of them is left out.
func TestSentencesFit(t *testing.T) {
	r := sampleReport()
	r.Audit[0].Verdict, r.Audit[0].Cause = audit.Explained, "handshakes that failed in a request_sock, or before the child was ready"
	words := func(wide int) []string {
		var out bytes.Buffer
		if err := NewText(bufio.NewWriter(&out), text.Form{Width: func() int { return wide }}, true, false).Report(r); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(out.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); wide > 0 && n > wide {
				t.Errorf("%d columns of %d: %s", n, wide, line)
			}
		}
		_, audited, _ := strings.Cut(out.String(), "\nTIME_WAIT: ")
		return strings.Fields(strings.ReplaceAll(audited, "explained:", "explained"))
	}
	if d := cmp.Diff(words(0), words(80)); d != "" {
		t.Errorf("80 columns (+) do not say what a pipe is told (-): %s", d)
	}
}
