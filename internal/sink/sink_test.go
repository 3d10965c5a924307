package sink

import (
	"bufio"
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"finwait/internal/text"
	"finwait/tracer"

	"github.com/google/go-cmp/cmp"
)

func comm(name string) (c tracer.Comm) {
	copy(c[:15], name)
	return c
}

func sample() tracer.Transition {
	return tracer.Transition{
		Time:  time.Date(2026, 11, 22, 10, 24, 1, 123456789, time.UTC),
		Ktime: 1519643466000, Cookie: 4098, NetNS: 4026531840, NetNSCookie: 8193,
		Local: netip.MustParseAddrPort("127.0.0.1:54334"), Remote: netip.MustParseAddrPort("127.0.0.1:33403"),
		From: tracer.FinWait2, To: tracer.TimeWait, Duration: 43159000, Precision: tracer.PrecisionExact,
		Role: tracer.RoleClient, Owner: tracer.Owner{Process: tracer.Process{PID: 11054, Comm: comm("python3")}, CgroupID: 1},
		Closer: tracer.Process{PID: 11054, Comm: comm("python3")},
		Reason: tracer.ReasonFinReceived, Source: tracer.SourceMinisock,
	}
}

func textOf(t *testing.T, colour bool, trs ...tracer.Transition) string {
	t.Helper()
	var out bytes.Buffer
	w := bufio.NewWriter(&out)
	s := NewText(w, Options{Form: text.Form{Colour: colour}})
	for _, tr := range trs {
		if err := s.Transition(&tr); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestTextAligned(t *testing.T) {
	unseen, over := sample(), sample()
	unseen.Duration, unseen.Precision, unseen.Owner = 0, tracer.PrecisionUnknown, tracer.Owner{}
	over.From, over.To, over.Duration, over.Reason, over.Rearms = tracer.TimeWait, tracer.Closed, 60680*time.Millisecond, tracer.ReasonExpired, 2
	over.Owner.Holder = true
	lines := strings.Split(strings.TrimSpace(textOf(t, false, sample(), unseen, over)), "\n")
	if len(lines) != 4 {
		t.Fatalf("%d lines: %q", len(lines), lines)
	}
	for _, column := range []string{"FIN_WAIT_2", "TIME_WAIT"} {
		if strings.Index(lines[1], column) != strings.Index(lines[2], column) {
			t.Errorf("%s is not aligned:\n%s\n%s", column, lines[1], lines[2])
		}
	}
	at := strings.Index(lines[0], "LASTED")
	for i, want := range []string{"43.159ms", "-", "60.680s"} {
		if got, _, _ := strings.Cut(lines[i+1][at:], " "); got != want {
			t.Errorf("under LASTED stands %q, want %q:\n%s", got, want, lines[i+1])
		}
	}
	if !strings.HasSuffix(lines[3], "expired rearmed=2 owner=holder") {
		t.Errorf("no reason at the end of %q", lines[3])
	}
	if plain, coloured := textOf(t, false, over), textOf(t, true, over); plain == coloured ||
		plain != stripColour(coloured) {
		t.Errorf("colour changes more than colour:\n%q\n%q", plain, coloured)
	}
}

func stripColour(s string) string {
	for _, c := range []string{text.Dim, text.Green, text.Yellow, text.Red, text.Plain} {
		s = strings.ReplaceAll(s, c, "")
	}
	return s
}

// Showing an event allocates nothing.
func TestSinksAllocateNothing(t *testing.T) {
	tr := sample()
	var out bytes.Buffer
	w := bufio.NewWriter(&out)
	for name, s := range map[string]Sink{"json": New("json", w, Options{}), "text": New("text", w, Options{Form: text.Form{Colour: true}})} {
		if n := testing.AllocsPerRun(1000, func() {
			if err := s.Transition(&tr); err != nil {
				t.Fatal(err)
			}
			w.Reset(&out)
			out.Reset()
		}); n != 0 {
			t.Errorf("%s: %v allocations per transition", name, n)
		}
	}
}

func BenchmarkSinks(b *testing.B) {
	tr := sample()
	var out bytes.Buffer
	w := bufio.NewWriter(&out)
	for name, s := range map[string]Sink{"json": New("json", w, Options{}), "text": New("text", w, Options{})} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Transition(&tr); err != nil {
					b.Fatal(err)
				}
				w.Reset(&out)
				out.Reset()
			}
		})
	}
}

