package page

import (
	"fmt"
	"testing"
	"time"
)

func numbered(n uint64) ([]byte, error) { return fmt.Appendf(nil, `{"n":%d}`, n), nil }

// The history has the last ten minutes, and no more bytes than its limit, whatever comes.
func TestHistoryIsBounded(t *testing.T) {
	begin := time.Unix(1e9, 0)
	for _, c := range []struct {
		name        string
		size, limit int
		want        int
	}{
		{"by time", 100, 1 << 20, 601}, // both ends of ten minutes
		{"by bytes", 1000, 100_000, 100},
		{"one that is too large", 1000, 10, 1},
	} {
		h := newHistory(c.limit)
		for i := range 2000 {
			err := h.add(begin.Add(time.Duration(i)*time.Second), func(uint64) ([]byte, error) { return make([]byte, c.size), nil })
			if err != nil {
				t.Fatal(err)
			}
		}
		events, _ := h.after(0)
		if len(events) != c.want || events[len(events)-1].n != 2000 || h.bytes != c.want*c.size {
			t.Errorf("%s: %d events of %d bytes up to %d; want %d", c.name, len(events), h.bytes, events[len(events)-1].n, c.want)
		}
		for i, e := range events[1:] {
			if e.n != events[i].n+1 {
				t.Fatalf("%s: %d follows %d", c.name, e.n, events[i].n)
			}
		}
	}
}

func TestHistoryAfter(t *testing.T) {
	h := newHistory(1 << 20)
	if events, _ := h.after(7); len(events) != 0 {
		t.Errorf("an empty history has %d events", len(events))
	}
	_, changed := h.after(0)
	for i := range 700 {
		if err := h.add(time.Unix(int64(i), 0), numbered); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-changed:
	default:
		t.Error("a reader that waits was not told")
	}
	for after, want := range map[uint64]int{0: 601, 50: 601, 100: 600, 699: 1, 700: 0, 1000: 0} {
		if events, _ := h.after(after); len(events) != want {
			t.Errorf("after %d: %d events, want %d", after, len(events), want)
		}
	}
	if err := h.add(time.Unix(0, 0), func(uint64) ([]byte, error) { return nil, fmt.Errorf("no") }); err == nil {
		t.Error("what could not be encoded was added")
	}
	if events, _ := h.after(699); len(events) != 1 || events[0].n != 700 {
		t.Error("what could not be encoded took a number")
	}
}
