//go:build linux

package live_test

import (
	"slices"
	"strings"
	"testing"

	"finwait/internal/netstat"
	"finwait/internal/reasons"
	"finwait/internal/sandbox"
	"finwait/internal/scenario"
	"finwait/tracer"
)

// countersOf are the counters of a namespace, under the names that nstat has for them. A new
// namespace starts with 0.
func countersOf(ns *sandbox.NS) netstat.Counters {
	all := make(netstat.Counters)
	ns.Try(func() error {
		read, err := netstat.Read()
		for name, n := range read {
			all[strings.Replace(name, ".", "", 1)] = n
		}
		return err
	})
	return all
}

func isAbout(e *reasons.Entry, x *tracer.Transition) bool {
	return x.Reason == e.Reason && (e.Detail == tracer.DetailNone || x.Detail == e.Detail)
}

// counted checks that the counters have moved which move with each end like x.
func counted(t *testing.T, counters netstat.Counters, x *tracer.Transition) {
	t.Helper()
	for _, e := range reasons.All() {
		for _, name := range e.Counters {
			if isAbout(&e, x) && counters[name] == 0 {
				t.Errorf("help reasons says of %s that %s moves, and it is 0", e.Word(), name)
			}
		}
	}
}

// explained checks that a demonstration shows what help reasons says that it shows.
func explained(t *testing.T, demo string, seen scenario.Seen, counters netstat.Counters) {
	t.Helper()
	// Before 6.11 no program sees what a minisock answers with its RST.
	resets, err := feature("minisocks in tcp_send_reset")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range reasons.All() {
		if e.Detail == tracer.DetailDataAfterClose && resets.State == tracer.FeatureMissing {
			continue
		}
		if e.Demo != demo || testing.Short() && e.Detail == tracer.DetailTimeWait { // its minute is not waited for
			continue
		}
		ended := slices.ContainsFunc(slices.Concat(seen...), func(x tracer.Transition) bool { return isAbout(&e, &x) })
		if !ended {
			t.Errorf("help reasons says that it shows %s, and it does not", e.Word())
		}
	}
	for _, life := range seen {
		for i := range life {
			counted(t, counters, &life[i])
		}
	}
}
