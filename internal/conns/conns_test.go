package conns

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"finwait/internal/test/saved"
	"finwait/internal/text"
	"finwait/tracer"

	"github.com/google/go-cmp/cmp"
)

var (
	local  = netip.MustParseAddrPort("10.0.0.1:40000")
	remote = netip.MustParseAddrPort("10.0.0.2:80")
)

// way makes the transitions of one socket that goes through these states, a millisecond in each.
func way(cookie uint64, states ...tracer.State) (all []tracer.Transition) {
	for i := 1; i < len(states); i++ {
		t := tracer.Transition{
			Time: time.Unix(int64(i), 0).UTC(), Ktime: time.Duration(i) * time.Millisecond, Cookie: cookie, Local: local, Remote: remote,
			From: states[i-1], To: states[i], Duration: time.Millisecond, Precision: tracer.PrecisionExact, Role: tracer.RoleClient,
			Owner: tracer.Owner{Process: tracer.Process{PID: 7}},
		}
		if states[i-1] == tracer.Closed || states[i-1] == tracer.Listen {
			t.Duration, t.Precision = 0, tracer.PrecisionUnknown
		}
		if states[i] == tracer.SynSent {
			t.Local = netip.AddrPortFrom(local.Addr(), 0)
		}
		if states[i] == tracer.TimeWait || states[i-1] == tracer.TimeWait {
			t.Source = tracer.SourceMinisock
		}
		if states[i] == tracer.Closed {
			t.Reason = tracer.ReasonClosed
		}
		all = append(all, t)
	}
	return all
}

// join gives the connections that have ended.
func join(most int, transitions ...tracer.Transition) (ended []*Conn, j *Joiner) {
	j = NewJoiner(most)
	for i := range transitions {
		if c := j.Add(&transitions[i]); c != nil && transitions[i].To == tracer.Closed {
			ended = append(ended, c)
		}
	}
	return ended, j
}

func one(t *testing.T, transitions ...tracer.Transition) *Conn {
	t.Helper()
	all, j := join(100, transitions...)
	if len(all) != 1 || j.n != 0 || len(j.open) != 0 {
		t.Fatalf("%d connections have ended, %d are open: %+v", len(all), j.n, all)
	}
	return all[0]
}

// part is a duration in ms; -1: not known.
func part(d time.Duration, known bool) int {
	if !known {
		return -1
	}
	return int(d / time.Millisecond)
}

