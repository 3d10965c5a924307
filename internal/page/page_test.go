package page

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"finwait/internal/audit"
	"finwait/internal/histogram"
	"finwait/internal/meter"
	"finwait/tracer"

	"github.com/google/go-cmp/cmp"
)

// busy is a report in which everything happens that can: many groups, edges, ends and durations.
func busy(at time.Time, groups int) *meter.Report {
	r := &meter.Report{At: at, Span: time.Second, Totals: new(tracer.Totals), By: tracer.SplitPort, ByWord: "port", Seen: 5}
	for _, from := range tracer.States() {
		r.Totals.Live[from] = 1000
		for range 3 {
			for scale := time.Microsecond; scale < time.Minute; scale *= 3 {
				r.Totals.Durations[from].Add(scale)
			}
		}
		for _, to := range tracer.States() {
			r.Totals.Edges[from][to] = 123456
			for role := range r.Totals.Roles {
				r.Totals.Roles[role].Edges[from][to] = 12345
			}
		}
		for _, reason := range tracer.Reasons() {
			r.Totals.Ends[from][reason] = 1234
		}
	}
	r.Totals.Handshakes = r.Totals.Durations[tracer.SynSent]
	for role := range r.Totals.Sessions {
		r.Totals.Sessions[role] = r.Totals.Durations[tracer.Established]
	}
	for i := range groups {
		g := &tracer.Group{Name: fmt.Sprint(i), States: make(map[tracer.State]*tracer.StateTotals), Ends: map[tracer.Reason]uint64{tracer.ReasonReset: uint64(i)}}
		for _, s := range tracer.States() {
			g.States[s] = &tracer.StateTotals{Live: int64(i), Entered: uint64(i)}
		}
		r.Groups = append(r.Groups, g)
	}
	return r
}

// The history of the busiest host takes less than 5 MB of memory.
func TestMemory(t *testing.T) {
	var before, after runtime.MemStats
	p := New(About{})
	r := busy(time.Unix(0, 0), 60)
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range 700 {
		r.At = r.At.Add(time.Second)
		if err := p.Report(r); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 5e6 {
		t.Errorf("%d bytes", grown)
	}
	events, _ := p.history.after(0)
	t.Logf("%d s of the busiest host, %d bytes each", len(events), len(events[0].data))
	runtime.KeepAlive(p)
}

func served(t *testing.T, p *Page) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(p)
	t.Cleanup(s.Close)
	return s
}

// A sse is a stream that was opened.
type sse struct {
	t    *testing.T
	body *bufio.Reader
}

func openStream(t *testing.T, s *httptest.Server, lastID string) *sse {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if kind := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || kind != "text/event-stream" {
		t.Fatalf("%s, %s", resp.Status, kind)
	}
	return &sse{t, bufio.NewReader(resp.Body)}
}

// next reads one event.
func (s *sse) next() (id string, data map[string]any) {
	s.t.Helper()
	for {
		line, err := s.body.ReadString('\n')
		if err != nil {
			s.t.Fatal(err)
		}
		line = strings.TrimSuffix(line, "\n")
		switch name, value, _ := strings.Cut(line, ": "); name {
		case "id":
			id = value
		case "data":
			if err := json.Unmarshal([]byte(value), &data); err != nil {
				s.t.Fatal(err)
			}
		case "":
			return id, data
		}
	}
}

// A stream begins with the history and goes on with what happens; who comes back gets what is new.
func TestStream(t *testing.T) {
	p := New(About{Host: "h", By: "port", Refresh: 15 * time.Second})
	s := served(t, p)
	at := time.Unix(1e9, 5)
	for range 3 {
		if err := p.Report(busy(at, 2)); err != nil {
			t.Fatal(err)
		}
	}
	a := openStream(t, s, "")
	_, hello := a.next()
	if hello["event"] != "hello" || hello["host"] != "h" || hello["refresh_ns"] != 15e9 || len(hello["bounds_ns"].([]any)) != histogram.Buckets {
		t.Errorf("hello: %v", hello)
	}
	var id string
	for n := range 3 {
		var e map[string]any
		if id, e = a.next(); e["event"] != "frame" || e["n"] != float64(n+1) || e["time"] != "2001-09-09T01:46:40.000000005Z" {
			t.Errorf("event %d: %s %v", n, id, e)
		}
	}
	if err := p.Trouble(at, "lists", errors.New("no\nroom")); err != nil {
		t.Fatal(err)
	}
	if _, e := a.next(); e["event"] != "trouble" || e["why"] != "no\nroom" || e["n"] != 4.0 {
		t.Errorf("trouble: %v", e)
	}
	b := openStream(t, s, id)
	b.next()
	if _, e := b.next(); e["n"] != 4.0 {
		t.Errorf("who has 3 gets %v first", e["n"])
	}
	c := openStream(t, s, "another-3")
	c.next()
	if _, e := c.next(); e["n"] != 1.0 {
		t.Errorf("who was with another Page gets %v first", e["n"])
	}
}

