// Package testnet gives tests network namespaces full of sockets in every state, and cgroups. It
// runs a test again that the machine has spoilt.
package testnet

import "testing"

// attempts is how often a test is tried that a machine may spoil.
const attempts = 4

// Attempts calls once until it returns "" or fails the test. Otherwise once returns why the
// run proves nothing. Some machines now and then run no program for a transition
// (docs/limitations.md). finwait must count that, but the rest of such a run cannot be
// compared. Each attempt makes namespaces of its own.
func Attempts(t *testing.T, once func(*testing.T) (why string)) {
	t.Helper()
	for n := range attempts {
		why := once(t)
		if why == "" || t.Failed() {
			return
		}
		t.Logf("attempt %d: %s", n+1, why)
	}
	t.Errorf("none of %d runs was complete", attempts)
}