func TestParts(t *testing.T) {
	type s = tracer.State
	const (
		closed, synSent, synRecv, est, fw1, fw2   = tracer.Closed, tracer.SynSent, tracer.SynRecv, tracer.Established, tracer.FinWait1, tracer.FinWait2
		timeWait, closeWait, lastAck, closing, ls = tracer.TimeWait, tracer.CloseWait, tracer.LastAck, tracer.Closing, tracer.Listen
	)
	for name, c := range map[string]struct {
		states                            []s
		shake, established, closing, wait int
		fin                               FIN
		missed                            int
	}{
		"closes first":    {[]s{closed, synSent, est, fw1, fw2, timeWait, closed}, 1, 1, 2, 1, FINLocal, 0},
		"closes second":   {[]s{ls, synRecv, est, closeWait, lastAck, closed}, 0, 1, 2, 0, FINRemote, 0},
		"both at once":    {[]s{closed, synSent, est, fw1, closing, timeWait, closed}, 1, 1, 2, 1, FINBoth, 0},
		"reset":           {[]s{closed, synSent, est, closed}, 1, 1, 0, 0, FINNone, 0},
		"refused":         {[]s{closed, synSent, closed}, 1, 0, 0, 0, FINNone, 0},
		"older":           {[]s{est, fw1, fw2, timeWait, closed}, -1, 1, 2, 1, FINLocal, 0},
		"older, half":     {[]s{fw2, timeWait, closed}, -1, -1, 1, 1, FINUnknown, 0},
		"restored":        {[]s{closed, est, closeWait, lastAck, closed}, 0, 1, 2, 0, FINRemote, 0},
		"a minisock only": {[]s{timeWait, closed}, -1, -1, -1, 1, FINUnknown, 0},
	} {
		got := one(t, way(1, c.states...)...)
		shake, established, closing, wait := part(got.Handshake()), part(got.Established()), part(got.Closing()), part(got.TimeWait())
		if shake != c.shake || established != c.established || closing != c.closing || wait != c.wait || got.FirstFIN != c.fin || got.Missed != c.missed {
			t.Errorf("%s: %d %d %d %d, FIN %v, missed %d; want %+v", name, shake, established, closing, wait, got.FirstFIN, got.Missed, c)
		}
		if got.Whole != (c.states[0] == closed || c.states[0] == ls) || got.State != closed || got.Local != local || got.Reason != tracer.ReasonClosed {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// A transition that was not seen is counted, and what depends on it is not known.
func TestMissed(t *testing.T) {
	all := way(1, tracer.Closed, tracer.SynSent, tracer.Established, tracer.FinWait1, tracer.FinWait2, tracer.TimeWait, tracer.Closed)
	lost := append(all[:2:2], all[3:]...)                            // ESTABLISHED -> FIN_WAIT_1
	lost[2].Duration, lost[2].Precision = 0, tracer.PrecisionUnknown // the tracer knows that it does not know
	c := one(t, lost...)
	if c.Missed != 1 || c.FirstFIN != FINUnknown || part(c.Established()) != -1 || part(c.Closing()) != -1 || part(c.TimeWait()) != 1 {
		t.Errorf("%+v", c)
	}
}

// A socket that connects again, while the minisock of its first life exists, has two
// connections with one cookie.
func TestTwoLives(t *testing.T) {
	first := way(1, tracer.Closed, tracer.SynSent, tracer.Established, tracer.FinWait1, tracer.FinWait2, tracer.TimeWait, tracer.Closed)
	second := way(1, tracer.Closed, tracer.SynSent, tracer.Established, tracer.CloseWait, tracer.LastAck, tracer.Closed)
	other := netip.MustParseAddrPort("10.0.0.3:81")
	for i := range second {
		second[i].Remote = other
	}
	ended, j := join(100, append(append(append(first[:5:5], second[:3]...), first[5]), second[3:]...)...)
	if len(ended) != 2 || j.n != 0 || ended[0].Remote != remote || ended[1].Remote != other || ended[0].Missed+ended[1].Missed != 0 {
		t.Errorf("%d open, %+v", j.n, ended)
	}
}

// What is beyond the bound is counted, once a connection, and no memory is kept of it.
func TestBound(t *testing.T) {
	j := NewJoiner(2)
	for cookie := range uint64(5) {
		for _, tr := range way(cookie+1, tracer.Closed, tracer.SynSent, tracer.Established) {
			j.Add(&tr)
		}
	}
	if j.Untracked != 3 || j.n != 2 || len(j.open) != 2 {
		t.Errorf("%d untracked, %d open", j.Untracked, j.n)
	}
	// Older ones are counted, too, each once.
	for cookie := range uint64(5) {
		for _, tr := range way(cookie+11, tracer.Established, tracer.FinWait1, tracer.FinWait2) {
			j.Add(&tr)
		}
	}
	if j.Untracked != 8 || len(j.left) != 8 {
		t.Errorf("%d untracked, %d left", j.Untracked, len(j.left))
	}
	// There is room again. What was counted as untracked is not shown in part.
	for _, tr := range way(1, tracer.Established, tracer.Closed) {
		j.Add(&tr)
	}
	for _, tr := range way(11, tracer.FinWait2, tracer.TimeWait, tracer.Closed) {
		if c := j.Add(&tr); c != nil {
			t.Errorf("it is shown: %+v", c)
		}
	}
	if j.Untracked != 8 || len(j.left) != 7 || j.n != 1 {
		t.Errorf("%d untracked, %d left, %d open", j.Untracked, len(j.left), j.n)
	}
	// The memory is bounded.
	for cookie := range uint64(1000) {
		for _, tr := range way(cookie+100, tracer.Closed, tracer.SynSent, tracer.Established) {
			j.Add(&tr)
		}
	}
	if len(j.left) != 2*leftPerMost || j.Untracked != 8+999 {
		t.Errorf("%d untracked, %d left", j.Untracked, len(j.left))
	}
}

// The end of an earlier life of the socket, which nobody followed, is not that of the next one.
func TestOtherLife(t *testing.T) {
	j := NewJoiner(9)
	next := way(1, tracer.Closed, tracer.SynSent, tracer.Established)
	for i := range next {
		j.Add(&next[i])
	}
	old := way(1, tracer.TimeWait, tracer.Closed)
	old[0].Local, old[0].Remote = netip.MustParseAddrPort("127.0.0.1:7"), netip.MustParseAddrPort("127.0.0.1:8")
	if c := j.Add(&old[0]); c == nil || c.Whole || c.Remote.Port() != 8 {
		t.Errorf("the older connection: %+v", c)
	}
	for c := range j.Open {
		if !c.Whole || c.Missed != 0 || c.State != tracer.Established {
			t.Errorf("the next one: %+v", c)
		}
	}
	if j.n != 1 {
		t.Errorf("%d are open", j.n)
	}
}

// Listeners are no connections, and an owner that another listener has taken over is not told.
func TestOwner(t *testing.T) {
	if all, j := join(9, way(1, tracer.Closed, tracer.Listen, tracer.Closed)...); len(all) != 0 || j.n != 0 {
		t.Errorf("a listener is a connection: %+v", all)
	}
	all := way(1, tracer.Listen, tracer.SynRecv, tracer.Established, tracer.FinWait1, tracer.FinWait2, tracer.TimeWait, tracer.Closed)
	if c := one(t, all...); c.Owner.PID != 7 {
		t.Errorf("owner %+v", c.Owner)
	}
	for i := range all[2:] {
		all[2+i].Owner = tracer.Owner{}
	}
	if c := one(t, all...); c.Owner.PID != 0 {
		t.Errorf("owner %+v, whom the connection has left", c.Owner)
	}
}

// Of every saved run each socket but the listeners is one connection; the text has a line for it,
// and JSON an object whose states are those that it has left.
func TestSaved(t *testing.T) {
	runs, err := saved.All()
	if err != nil || len(runs) == 0 {
		t.Fatal(len(runs), err)
	}
	for _, run := range runs {
		var table, lines bytes.Buffer
		tw, jw := bufio.NewWriter(&table), bufio.NewWriter(&lines)
		asText, asJSON := NewSink(NewText(tw, text.Form{}, text.Usual(Columns), text.Times{}, nil), Options{Most: 1000, Live: true}), NewSink(NewJSON(jw, nil), Options{Most: 1000, Live: true})
		left := 0
		for i := range run.Transitions {
			tr := run.Transitions[i].Tracer()
			if tr.From != tracer.Closed && tr.From != tracer.Listen {
				left++
			}
			for _, s := range []*Sink{asText, asJSON} {
				if err := s.Transition(&tr); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, s := range []*Sink{asText, asJSON} {
			if err := s.End(tracer.Stats{}, tracer.HooksTracepoint); err != nil {
				t.Fatal(err)
			}
		}
		tw.Flush()
		jw.Flush()
		n, states := 0, 0
		for line := range strings.Lines(lines.String()) {
			var c struct {
				Event  string
				Missed int
				States []struct{ State string }
			}
			if err := json.Unmarshal([]byte(line), &c); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			if c.Event == "connection" {
				n++
				states += len(c.States)
			}
			if c.Missed != 0 {
				t.Errorf("%s: %s", run.Name, line)
			}
		}
		if n == 0 || states != left || strings.Count(table.String(), "\n") != n+1 {
			t.Errorf("%s: %d connections have left %d states, want %d; text:\n%s", run.Name, n, states, left, table.String())
		}
	}
}

// Shown once, as it closes or as it ends; what was in ESTABLISHED too short, or nobody knows how
// long, is left out and counted.
func TestSink(t *testing.T) {
	all := way(1, tracer.Closed, tracer.SynSent, tracer.Established, tracer.FinWait1, tracer.FinWait2, tracer.TimeWait, tracer.Closed)
	for name, c := range map[string]struct {
		opt          Options
		n            int // transitions
		shown        uint64
		open, hidden uint64
		measured     uint64
	}{
		"end":               {Options{}, 6, 1, 0, 0, 1},
		"before the end":    {Options{}, 5, 0, 1, 0, 0},
		"close":             {Options{AtClose: true}, 5, 1, 0, 0, 0},
		"close, to the end": {Options{AtClose: true}, 6, 1, 0, 0, 0},
		"live":              {Options{Live: true}, 3, 1, 1, 0, 0},
		"reason":            {Options{Reasons: []tracer.Reason{all[5].Reason}}, 6, 1, 0, 0, 1},
		"other reason":      {Options{Reasons: []tracer.Reason{tracer.ReasonKilled}}, 6, 0, 0, 1, 0},
		"short":             {Options{MinDuration: time.Second}, 6, 0, 0, 1, 0},
		"long":              {Options{MinDuration: time.Microsecond}, 6, 1, 0, 0, 1},
	} {
		var out bytes.Buffer
		w := bufio.NewWriter(&out)
		c.opt.Most = 10
		s := NewSink(NewText(w, text.Form{}, text.Usual(Columns), text.Times{}, nil), c.opt)
		for i := range c.n {
			if err := s.Transition(&all[i]); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.End(tracer.Stats{}, tracer.HooksTracepoint); err != nil {
			t.Fatal(err)
		}
		sum := s.Summary()
		if sum.Shown != c.shown || sum.Open != c.open || sum.Hidden != c.hidden || sum.Measured != c.measured {
			t.Errorf("%s: %+v", name, sum)
		}
	}
}

// What the full socket had in FIN_WAIT_2 is not what it had in the end: data may have come.
func TestMetricsAreOfTheEnd(t *testing.T) {
	all := way(1, tracer.Closed, tracer.SynSent, tracer.Established, tracer.FinWait1, tracer.FinWait2, tracer.TimeWait, tracer.Closed)
	j := NewJoiner(9)
	for i, known := range []bool{true, true, true, true, false, true} {
		all[i].Metrics = &tracer.Metrics{Known: known, BytesReceived: uint64(i)}
		if c := j.Add(&all[i]); c.Metrics != *all[i].Metrics {
			t.Errorf("after %v -> %v: %+v", all[i].From, all[i].To, c.Metrics)
		}
	}
}

// formed are connections on a terminal that wide, or on none: 0.
func formed(t *testing.T, wide int, names ...string) string {
	t.Helper()
	columns, err := text.Choose(Columns, names)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := bufio.NewWriter(&out)
	s := NewText(w, text.Form{Width: func() int { return wide }}, columns, text.Times{Clock: text.ClockUTC}, nil)
	ended := way(1, tracer.Closed, tracer.SynSent, tracer.Established, tracer.FinWait1, tracer.FinWait2, tracer.TimeWait, tracer.Closed)
	v6 := way(2, tracer.Listen, tracer.SynRecv, tracer.Established, tracer.Closed)
	j := NewJoiner(9)
	for _, all := range [][]tracer.Transition{ended, v6} {
		for i := range all {
			tr := &all[i]
			tr.Owner.PID, tr.Role = 4194304, tracer.RoleClient
			copy(tr.Owner.Comm[:], "fifteen-bytes-x")
			if tr.Cookie == 2 {
				tr.Local = netip.MustParseAddrPort("[2001:db8:1111:2222:3333:4444:5555:6666]:50443")
				tr.Remote, tr.Role = netip.MustParseAddrPort("[fe80::1234:5678:9abc:def0]:9090"), tracer.RoleServer
				tr.Scope = tracer.Scope{ID: 2, Interface: "enp0s31f6"}
			}
			tr.Metrics = &tracer.Metrics{Known: true, BytesSent: 123456789, BytesReceived: 1000, RTT: 27800, Retransmitted: 2}
			if tr.Reason = tracer.ReasonNone; tr.To == tracer.Closed {
				tr.Reason = map[uint64]tracer.Reason{1: tracer.ReasonExpired, 2: tracer.ReasonAborted}[tr.Cookie]
			}
			if tr.Reason == tracer.ReasonAborted {
				tr.Detail = tracer.DetailUnreadData
			}
			if c := j.Add(tr); c.State == tracer.Closed {
				if err := s.Conn(c); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	w.Flush()
	return out.String()
}

// Each line fits the terminal. A pipe gets everything.
func TestTextFits(t *testing.T) {
	for _, c := range []struct {
		wide  int
		names []string
		want  string
	}{
		{80, nil, `COMM            LOCAL            REMOTE           LASTED   TIMEWAIT WHY
fifteen-bytes-x 10.0.0.1:40000   10.0.0.2:80      1.0ms    1.0ms    expired
fifteen-bytes-x [2001:…66]:50443 [fe80:…1f6]:9090 1.0ms    0 aborted unread_data
`},
		{100, nil, `COMM            LOCAL            REMOTE           LASTED   TIMEWAIT  SENT     RECEIVED WHY
fifteen-bytes-x 10.0.0.1:40000   10.0.0.2:80      1.0ms    1.0ms     123456789 1000    expired
fifteen-bytes-x [2001:…66]:50443 [fe80:…1f6]:9090 1.0ms    0      123456789 1000 aborted unread_data
`},
		{200, nil, `OPENED       PID      COMM            LOCAL                       REMOTE                     ROLE   SHAKE     LASTED    CLOSING   TIMEWAIT  FIN    SENT     RECEIVED RTT       RETR WHY
00:00:01.000 4194304  fifteen-bytes-x 10.0.0.1:40000              10.0.0.2:80                client 1.0ms     1.0ms     2.0ms     1.0ms     local  123456789 1000    27.8us    2    expired
00:00:01.000 4194304  fifteen-bytes-x [2001:db8:1…555:6666]:50443 [fe80::123…enp0s31f6]:9090 server -         1.0ms     0         0         none   123456789 1000    27.8us    2    aborted unread_data
`},
		{0, nil, `OPENED       PID      COMM            LOCAL                 REMOTE                ROLE   SHAKE     LASTED    CLOSING   TIMEWAIT  FIN    SENT     RECEIVED RTT       RETR WHY
00:00:01.000 4194304  fifteen-bytes-x 10.0.0.1:40000        10.0.0.2:80           client 1.0ms     1.0ms     2.0ms     1.0ms     local  123456789 1000    27.8us    2    expired
00:00:01.000 4194304  fifteen-bytes-x [2001:db8:1111:2222:3333:4444:5555:6666]:50443 [fe80::1234:5678:9abc:def0%enp0s31f6]:9090 server - 1.0ms 0 0 none 123456789 1000 27.8us 2 aborted unread_data
`},
		{80, []string{"cookie", "rtt", "why"}, `COOKIE     RTT       WHY
1          27.8us    expired
2          27.8us    aborted unread_data
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