// Browsers without a stream get the same by asking.
func TestPoll(t *testing.T) {
	p := New(About{})
	s := served(t, p)
	for range 5 {
		if err := p.Audit(time.Now(), []audit.Row{{Counter: "a", Verdict: audit.Agrees}, {Counter: "b", Verdict: audit.Disagrees}, {}}); err != nil {
			t.Fatal(err)
		}
	}
	for after, want := range map[string]int{"": 6, p.start + "-3": 3, p.start + "-5": 1, "other-3": 6, "x": 6} {
		resp, err := http.Get(s.URL + "/history?after=" + after)
		if err != nil {
			t.Fatal(err)
		}
		var all []map[string]any
		err = json.NewDecoder(resp.Body).Decode(&all)
		resp.Body.Close()
		if err != nil || len(all) != want || all[0]["event"] != "hello" {
			t.Fatalf("after %q: %d events, %v", after, len(all), err)
		}
		if last := all[len(all)-1]; want > 1 && (last["agree"] != 1.0 || last["disagree"] != 1.0 || last["not_compared"] != 1.0) {
			t.Errorf("audit: %v", last)
		}
	}
}

// A browser that does not read is closed, holds nobody up, and its place is free again.
func TestSlowReader(t *testing.T) {
	p := New(About{})
	p.patient = 200 * time.Millisecond
	s := served(t, p)
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
	await(t, "the stream is open", func() bool { return len(p.streams) == 1 })
	quick := openStream(t, s, "")
	quick.next()
	large := strings.Repeat("x", 200_000)
	n := 0.0
	await(t, "the slow reader is closed", func() bool {
		if err := p.Trouble(time.Now(), "lists", errors.New(large)); err != nil {
			t.Fatal(err)
		}
		n++
		if _, e := quick.next(); e["n"] != n {
			t.Fatalf("the quick reader has %v, not %v", e["n"], n)
		}
		return len(p.streams) == 1
	})
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// There is an end of streams, and who gets none is told what to do.
func TestTooManyStreams(t *testing.T) {
	p := New(About{})
	s := served(t, p)
	for range maxStreams {
		openStream(t, s, "").next()
	}
	resp, err := http.Get(s.URL + "/events")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("stream %d: %s", maxStreams+1, resp.Status)
	}
}

