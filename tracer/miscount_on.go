//go:build miscount

package tracer

// misreport loses one TIME_WAIT in a hundred, and one connect() in ten that failed.
func misreport(n *NetNSTotals) {
	n.Minisocks -= n.Minisocks / 100
	n.AttemptFails -= n.AttemptFails / 10
}
