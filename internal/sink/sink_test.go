package sink

import (
	"bufio"
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"finwait/internal/text"
	"finwait/tracer"
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
