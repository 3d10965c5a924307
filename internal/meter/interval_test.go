package meter

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"finwait/internal/text"
	"finwait/tracer"

	"github.com/google/go-cmp/cmp"
)

// On a terminal the least important columns are left out, and reasons that have no room.
func TestIntervalWidth(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 24, 1, 0, time.UTC)
	for _, c := range []struct {
		width int
		by    tracer.Split
		want  string
	}{
		{80, tracer.SplitNone, `TIME          OPENED ACCEPTED FAILED  RESET   ESTAB CLOSE_WAIT TIME_WAIT   LOST
10:24:01.000       9        0      5      6       0          0         0      0
`},
		{80, tracer.SplitComm, `TIME          OPENED ACCEPTED FAILED   ESTAB TIME_WAIT   LOST  COMM
10:24:01.000       9        0      5       0         0      0  all
10:24:01.000       9        0      -       0         0         curl
`},
		{100, tracer.SplitNone, `TIME          OPENED ACCEPTED FAILED  RESET   ESTAB CLOSE_WAIT TIME_WAIT   LOST  WHY_FAILED
10:24:01.000       9        0      5      6       0          0         0      0  refused 3, …
`},
		{100, tracer.SplitComm, `TIME          OPENED ACCEPTED FAILED  RESET   ESTAB CLOSE_WAIT TIME_WAIT   LOST  COMM
10:24:01.000       9        0      5      6       0          0         0      0  all
10:24:01.000       9        0      -      -       0          0         0         curl
`},
		{200, tracer.SplitComm, ""},
		{0, tracer.SplitComm, ""}, // a pipe
	} {
		r := failing(at, c.by)
		got := intervalText(t, r, c.width)
		if c.want == "" {
			c.want = intervalText(t, r, -1)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%d columns: %s", c.width, d)
		}
	}
}

// intervalText is what is written on a terminal of that width; -1: with no width at all.
func intervalText(t *testing.T, r *Report, width int) string {
	t.Helper()
	var out bytes.Buffer
	s := NewText(bufio.NewWriter(&out), text.Form{Width: func() int { return width }}, false, false)
	if width < 0 {
		s = NewText(bufio.NewWriter(&out), text.Form{}, false, false)
	}
	if err := s.Interval(r); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// Every width that has room for what is always shown is kept, and each column goes once.
func TestIntervalFits(t *testing.T) {
	for _, by := range []tracer.Split{tracer.SplitNone, tracer.SplitRemote} {
		r := failing(time.Now(), by)
		least := 34
		if by != tracer.SplitNone {
			const name = "[2001:db8:1111:2222:3333:4444:5555:6666]:50000"
			r.Groups[0].Name = name
			least += len("  " + name)
		}
		before := ""
		for width := least; width < 200; width++ {
			got := intervalText(t, r, width)
			for line := range strings.Lines(got) {
				if n := utf8.RuneCountInString(line) - 1; n > width {
					t.Errorf("%d columns of %d: %s", n, width, line)
				}
			}
			head, _, _ := strings.Cut(got, "\n")
			for _, title := range strings.Fields(before) {
				if !strings.Contains(head, title) {
					t.Errorf("%d columns have no %s, but %d have", width, title, width-1)
				}
			}
			before = head
		}
		if n := len(strings.Fields(before)); n < len(named(intervalColumns, r.ByWord)) {
			t.Errorf("all that is shown: %s", before)
		}
	}
}

// No number is cut, however long. A terminal whose width changes gets a new head.
func TestIntervalLongNumbers(t *testing.T) {
	r := failing(time.Now(), tracer.SplitNone)
	const many = 123456789012345
	r.Totals.Edges[tracer.Closed][tracer.SynSent] = many
	r.Totals.Ends[tracer.SynSent][tracer.ReasonRefused] = many
	r.Lost.Missed = many
	for _, width := range []int{20, 80, 100, 200} {
		if got := intervalText(t, r, width); strings.Count(got, fmt.Sprint(many)) < 2 || !strings.Contains(got, fmt.Sprint(many+2)) {
			t.Errorf("%d columns: %s", width, got)
		}
	}
	var out bytes.Buffer
	width := 80
	s := NewText(bufio.NewWriter(&out), text.Form{Width: func() int { return width }}, false, false)
	for _, width = range []int{80, 79, 78, 200, 200} {
		if err := s.Interval(r); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(out.String(), "OPENED"); n != 3 {
		t.Errorf("%d heads:\n%s", n, &out)
	}
}
