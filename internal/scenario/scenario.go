//go:build linux

package scenario

import (
	"fmt"
	"slices"
	"strings"

	"finwait/tracer"
)

// A Scenario is one way in which a connection ends.
type Scenario struct {
	Name     string
	Sentence string // what it shows

	// Run makes it. What it cannot do is fatal, by way of the Stage.
	Run func(*Stage)

	// Want is what must be seen of each socket, those of one role in order.
	// Where a TIME_WAIT is to expire, the minute is waited for.
	Want []Want

	// Also, if set, says what else is wrong with what was seen, which is as wanted.
	Also func(Seen) error

	// Explain says in a few sentences what was seen, which is as wanted, and what it means.
	Explain func(Seen) string
}

// Minute reports whether a TIME_WAIT is waited for, a minute and up to a slot of the timer wheel.
func (sc *Scenario) Minute() bool { return slices.ContainsFunc(sc.Want, Want.minute) }

// All are the scenarios, in the order in which they are best learnt from.
func All() []Scenario {
	return []Scenario{
		fourWay(), passive(), simultaneous(), halfClose(), orphan(), finWait1(), closeWaitLeak(), lastAckLost(),
		reset(), lingerZero(), refused(), timeout(), rstInTimeWait(),
		reuse(), recycle(), rebind(), portExhaustion(), overflow(),
	}
}

// check says what is missing in what was seen. Every client and server must be
// wanted, in order; listeners need not.
func (sc *Scenario) check(seen Seen, fast bool) error {
	want := make(map[tracer.Role][]Want)
	for _, w := range sc.Want {
		want[w.Role] = append(want[w.Role], w)
	}
	for _, role := range []tracer.Role{tracer.RoleUnknown, tracer.RoleClient, tracer.RoleServer, tracer.RoleListener} {
		got := seen.Of(role)
		if role == tracer.RoleListener && len(want[role]) == 0 {
			continue
		}
		if len(got) != len(want[role]) {
			return fmt.Errorf("%d sockets of role %q were seen, and not %d", len(got), role, len(want[role]))
		}
		for i, w := range want[role] {
			steps, minute := w.cut()
			switch {
			case minute && fast:
				steps = append(slices.Clone(steps), "CLOSED:"+tracer.ReasonNetNSRemoved.String())
			case minute:
				steps = append(slices.Clone(steps), expiry[1])
			}
			path := strings.Fields(got[i].Path())
			if len(path) < len(steps) || !slices.Equal(path[:len(steps)], steps) {
				return fmt.Errorf("%v %d went %s, and not %s", role, i+1, got[i].Path(), strings.Join(steps, " "))
			}
		}
	}
	if sc.Also != nil {
		return sc.Also(seen)
	}
	return nil
}