// Times as a person asks for them. Differences are of the monotonic clock, also if somebody sets
// the other one back.
func TestClock(t *testing.T) {
	first, second := sample(), sample()
	second.Time, second.Ktime = first.Time.Add(-time.Hour), first.Ktime+1500*time.Millisecond
	for word, want := range map[string][2]string{
		"utc": {"10:24:01.123456", "09:24:01.123456"}, "relative": {"0.250000", "1.750000"}, "delta": {"0.250000", "1.500000"},
		"date": {first.Time.Local().Format("2006-01-02T15:04:05.000000"), second.Time.Local().Format("2006-01-02T15:04:05.000000")},
	} {
		clock, err := text.ParseClock(word, text.ClockWords(true))
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		w := bufio.NewWriter(&out)
		s := New("text", w, Options{Clock: clock, Began: first.Ktime - 250*time.Millisecond})
		for _, tr := range []*tracer.Transition{&first, &second} {
			if err := s.Transition(tr); err != nil {
				t.Fatal(err)
			}
		}
		w.Flush()
		lines := strings.Split(out.String(), "\n")
		for i, want := range want {
			if got, _, _ := strings.Cut(lines[i+1], " "); got != want {
				t.Errorf("%s: %q, want %q", word, got, want)
			}
			if strings.Index(lines[i+1], "FIN_WAIT_2") != strings.Index(lines[0], "FROM") {
				t.Errorf("%s is not aligned:\n%s\n%s", word, lines[0], lines[i+1])
			}
		}
	}
	if _, err := text.ParseClock("x", text.ClockWords(true)); err == nil {
		t.Error("there is a time x")
	}
}

// lines are some of each width: IPv4, IPv6 of full length, with a zone and mapped, the longest names.
func lines() (all []tracer.Transition) {
	line := func(local, remote string, from, to tracer.State, lasted time.Duration, reason tracer.Reason) *tracer.Transition {
		t := sample()
		t.Local, t.Remote, t.From, t.To, t.Duration, t.Reason = netip.MustParseAddrPort(local), netip.MustParseAddrPort(remote), from, to, lasted, reason
		all = append(all, t)
		return &all[len(all)-1]
	}
	line("127.0.0.1:57666", "127.0.0.1:8001", tracer.Established, tracer.CloseWait, 3126*time.Microsecond, tracer.ReasonFinReceived)
	line("10.244.112.131:54321", "10.96.10.112:443", tracer.Established, tracer.FinWait1, 303126*time.Microsecond, tracer.ReasonNone)
	t := line("255.255.255.254:65534", "255.255.255.255:65535", tracer.Established, tracer.Closed, 999999*time.Microsecond, tracer.ReasonAborted)
	t.Detail, t.Closer = tracer.DetailUnreadData, tracer.Process{PID: 4194304, Comm: comm("a-name-of-15-by")}
	t.Owner.Comm = comm("fifteen-bytes-x")
	t = line("[2001:db8:1111:2222:3333:4444:5555:6666]:50443", "[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535", tracer.TimeWait, tracer.Closed,
		60450*time.Millisecond, tracer.ReasonExpired)
	t.Rearms, t.Owner.Comm = 2, comm("\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b")
	line("[fe80::1234:5678:9abc:def0]:50443", "[fe80::9]:9090", tracer.FinWait2, tracer.TimeWait, 12*time.Microsecond, tracer.ReasonFinReceived).Scope =
		tracer.Scope{ID: 2, Interface: "enp0s31f6"}
	line("[::ffff:192.168.100.200]:50443", "[::ffff:10.0.0.1]:80", tracer.TimeWait, tracer.Closed, 44*time.Millisecond, tracer.ReasonNetNSRemoved)
	t = line("127.0.0.1:57666", "[::1]:0", tracer.Closed, tracer.SynSent, 0, tracer.ReasonNone)
	t.Precision, t.Owner = tracer.PrecisionUnknown, tracer.Owner{}
	return all
}