// A frame has the report's numbers.
func TestFrame(t *testing.T) {
	r := &meter.Report{At: time.Unix(0, 0), Span: 2 * time.Second, Totals: new(tracer.Totals), Seen: 9, Lost: tracer.Lost{Missed: 3, RingFull: 4}}
	r.Totals.Live[tracer.TimeWait] = 7
	r.Totals.Edges[tracer.LastAck][tracer.Closed] = 5
	r.Totals.Ends[tracer.LastAck][tracer.ReasonClosed] = 5
	r.Totals.Durations[tracer.TimeWait].Add(61 * time.Second)
	r.Totals.Handshakes.Add(2000)
	r.Totals.Sessions[tracer.RoleServer].Add(3000)
	r.Totals.Roles[tracer.RoleServer].Edges[tracer.Established][tracer.FinWait1] = 6
	r.Totals.Roles[tracer.RoleServer].Edges[tracer.Established][tracer.CloseWait] = 8
	r.Groups = []*tracer.Group{
		{Name: "a\x1b\u202eb", States: map[tracer.State]*tracer.StateTotals{tracer.SynSent: {Live: 1, Entered: 4, Left: 3}},
			Ends: map[tracer.Reason]uint64{tracer.ReasonRefused: 2, tracer.ReasonReset: 1}},
		{States: map[tracer.State]*tracer.StateTotals{}},
	}
	groups, others, left := new(ranking).top(r)
	got, err := json.Marshal(newFrame(r, groups, others, left))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"event":"frame","n":0,"time":"1970-01-01T00:00:00.000000000Z","span_ns":2000000000,"live":{"TIME_WAIT":7},` +
		`"edges":[["LAST_ACK","CLOSED",5]],"ends":[["LAST_ACK","closed","",5]],` +
		fmt.Sprintf(`"durations":{"TIME_WAIT":{"total_ns":61000000000,"max_ns":61000000000,"buckets":[[%d,1]]},`, histogram.Index(61e9)) +
		fmt.Sprintf(`"handshake":{"total_ns":2000,"max_ns":2000,"buckets":[[%d,1]]},`, histogram.Index(2000)) +
		fmt.Sprintf(`"session server":{"total_ns":3000,"max_ns":3000,"buckets":[[%d,1]]}},`, histogram.Index(3000)) +
		`"first_fins":[["server",6,8]],` +
		`"rearms":0,"seen":9,"lost":{"map_full":0,"missed":3,"unwind":0},"ungrouped":0,` +
		`"groups":[{"name":"a\\x1b\\u202eb","live":{"SYN_SENT":1},"opened":4,"accepted":0,"closed":3,"moves":7},` +
		`{"name":null,"live":{},"opened":0,"accepted":0,"closed":0,"moves":0}]}`
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Error(d)
	}
}

// A group that is busy most of the time keeps its place when others are busy for an interval.
func TestRanking(t *testing.T) {
	var k ranking
	moves := func(name string, n uint64) *tracer.Group {
		return &tracer.Group{Name: name, States: map[tracer.State]*tracer.StateTotals{tracer.SynSent: {Entered: n}}}
	}
	var r meter.Report
	first := func(steady, burst uint64) string {
		r.Groups = []*tracer.Group{moves("burst", burst), moves("steady", steady)}
		groups, _, _ := k.top(&r)
		return groups[0].Name
	}
	for range 30 {
		first(10, 0)
	}
	if name := first(0, 50); name != "steady" {
		t.Errorf("%q is first after one interval", name)
	}
	for range 30 {
		first(0, 50)
	}
	if name := first(10, 50); name != "burst" {
		t.Errorf("%q is first after many", name)
	}
	many := busy(time.Now(), 50).Groups
	r.Groups, r.Rest, r.Others = many, moves("", 1), 3
	groups, others, left := k.top(&r)
	var sum uint64
	for _, g := range append(groups, others) {
		sum += g.Moves()
	}
	all := uint64(1)
	for _, g := range many {
		all += g.Moves()
	}
	if len(groups) != maxGroups || left != 50-maxGroups+3 || sum != all {
		t.Errorf("%d groups and %d others with %d moves of %d", len(groups), left, sum, all)
	}
}

// Findings come as finwait doctor --json has them.
func TestFindings(t *testing.T) {
	p := New(About{})
	lines := []byte("{\"event\":\"finding\",\"text\":\"a\\nb\"}\n{\"event\":\"checkup\"}\n")
	if err := p.Findings(time.Now(), lines, 5*time.Second, time.Minute); err != nil {
		t.Fatal(err)
	}
	events, _ := p.history.after(0)
	var e struct {
		Findings []map[string]any
		Fin      []float64 `json:"fin_timeout_ns"`
	}
	if err := json.Unmarshal(events[0].data, &e); err != nil {
		t.Fatal(err)
	}
	if !cmp.Equal(e.Fin, []float64{5e9, 60e9}) || len(e.Findings) != 2 || e.Findings[0]["text"] != "a\nb" || e.Findings[1]["event"] != "checkup" {
		t.Errorf("%v", e)
	}
}

// Everything that the page needs is in the binary, and nothing in it breaks its own policy.
func TestFiles(t *testing.T) {
	s := served(t, New(About{}))
	get := func(path string) (string, *http.Response) {
		resp, err := http.Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var b strings.Builder
		if _, err := bufio.NewReader(resp.Body).WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		return b.String(), resp
	}
	page, resp := get("/")
	if resp.Header.Get("Content-Security-Policy") != Policy || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		t.Errorf("%v", resp.Header)
	}
	if wrong := regexp.MustCompile(`(?i)<style|style=|\son[a-z]+=|javascript:|https?://|<script[^>]*>[^<]`).FindString(page); wrong != "" {
		t.Errorf("the page has %q", wrong)
	}
	links := regexp.MustCompile(`(?:src|href)="([^"#]+)"`).FindAllStringSubmatch(page, -1)
	for _, m := range append(links, []string{"", "worker.js"}) {
		content, resp := get("/" + m[1])
		if resp.StatusCode != 200 || len(content) == 0 {
			t.Errorf("%s: %s", m[1], resp.Status)
		}
		req, _ := http.NewRequest("GET", s.URL+"/"+m[1], nil)
		req.Header.Set("If-None-Match", resp.Header.Get("ETag"))
		if again, err := http.DefaultClient.Do(req); err != nil || again.StatusCode != http.StatusNotModified {
			t.Errorf("%s, again: %v %v", m[1], again, err)
		}
	}
	if len(links) < 3 {
		t.Errorf("the page links to %v", links)
	}
	for _, path := range []string{"/nothing", "/dist/", "/index.html"} {
		if _, resp := get(path); resp.StatusCode != 404 {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
}
