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
	Sentence string // one sentence about what it shows

	// Run makes the connections. A failure is fatal to the Stage.
	Run func(*Stage)

	// Want is the path that each socket must take. Sockets of the same role are in order.
	// If a TIME_WAIT is to expire, its minute is waited for.
	Want []Want

	// Also, if set, returns what else is wrong. The paths are as wanted by then.
	Also func(Seen) error

	// Explain says in a few sentences what was seen and what it means. The paths are as wanted.
	Explain func(Seen) string
}

// Minute reports whether a TIME_WAIT must expire, which takes a minute and up to one slot of
// the timer wheel.
func (sc *Scenario) Minute() bool { return slices.ContainsFunc(sc.Want, Want.minute) }

// All returns the scenarios, in the best order to learn from.
func All() []Scenario {
	return []Scenario{
		fourWay(), passive(), simultaneous(), halfClose(), orphan(), finWait1(), closeWaitLeak(), lastAckLost(),
		reset(), unreadData(), lingerZero(), dataAfterClose(), listenerClosed(),
		refused(), timeout(), givenUp(), keepalive(), rstInTimeWait(),
		reuse(), recycle(), rebind(), portExhaustion(), inUse(), overflow(),
	}
}

// check returns how seen differs from Want. Every client and server must be in Want, in order.
// Listeners need not be.
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
			if path := got[i].steps(); len(path) < len(steps) || !slices.EqualFunc(path[:len(steps)], steps, isStep) {
				return fmt.Errorf("%v %d went %s, and not %s", role, i+1, strings.Join(path, " "), strings.Join(steps, " "))
			}
		}
	}
	if sc.Also != nil {
		return sc.Also(seen)
	}
	return nil
}
