package text

import (
	"bufio"
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"finwait/tracer"
)

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
		if got := string(AppendDuration(nil, tr.Duration, tr.Precision)); got != want {
			t.Errorf("%v (%v) is %q, want %q", tr.Duration, tr.Precision, got, want)
		}
	}
}

// The kernel knows these to the ms: nothing finer is written.
func TestMillis(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0ms", 4 * time.Millisecond: "4ms", 999*time.Millisecond + 999999: "999ms", time.Second: "1.000s",
		16841*time.Millisecond + 999999: "16.841s", 59999 * time.Millisecond: "59.999s", time.Minute: "60s", 3661999 * time.Millisecond: "3661s",
	} {
		if got := string(AppendMillis(nil, d)); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		5 * time.Microsecond: "5 µs", 43159 * time.Microsecond: "43.2 ms", 60451 * time.Millisecond: "60.45 s",
	} {
		if got := Span(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestRough(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.0us", 5 * time.Microsecond: "5.0us", 43159 * time.Microsecond: "43.2ms", 60451 * time.Millisecond: "60.5s",
	} {
		if got := Rough(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[uint64]string{0: "0", 999: "999", 4120: "4,120", 120000: "120,000", 1234567: "1,234,567"} {
		if got := Count(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestShare(t *testing.T) {
	for _, c := range []struct {
		n, all uint64
		want   string
	}{
		{12, 4120, "0.29 %"}, {1, 1_000_000, "0.00010 %"}, {1, 3, "33 %"}, {5, 5, "100 %"}, {0, 5, "0 %"},
		{999, 1000, "more than 99 %"}, {1, 1 << 63, "0.000000000000000011 %"},
	} {
		if got := Share(c.n, c.all); got != c.want {
			t.Errorf("%d of %d: %q, want %q", c.n, c.all, got, c.want)
		}
	}
}

// harmless: nothing in it but what is printed, and it is UTF-8.
func harmless(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

var hostileNames = []struct{ name, text string }{
	{"nginx", "nginx"},
	{"a \"b\" c\\d", `a "b" c\d`},
	{"\x1b[2J\x07", `\x1b[2J\a`},
	{"a\n\r\tb\x7f", `a\n\r\tb\x7f`},
	{"\u009b31m\u0085", `\u009b31m\u0085`}, // C1: CSI and NEL
	{"\u202ecod.exe\u2066", `\u202ecod.exe\u2066`},
	{"\u2028\u200b\ufeff", `\u2028\u200b\ufeff`},
	{"\U000e0041", `\U000e0041`},
	{"ünï 名", "ünï 名"},
	{"\ufffd", "\ufffd"},
	{"\xff\xfe\x9b", `\xff\xfe\x9b`},
	{"cut \xe5\x90", `cut \xe5\x90`},
	{"\xed\xa0\x80", `\xed\xa0\x80`}, // a surrogate
}

func TestHostileNames(t *testing.T) {
	for _, c := range hostileNames {
		if got := Printable(c.name); got != c.text || !harmless(got) {
			t.Errorf("%q as text: %q, want %q", c.name, got, c.text)
		}
	}
}

func FuzzNames(f *testing.F) {
	for _, c := range hostileNames {
		f.Add(c.name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if s := Printable(name); !harmless(s) {
			t.Errorf("%q as text: %q", name, s)
		}
	})
}

func TestWrap(t *testing.T) {
	var out bytes.Buffer
	w := bufio.NewWriter(&out)
	Wrap(w, "four words of text ────────── on", 10)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if want := "four words\nof text\n──────────\non\n"; out.String() != want {
		t.Errorf("%q, want %q", &out, want)
	}
}
