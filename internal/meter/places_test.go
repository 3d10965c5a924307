package meter

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"finwait/tracer"
)

var begun = time.Date(2026, 11, 27, 13, 0, 0, 0, time.UTC)

// A crowd is groups that do something, and what the places make of it.
type crowd struct {
	t      *testing.T
	places *Places
	at     time.Time
	live   map[string]int64

	entered uint64 // of all groups
}

func newCrowd(t *testing.T, limit int) *crowd {
	return &crowd{t: t, places: NewPlaces(limit, begun), at: begun, live: make(map[string]int64)}
}

// step lets time pass in which each of some groups opens so many connections, of which some stay open.
func (c *crowd) step(span time.Duration, opened map[string]uint64, open map[string]int64) {
	c.at = c.at.Add(span)
	maps.Copy(c.live, open)
	r := &Report{At: c.at, Span: span}
	names := maps.Clone(c.live)
	for name := range opened {
		names[name] += 0
	}
	for name := range names {
		g := &tracer.Group{Name: name, Ends: map[tracer.Reason]uint64{},
			States: map[tracer.State]*tracer.StateTotals{tracer.Established: {Live: c.live[name], Entered: opened[name]}}}
		c.entered += opened[name]
		if g.Moves() > 0 || g.Live() != 0 {
			r.Groups = append(r.Groups, g)
		}
	}
	c.places.Add(r)
}

// shown is what a scrape sees: entered/live of each place.
func (c *crowd) shown() string {
	var all []string
	for name, p := range c.places.All() {
		st := p.Group.State(tracer.Established)
		all = append(all, fmt.Sprintf("%s:%d/%d", name, st.Entered, st.Live))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func (c *crowd) want(what, want string) {
	c.t.Helper()
	if got := c.shown(); got != want {
		c.t.Errorf("%s: %s, want %s", what, got, want)
	}
}

// As many groups as there is room for have places, the busiest first; the others are one.
func TestPlacesLimit(t *testing.T) {
	c := newCrowd(t, 2)
	c.step(time.Minute, map[string]uint64{"a": 1, "b": 5, "c": 3, "d": 2}, nil)
	c.want("first", "b:5/0 c:3/0 other:3/0")
	if n, without := c.places.Placed(), c.places.WithoutRoom(); n != 2 || without != 2 {
		t.Errorf("%d have a place, %d not", n, without)
	}
	c.step(time.Minute, map[string]uint64{"a": 1, "b": 1, "e": 1}, map[string]int64{"c": 7, "e": 2})
	c.want("second", "b:6/0 c:3/7 other:5/2")
}

// What has no name, and what is called as the others are, takes no place.
func TestPlacesWithoutName(t *testing.T) {
	c := newCrowd(t, 1)
	c.step(time.Minute, map[string]uint64{"": 9, "other": 8, "a": 1, "b\x1b": 0}, map[string]int64{"b\x1b": 1})
	c.want("names", ":9/0 a:1/0 other:8/1")
	if c.places.Placed() != 1 {
		t.Errorf("%d have a place", c.places.Placed())
	}
	two := newCrowd(t, 3)
	two.step(time.Minute, map[string]uint64{"x\n": 1, `x\n`: 2}, nil)
	two.want("printed alike", `other:0/0 x\n:3/0`)
}

// A group that does nothing leaves with its last value: it is added nowhere. One that has a socket
// stays. When it comes back, it begins at 0.
func TestPlacesLeave(t *testing.T) {
	c := newCrowd(t, 2)
	c.step(time.Minute, map[string]uint64{"gone": 5, "held": 9}, map[string]int64{"held": 1})
	c.step(9*time.Minute, map[string]uint64{"new": 1}, nil)
	c.want("not yet", "gone:5/0 held:9/1 other:1/0")
	c.step(time.Minute, nil, nil)
	c.want("left", "held:9/1 other:1/0")
	c.step(time.Minute, map[string]uint64{"gone": 2}, nil)
	c.want("back", "gone:2/0 held:9/1 other:1/0")
	for name, p := range c.places.All() {
		if name == "gone" && !p.Since.Equal(c.at.Add(-time.Minute)) {
			t.Errorf("it began at %v", p.Since)
		}
	}
}

// A much busier group takes the place of the quietest, but not at once, and not back and forth.
func TestPlacesDisplace(t *testing.T) {
	c := newCrowd(t, 1)
	c.step(time.Minute, map[string]uint64{"first": 10}, map[string]int64{"first": 1})
	c.step(time.Minute, map[string]uint64{"first": 10, "busy": 100}, map[string]int64{"busy": 4})
	c.want("too early", "first:20/1 other:100/4")
	c.step(9*time.Minute, map[string]uint64{"first": 10, "busy": 100}, nil)
	c.want("busier", "busy:100/4 other:110/1")
	c.step(time.Minute, map[string]uint64{"first": 10, "busy": 5}, nil)
	c.want("stays", "busy:105/4 other:120/1")
	c.step(10*time.Minute, map[string]uint64{"first": 20, "busy": 15}, nil)
	c.want("not twice as busy", "busy:120/4 other:140/1")
}

// Whatever comes and goes: nothing that is shown ever falls, a place that is new begins with no more
// than was done since it began, and everything that was done while a place was there was counted once.
func TestPlacesChurn(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	c := newCrowd(t, 10)
	last := make(map[string]uint64)
	since := make(map[string]time.Time)
	var dropped uint64 // with those that left
	for range 2000 {
		opened, open := make(map[string]uint64), make(map[string]int64)
		for range random.IntN(6) {
			name := fmt.Sprint("g", random.IntN(40))
			opened[name] = random.Uint64N(1 << random.IntN(10))
			open[name] = random.Int64N(2)
		}
		c.step(time.Duration(random.IntN(300))*time.Second, opened, open)
		var sum uint64
		var live, wantLive int64
		now := make(map[string]uint64)
		for name, p := range c.places.All() {
			st := p.Group.State(tracer.Established)
			now[name], sum, live = st.Entered, sum+st.Entered, live+st.Live
			if before, there := last[name]; there && p.Since.Equal(since[name]) && st.Entered < before {
				t.Fatalf("%s fell from %d to %d", name, before, st.Entered)
			} else if there && !p.Since.Equal(since[name]) {
				dropped += before
			} else if !there && p.Since.Before(begun) {
				t.Fatalf("%s began at %v", name, p.Since)
			}
			since[name] = p.Since
		}
		for name, before := range last {
			if _, there := now[name]; !there {
				dropped += before
			}
		}
		for _, n := range c.live {
			wantLive += n
		}
		if sum+dropped != c.entered || live != wantLive {
			t.Fatalf("%d are shown and %d have left, of %d; %d are open, want %d", sum, dropped, c.entered, live, wantLive)
		}
		if n := c.places.Placed(); n > 10 {
			t.Fatalf("%d places", n)
		}
		last = now
	}
	if dropped == 0 {
		t.Error("none has left")
	}
}
