package testnet

import "testing"

// attempts is how often something is tried that a machine may spoil.
const attempts = 4

// Attempts runs once until it returns "", or fails the test. Some machines run no
// program for a transition now and then (docs/limitations.md). That must be counted,
// and a run in which it happened proves nothing about all the others: once says so.
// Each attempt has namespaces of its own.
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
