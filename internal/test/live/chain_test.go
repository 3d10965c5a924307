//go:build linux

package live_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"finwait/internal/scenario"
	"finwait/tracer"
)

// A chain is the transitions of one socket, in order.
type chain scenario.Life

func (c chain) String() string {
	var b strings.Builder
	for _, t := range c {
		fmt.Fprintf(&b, "%12d cookie=%d %v %v>%v %v -> %v %v (%v) %v owner=%d/%v closer=%d/%v rearms=%d %v\n",
			t.Ktime, t.Cookie, t.Role, t.Local, t.Remote, t.From, t.To, t.Duration, t.Precision, t.Reason,
			t.Owner.PID, t.Owner.Comm, t.Closer.PID, t.Closer.Comm, t.Rearms, t.Source)
	}
	return b.String()
}

// path is the states that the socket went through. "|" marks a missing transition.
func (c chain) path() string {
	var b strings.Builder
	for i, t := range c {
		switch {
		case i == 0:
			b.WriteString(t.From.String())
		case c[i-1].To != t.From:
			b.WriteString(" | " + t.From.String())
		}
		b.WriteString(" " + t.To.String())
	}
	return b.String()
}

func (c chain) last() tracer.Transition { return c[len(c)-1] }

// broken reports whether a transition is missing.
func (c chain) broken() bool {
	return len(c) == 0 || c[0].Known() || c.last().To != tracer.Closed || strings.Contains(c.path(), "|")
}

// leaving is the transition that leaves a state.
func (c chain) leaving(t testing.TB, s tracer.State) tracer.Transition {
	t.Helper()
	tr := scenario.Life(c).Leaving(s)
	if tr.From != s {
		t.Fatalf("nothing leaves %v in\n%v", s, c)
	}
	return tr
}

const (
	clientOpen = "CLOSED SYN_SENT ESTABLISHED"
	serverOpen = "LISTEN SYN_RECV ESTABLISHED"
)

// want checks the path, the reason of the last transition, and what check checks.
func (c chain) want(t testing.TB, path string, reason tracer.Reason) {
	t.Helper()
	if got := c.path(); got != path {
		t.Errorf("the socket went\n%s, want\n%s", got, path)
	}
	if got := c.last().Reason; got != reason {
		t.Errorf("it ended %q, want %q", got, reason)
	}
	c.check(t)
}

// check checks what holds for every chain that was seen from its start: the order, durations
// that fit the times, and known starts of every state but the first.
func (c chain) check(t testing.TB) {
	t.Helper()
	for i, tr := range c {
		if err := (&tracer.Filter{From: []tracer.State{tr.From}, To: []tracer.State{tr.To}}).Check(); err != nil {
			t.Error(err)
		}
		if i == 0 {
			if tr.Known() {
				t.Errorf("%v lasted %v (%v): nobody saw it begin", tr.From, tr.Duration, tr.Precision)
			}
			continue
		}
		if tr.From != c[i-1].To {
			t.Errorf("%v follows %v", tr.From, c[i-1].To)
		}
		if tr.Ktime < c[i-1].Ktime {
			t.Errorf("%v -> %v is %v older than the one before", tr.From, tr.To, c[i-1].Ktime-tr.Ktime)
		}
		if tr.From == tracer.Closed {
			if tr.Known() {
				t.Errorf("%v: nothing is kept of a closed socket", tr)
			}
			continue
		}
		if tr.Precision != tracer.PrecisionExact && !(tr.Precision == tracer.PrecisionJiffy && mayBeLate(tr)) {
			t.Errorf("%v lasted %v, %v: want exact", tr.From, tr.Duration, tr.Precision)
		}
		if want := tr.Ktime - c[i-1].Ktime; tr.Duration != want {
			t.Errorf("%v lasted %v, but %v lie between its ends", tr.From, tr.Duration, want)
		}
	}
}

// mayBeLate reports whether the start of TIME_WAIT, at either end of the transition, may be
// computed from the timer. On an emulated machine jiffies can be so late that the timer does
// not seem to have been armed by the FIN.
func mayBeLate(tr tracer.Transition) bool {
	return (late || testing.Short()) && tr.Source == tracer.SourceMinisock && (tr.From == tracer.TimeWait || tr.To == tracer.TimeWait)
}

// owned checks the role, and that this process is owner and closer.
func (c chain) owned(t testing.TB, role tracer.Role) {
	t.Helper()
	comm := processName(t)
	closed := false
	for _, tr := range c {
		if tr.Role != role {
			t.Errorf("%v -> %v: role %q, want %q", tr.From, tr.To, tr.Role, role)
		}
		if tr.Owner.PID != uint32(os.Getpid()) || tr.Owner.Comm.String() != comm || tr.Owner.UID != uint32(os.Getuid()) {
			t.Errorf("%v -> %v: owner %d/%v uid %d, want %d/%s uid %d", tr.From, tr.To,
				tr.Owner.PID, tr.Owner.Comm, tr.Owner.UID, os.Getpid(), comm, os.Getuid())
		}
		closed = closed || tr.To == tracer.FinWait1 || tr.To == tracer.LastAck
		switch {
		case closed && (tr.Closer.PID != uint32(os.Getpid()) || tr.Closer.Comm.String() != comm):
			t.Errorf("%v -> %v: closer %d/%v, want %d/%s", tr.From, tr.To, tr.Closer.PID, tr.Closer.Comm, os.Getpid(), comm)
		case !closed && tr.To != tracer.Closed && tr.Closer.PID != 0:
			t.Errorf("%v -> %v: closer %d, but nobody has closed it", tr.From, tr.To, tr.Closer.PID)
		}
	}
}

// processName is the name of the process. A thread may have another name.
func processName(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}