// formed are these lines on a terminal that wide; 0: on none.
func formed(t *testing.T, wide int, names ...string) string {
	t.Helper()
	columns, err := text.Choose(Columns, names)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := bufio.NewWriter(&out)
	s := New("text", w, Options{Form: text.Form{Width: func() int { return wide }}, Columns: columns, Clock: text.ClockUTC})
	for _, tr := range lines() {
		if err := s.Transition(&tr); err != nil {
			t.Fatal(err)
		}
	}
	for _, seg := range []tracer.Segment{
		{Kind: tracer.SegmentRSTSent, Reason: "no_socket", Local: netip.MustParseAddrPort("127.0.0.1:9"), Remote: netip.MustParseAddrPort("127.0.0.1:57666")},
		{Kind: tracer.SegmentSYNACKAgain, Retransmits: 3, Cookie: 7, Local: netip.MustParseAddrPort("127.0.0.1:9"), Remote: netip.MustParseAddrPort("127.0.0.1:57666")},
	} {
		if err := s.Segment(&seg); err != nil {
			t.Fatal(err)
		}
	}
	w.Flush()
	return out.String()
}

// Each line fits the terminal, and the columns do not move more than an address of IPv4 needs.
func TestTextFits(t *testing.T) {
	for _, c := range []struct {
		wide  int
		names []string
		want  string
	}{
		{80, nil, `LOCAL            REMOTE           FROM        TO          LASTED    WHY
127.0.0.1:57666  127.0.0.1:8001   ESTABLISHED CLOSE_WAIT  3.126ms   fin_received
10.244.112.131:54321 10.96.10.112:443 ESTABLISHED FIN_WAIT_1 303.126ms
255.255.…5.254:65534 255.255.…5.255:65535 ESTABLISHED CLOSED 999.999ms aborted …
[2001:…66]:50443 [2001:…ff]:65535 TIME_WAIT   CLOSED   60.450s expired rearmed=2
[fe80:…f6]:50443 [fe80:…1f6]:9090 FIN_WAIT_2  TIME_WAIT   12.000us  fin_received
[::fff…00]:50443 [::ffff:10.0.0.1]:80 TIME_WAIT CLOSED    44.000ms netns_removed
127.0.0.1:57666  [::1]:*          CLOSED      SYN_SENT    - closer=11054/python3
127.0.0.1:9      127.0.0.1:57666  RST         sent        -         no_socket
127.0.0.1:9      127.0.0.1:57666  SYN-ACK     sent again  -        retransmits=3
`},
		{100, nil, `COMM            LOCAL             REMOTE            FROM        TO          LASTED     WHY
python3         127.0.0.1:57666   127.0.0.1:8001    ESTABLISHED CLOSE_WAIT  3.126ms    fin_received
python3         10.244.112.131:54321 10.96.10.112:443 ESTABLISHED FIN_WAIT_1 303.126ms
fifteen-bytes-x 255.255.255.254:65534 255.255.255.255:65535 ESTABLISHED CLOSED 999.999ms aborted …
\x1b\x…\x1b\x1b [2001:d…66]:50443 [2001:d…ff]:65535 TIME_WAIT   CLOSED     60.450s expired rearmed=2
python3         [fe80::…f6]:50443 [fe80::…1f6]:9090 FIN_WAIT_2  TIME_WAIT   12.000us   fin_received
python3         [::ffff…00]:50443 [::ffff:10.0.0.1]:80 TIME_WAIT CLOSED     44.000ms   netns_removed
-               127.0.0.1:57666   [::1]:*           CLOSED      SYN_SENT    -   closer=11054/python3
-               127.0.0.1:9       127.0.0.1:57666   RST         sent        -          no_socket
-               127.0.0.1:9       127.0.0.1:57666   SYN-ACK     sent again  -          retransmits=3
`},
		{200, nil, `TIME            PID      COMM            LOCAL                                          REMOTE                                         FROM        TO          LASTED      WHY
10:24:01.123456 11054    python3         127.0.0.1:57666                                127.0.0.1:8001                                 ESTABLISHED CLOSE_WAIT  3.126ms     fin_received
10:24:01.123456 11054    python3         10.244.112.131:54321                           10.96.10.112:443                               ESTABLISHED FIN_WAIT_1  303.126ms
10:24:01.123456 11054    fifteen-bytes-x 255.255.255.254:65534                          255.255.255.255:65535            ESTABLISHED CLOSED 999.999ms aborted unread_data closer=4194304/a-name-of-15-by
10:24:01.123456 11054    \x1b\x…\x1b\x1b [2001:db8:1111:2222:3333:4444:5555:6666]:50443 [2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535 TIME_WAIT   CLOSED      60.450s     expired rearmed=2
10:24:01.123456 11054    python3         [fe80::1234:5678:9abc:def0%enp0s31f6]:50443    [fe80::9%enp0s31f6]:9090                       FIN_WAIT_2  TIME_WAIT   12.000us    fin_received
10:24:01.123456 11054    python3         [::ffff:192.168.100.200]:50443                 [::ffff:10.0.0.1]:80                           TIME_WAIT   CLOSED      44.000ms    netns_removed
10:24:01.123456 -        -               127.0.0.1:57666                                [::1]:*                                        CLOSED      SYN_SENT    -           closer=11054/python3
00:00:00.000000 -        -               127.0.0.1:9                                    127.0.0.1:57666                                RST         sent        -           no_socket
00:00:00.000000 -        -               127.0.0.1:9                                    127.0.0.1:57666                                SYN-ACK     sent again  -           retransmits=3
`},
		{0, nil, `TIME            PID      COMM            LOCAL                 REMOTE                FROM        TO          LASTED      WHY
10:24:01.123456 11054    python3         127.0.0.1:57666       127.0.0.1:8001        ESTABLISHED CLOSE_WAIT  3.126ms     fin_received
10:24:01.123456 11054    python3         10.244.112.131:54321  10.96.10.112:443      ESTABLISHED FIN_WAIT_1  303.126ms
10:24:01.123456 11054    fifteen-bytes-x 255.255.255.254:65534 255.255.255.255:65535 ESTABLISHED CLOSED      999.999ms   aborted unread_data closer=4194304/a-name-of-15-by
10:24:01.123456 11054    \x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b [2001:db8:1111:2222:3333:4444:5555:6666]:50443 [2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535 TIME_WAIT CLOSED 60.450s expired rearmed=2
10:24:01.123456 11054    python3         [fe80::1234:5678:9abc:def0%enp0s31f6]:50443 [fe80::9%enp0s31f6]:9090 FIN_WAIT_2 TIME_WAIT 12.000us fin_received
10:24:01.123456 11054    python3         [::ffff:192.168.100.200]:50443 [::ffff:10.0.0.1]:80 TIME_WAIT CLOSED 44.000ms   netns_removed
10:24:01.123456 -        -               127.0.0.1:57666       [::1]:*               CLOSED      SYN_SENT    -           closer=11054/python3
00:00:00.000000 -        -               127.0.0.1:9           127.0.0.1:57666       RST         sent        -           no_socket
00:00:00.000000 -        -               127.0.0.1:9           127.0.0.1:57666       SYN-ACK     sent again  -           retransmits=3
`},
		{80, []string{"remote", "to", "why", "cookie", "role"}, `REMOTE                      TO          WHY                  COOKIE     ROLE
127.0.0.1:8001              CLOSE_WAIT  fin_received         4098       client
10.96.10.112:443            FIN_WAIT_1                       4098       client
255.255.255.255:65535       CLOSED      aborted unread_data … 4098      client
[2001:db8:a…eee:ffff]:65535 CLOSED      expired rearmed=2    4098       client
[fe80::9%enp0s31f6]:9090    TIME_WAIT   fin_received         4098       client
[::ffff:10.0.0.1]:80        CLOSED      netns_removed        4098       client
[::1]:*                     SYN_SENT    closer=11054/python3 4098       client
127.0.0.1:57666             sent        no_socket            -          -
127.0.0.1:57666             sent again  retransmits=3        7          -
`},
	} {
		got := formed(t, c.wide, c.names...)
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%d columns, %v: %s", c.wide, c.names, d)
		}
		for line := range strings.Lines(got) {
			if n := utf8.RuneCountInString(line) - 1; c.wide > 0 && n > c.wide {
				t.Errorf("%d columns of %d: %s", n, c.wide, line)
			}
		}
	}
}

// A time that is asked for stays on a narrow terminal, in place of the local address; or there is none.
func TestTimeColumn(t *testing.T) {
	for clock, want := range map[text.Clock]string{
		text.ClockDelta: "TIME REMOTE FROM TO LASTED WHY", text.ClockNone: "LOCAL REMOTE FROM TO LASTED WHY",
	} {
		columns := text.Usual(Columns)
		columns.Keep("time")
		var out bytes.Buffer
		w := bufio.NewWriter(&out)
		s := New("text", w, Options{Form: text.Form{Width: func() int { return 80 }}, Columns: columns, Clock: clock})
		for _, tr := range lines() {
			if err := s.Transition(&tr); err != nil {
				t.Fatal(err)
			}
		}
		w.Flush()
		head, _, _ := strings.Cut(out.String(), "\n")
		if got := strings.Join(strings.Fields(head), " "); got != want {
			t.Errorf("%v: %q, want %q", clock, got, want)
		}
	}
}
