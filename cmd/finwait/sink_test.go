package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"finwait/tracer"
)

func sample() tracer.Transition {
	return tracer.Transition{
		Time:  time.Date(2026, 11, 22, 10, 24, 1, 123456789, time.UTC),
		Ktime: 1519643466000, Cookie: 4098, NetNS: 4026531840,
		Local: netip.MustParseAddrPort("127.0.0.1:54334"), Remote: netip.MustParseAddrPort("127.0.0.1:33403"),
		From: tracer.FinWait2, To: tracer.TimeWait, Duration: 43159000, Precision: tracer.PrecisionExact,
		Role: tracer.RoleClient, Owner: tracer.Owner{Process: tracer.Process{PID: 11054, Comm: comm("python3")}, CgroupID: 1},
		Closer: tracer.Process{PID: 11054, Comm: comm("python3")},
		Reason: tracer.ReasonFinReceived, Source: tracer.SourceMinisock,
	}
}

func jsonOf(t *testing.T, tr tracer.Transition) string {
	t.Helper()
	var out bytes.Buffer
	if err := newJSONSink(&out).transition(&tr); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// The contract, to the letter.
func TestJSON(t *testing.T) {
	const want = `{"time":"2026-11-22T10:24:01.123456789Z","ktime_ns":1519643466000,"event":"transition",` +
		`"cookie":4098,"netns":4026531840,"family":"ipv4",` +
		`"local_addr":"127.0.0.1","local_port":54334,"remote_addr":"127.0.0.1","remote_port":33403,` +
		`"from":"FIN_WAIT_2","to":"TIME_WAIT","duration_ns":43159000,"precision":"exact",` +
		`"role":"client","owner":{"pid":11054,"comm":"python3","uid":0,"cgroup_id":1},"closer":{"pid":11054,"comm":"python3"},` +
		`"reason":"fin_received","rearms":0,"source":"minisock"}` + "\n"
	if got := jsonOf(t, sample()); got != want {
		t.Errorf("got  %swant %s", got, want)
	}
}

// A disk that is full ends the run: the sink says so.
func TestJSONWriteError(t *testing.T) {
	tr := sample()
	s := newJSONSink(full{})
	for range 2 {
		if err := s.transition(&tr); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("error %v, want ENOSPC", err)
		}
	}
}

// What is not known is null, never 0.
func TestJSONUnknown(t *testing.T) {
	tr := sample()
	tr.Duration, tr.Precision, tr.Role = 0, tracer.PrecisionUnknown, tracer.RoleUnknown
	tr.Owner, tr.Closer = tracer.Owner{}, tracer.Process{}
	got := jsonOf(t, tr)
	for _, want := range []string{`"duration_ns":null,"precision":"unknown"`, `"role":null,"owner":null,"closer":null`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
}

// A process can have any name, and the longest line is still one object.
func TestJSONHostile(t *testing.T) {
	tr := sample()
	tr.Local = netip.MustParseAddrPort("[2001:db8:1111:2222:3333:4444:5555:6666]:65535")
	tr.Remote = tr.Local
	tr.Ktime, tr.Duration, tr.Cookie = math.MaxInt64, math.MaxInt64, math.MaxUint64
	tr.Owner.PID, tr.Owner.UID, tr.Owner.CgroupID, tr.Rearms = math.MaxUint32, math.MaxUint32, math.MaxUint64, math.MaxUint32
	for _, name := range []string{"\x01\x02\x03\x04\x05\x06\x07\x08\x0e\x0f\x10\x11\x12\x13\x14", `"},"pid":0,"":"`, `\`, "\xff\xfe", "naïve", " "} {
		tr.Owner.Comm, tr.Closer.Comm = comm(name), comm(name)
		line := jsonOf(t, tr)
		var got struct {
			Owner, Closer struct{ Comm string }
			Local_addr    string
			Duration_ns   int64
		}
		if err := json.Unmarshal([]byte(line), &got); err != nil || strings.Count(line, "\n") != 1 {
			t.Errorf("%q: %v", line, err)
		}
		if want := strings.ToValidUTF8(name, "\ufffd"); want == name && (got.Owner.Comm != want || got.Closer.Comm != want) {
			t.Errorf("%q came out as %q and %q", name, got.Owner.Comm, got.Closer.Comm)
		}
		if got.Local_addr != tr.Local.Addr().String() || got.Duration_ns != math.MaxInt64 {
			t.Errorf("%s", line)
		}
	}
}

// The second is kept from one line to the next.
func TestJSONTime(t *testing.T) {
	s := newJSONSink(nil)
	at := time.Date(2026, 12, 31, 23, 59, 59, 0, time.UTC)
	for _, d := range []time.Duration{0, 1, 10, 999_999_999, time.Second, time.Second + 120_000_000, 500, -1, -time.Hour, 0, time.Unix(0, 0).Sub(at), time.Unix(-1, 5).Sub(at)} {
		want := at.Add(d).Format(timeFormat)
		if got := string(s.appendTime(nil, at.Add(d))); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func textOf(t *testing.T, colour bool, trs ...tracer.Transition) string {
	t.Helper()
	var out bytes.Buffer
	w := bufio.NewWriter(&out)
	s := newTextSink(w, false, colour)
	for _, tr := range trs {
		if err := s.transition(&tr); err != nil {
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
	if !strings.HasSuffix(lines[3], "expired rearmed=2") {
		t.Errorf("no reason at the end of %q", lines[3])
	}
	if plain, coloured := textOf(t, false, over), textOf(t, true, over); plain == coloured ||
		plain != stripColour(coloured) {
		t.Errorf("colour changes more than colour:\n%q\n%q", plain, coloured)
	}
}

func stripColour(s string) string {
	for _, c := range []string{dim, green, yellow, red, plain} {
		s = strings.ReplaceAll(s, c, "")
	}
	return s
}

func TestDurations(t *testing.T) {
	for want, tr := range map[string]tracer.Transition{
		"-":         {Precision: tracer.PrecisionUnknown},
		"0.512us":   {Duration: 512, Precision: tracer.PrecisionExact},
		"999.999us": {Duration: 999999, Precision: tracer.PrecisionExact},
		"1.000ms":   {Duration: time.Millisecond, Precision: tracer.PrecisionExact},
		">60.000s":  {Duration: time.Minute, Precision: tracer.PrecisionAtLeast},
		"~60.004s":  {Duration: 60004 * time.Millisecond, Precision: tracer.PrecisionJiffy},
		"3661.500s": {Duration: time.Hour + time.Minute + 1500*time.Millisecond, Precision: tracer.PrecisionExact},
	} {
		if got := string(appendDuration(nil, &tr)); got != want {
			t.Errorf("%v (%v) is %q, want %q", tr.Duration, tr.Precision, got, want)
		}
	}
}

// Showing an event allocates nothing.
func TestSinksAllocateNothing(t *testing.T) {
	tr := sample()
	var out bytes.Buffer
	w := bufio.NewWriter(&out)
	for name, s := range map[string]sink{"json": newJSONSink(w), "text": newTextSink(w, false, true)} {
		if n := testing.AllocsPerRun(1000, func() {
			if err := s.transition(&tr); err != nil {
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
	for name, s := range map[string]sink{"json": newJSONSink(w), "text": newTextSink(w, false, false)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := s.transition(&tr); err != nil {
					b.Fatal(err)
				}
				w.Reset(&out)
				out.Reset()
			}
		})
	}
}
