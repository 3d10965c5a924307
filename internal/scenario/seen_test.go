//go:build linux

package scenario

import (
	"strings"
	"testing"
	"time"

	"finwait/tracer"
)

// life makes the transitions of one socket from its path.
func life(role tracer.Role, cookie uint64, steps ...tracer.Transition) Life {
	from := tracer.Closed
	if role == tracer.RoleServer {
		from = tracer.Listen
	}
	for i := range steps {
		steps[i].Role, steps[i].Cookie = role, cookie
		if steps[i].From == 0 {
			steps[i].From = from
		}
		from = steps[i].To
	}
	return steps
}

func to(s tracer.State) tracer.Transition { return tracer.Transition{To: s} }

func why(s tracer.State, r tracer.Reason) tracer.Transition {
	return tracer.Transition{To: s, Reason: r}
}

func closer(end tracer.Reason) Life {
	return life(tracer.RoleClient, 1, to(tracer.SynSent), to(tracer.Established), to(tracer.FinWait1), to(tracer.FinWait2),
		why(tracer.TimeWait, tracer.ReasonFinReceived), why(tracer.Closed, end))
}

func TestPath(t *testing.T) {
	got := closer(tracer.ReasonExpired).Path()
	if want := "SYN_SENT ESTABLISHED FIN_WAIT_1 FIN_WAIT_2 TIME_WAIT:fin_received CLOSED:expired"; got != want {
		t.Errorf("path %q, want %q", got, want)
	}
	detailed := life(tracer.RoleClient, 1, tracer.Transition{To: tracer.Closed, Reason: tracer.ReasonAborted, Detail: tracer.DetailUnreadData})
	if got := detailed.Path(); got != "CLOSED:aborted:unread_data" {
		t.Errorf("path with a detail: %q", got)
	}
	broken := life(tracer.RoleClient, 1, to(tracer.SynSent), tracer.Transition{From: tracer.FinWait2, To: tracer.Closed})
	if got := broken.Path(); got != "SYN_SENT | CLOSED" {
		t.Errorf("path of what is incomplete: %q", got)
	}
}

func TestCheck(t *testing.T) {
	sc := &Scenario{Want: []Want{
		client(opened + "FIN_WAIT_1 FIN_WAIT_2 TIME_WAIT:fin_received CLOSED:expired"),
		server(accepted + "CLOSE_WAIT:fin_received"),
	}}
	peer := life(tracer.RoleServer, 2, to(tracer.SynRecv), to(tracer.Established), why(tracer.CloseWait, tracer.ReasonFinReceived))
	more := append(append(Life(nil), peer...), life(tracer.RoleServer, 2, tracer.Transition{From: tracer.CloseWait, To: tracer.LastAck})...)
	stray := life(tracer.RoleClient, 3, to(tracer.SynSent))
	listener := life(tracer.RoleListener, 4, to(tracer.Listen))
	cases := map[string]struct {
		seen Seen
		fast bool
		say  string // "": nothing is wrong
	}{
		"as wanted":            {Seen{closer(tracer.ReasonExpired), peer}, false, ""},
		"one state more":       {Seen{closer(tracer.ReasonExpired), more}, false, ""},
		"listeners are free":   {Seen{listener, closer(tracer.ReasonExpired), peer}, false, ""},
		"fast":                 {Seen{closer(tracer.ReasonNetNSRemoved), peer}, true, ""},
		"cut short":            {Seen{closer(tracer.ReasonNetNSRemoved), peer}, false, "netns_removed, and not"},
		"fast, but it expired": {Seen{closer(tracer.ReasonExpired), peer}, true, "and not"},
		"not over yet":         {Seen{closer(tracer.ReasonExpired)[:5], peer}, false, "client 1 went"},
		"no server":            {Seen{closer(tracer.ReasonExpired)}, false, `0 sockets of role "server"`},
		"one client more":      {Seen{closer(tracer.ReasonExpired), peer, stray}, false, `2 sockets of role "client"`},
		"another reason":       {Seen{closer(tracer.ReasonKilled), peer}, false, "CLOSED:killed"},
		"nothing":              {nil, false, "0 sockets"},
	}
	for name, c := range cases {
		err := sc.check(c.seen, c.fast)
		switch {
		case err == nil && c.say != "":
			t.Errorf("%s: accepted", name)
		case err != nil && (c.say == "" || !strings.Contains(err.Error(), c.say)):
			t.Errorf("%s: %v, want %q", name, err, c.say)
		}
	}
	if !sc.Minute() {
		t.Error("a TIME_WAIT is to expire, but no minute is waited for")
	}
	if orphan := (&Scenario{Want: []Want{client("FIN_WAIT_2 CLOSED:expired")}}); orphan.Minute() {
		t.Error("a minute is waited for an orphan in FIN_WAIT_2")
	}
}

// A detail that is wanted must be seen. One that is not wanted may be.
func TestIsStep(t *testing.T) {
	for _, c := range []struct {
		got, want string
		is        bool
	}{
		{"CLOSED:aborted:unread_data", "CLOSED:aborted:unread_data", true},
		{"CLOSED:aborted:unread_data", "CLOSED:aborted", true},
		{"CLOSED:aborted", "CLOSED:aborted:unread_data", false},
		{"CLOSED:aborted:linger_zero", "CLOSED:aborted:unread_data", false},
		{"CLOSED:aborted:linger_zero", "CLOSED", false},
		{"CLOSED:aborted", "CLOSED", false},
		{"CLOSED", "CLOSED", true},
	} {
		if isStep(c.got, c.want) != c.is {
			t.Errorf("%s for %s: want %v", c.got, c.want, c.is)
		}
	}
}

// lives keeps the order of a socket's transitions, and sorts sockets by their first.
func TestLives(t *testing.T) {
	a, b := closer(tracer.ReasonExpired), life(tracer.RoleServer, 2, to(tracer.SynRecv), to(tracer.Established))
	seen := lives([]tracer.Transition{a[0], b[0], a[1], b[1], a[2]})
	if len(seen) != 2 || len(seen[0]) != 3 || len(seen[1]) != 2 || seen.Client(0)[2].To != tracer.FinWait1 ||
		seen.Server(0)[1].To != tracer.Established || seen.Client(1) != nil {
		t.Errorf("%v", seen)
	}
}

// SegmentOf knows the segment of every transition of the scenarios.
func TestSegmentOf(t *testing.T) {
	for _, c := range []struct {
		from, to tracer.State
		why      tracer.Reason
		want     Segment
	}{
		{tracer.Closed, tracer.SynSent, 0, Segment{"SYN", true}},
		{tracer.SynSent, tracer.Established, 0, Segment{"SYN+ACK", false}},
		{tracer.Listen, tracer.SynRecv, 0, Segment{"ACK", false}},
		{tracer.SynRecv, tracer.Established, 0, Segment{}},
		{tracer.Established, tracer.FinWait1, 0, Segment{"FIN", true}},
		{tracer.FinWait1, tracer.FinWait2, 0, Segment{"ACK", false}},
		{tracer.FinWait1, tracer.Closing, tracer.ReasonFinReceived, Segment{"FIN", false}},
		{tracer.Closing, tracer.TimeWait, 0, Segment{"ACK", false}},
		{tracer.FinWait2, tracer.TimeWait, tracer.ReasonFinReceived, Segment{"FIN", false}},
		{tracer.Established, tracer.CloseWait, tracer.ReasonFinReceived, Segment{"FIN", false}},
		{tracer.CloseWait, tracer.LastAck, 0, Segment{"FIN", true}},
		{tracer.LastAck, tracer.Closed, tracer.ReasonClosed, Segment{"ACK", false}},
		{tracer.LastAck, tracer.Closed, tracer.ReasonReset, Segment{"RST", false}},
		{tracer.SynSent, tracer.Closed, tracer.ReasonRefused, Segment{"RST", false}},
		{tracer.SynSent, tracer.Closed, tracer.ReasonAborted, Segment{}}, // there is no peer yet
		{tracer.Established, tracer.Closed, tracer.ReasonAborted, Segment{"RST", true}},
		{tracer.TimeWait, tracer.Closed, tracer.ReasonRSTReceived, Segment{"RST", false}},
		{tracer.TimeWait, tracer.Closed, tracer.ReasonRecycled, Segment{"SYN", false}},
		{tracer.TimeWait, tracer.Closed, tracer.ReasonExpired, Segment{}},
		{tracer.FinWait2, tracer.Closed, tracer.ReasonRSTSent, Segment{"RST", true}},
		{tracer.FinWait2, tracer.Closed, tracer.ReasonTimeWaitOverflow, Segment{}},
		{tracer.Listen, tracer.Closed, tracer.ReasonClosed, Segment{}},
	} {
		if got := SegmentOf(&tracer.Transition{From: c.from, To: c.to, Reason: c.why}); got != c.want {
			t.Errorf("%v -> %v (%v): %+v, want %+v", c.from, c.to, c.why, got, c.want)
		}
	}
}

// Lasted says no more than is known.
func TestLasted(t *testing.T) {
	for want, x := range map[string]tracer.Transition{
		"an unknown time": {},
		"60.5 s":          {Duration: 60500 * time.Millisecond, Precision: tracer.PrecisionExact},
		"about 60.5 s":    {Duration: 60500 * time.Millisecond, Precision: tracer.PrecisionJiffy},
		"at least 60.5 s": {Duration: 60500 * time.Millisecond, Precision: tracer.PrecisionAtLeast},
		"about 2 s until its namespace was removed": {Duration: 2 * time.Second, Precision: tracer.PrecisionJiffy, Reason: tracer.ReasonNetNSRemoved},
	} {
		x.From, x.To = tracer.TimeWait, tracer.Closed
		if got := (Life{x}).Lasted(tracer.TimeWait); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
