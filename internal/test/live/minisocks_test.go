//go:build linux

package live_test

import (
	"testing"

	"finwait/internal/netns"
	"finwait/internal/sandbox"
	"finwait/tracer"
)

// The map has no room for another minisock. That is counted, and no transition is invented.
func TestMinisocksFull(t *testing.T) {
	t.Parallel()
	f := sandbox.Families[0]
	ns := sandbox.New(t)
	ns.Sysctl("tcp_fin_timeout", "1")
	kept := newRecorder(t)
	// With Audit, losses are counted by namespace.
	tr := start(t, tracer.Config{Minisocks: 1, Audit: true}, kept)
	const n = 20
	for range n {
		ns.Pair(f).Client.Close()
	}
	waitStates(t, ns, tracer.FinWait2, 0)
	tr.stop(t)
	tr.stats(t)
	var cookie uint64
	ns.Try(func() (err error) {
		cookie, err = netns.Cookie()
		return err
	})
	mine, err := tr.NetNSTotals(cookie)
	if err != nil {
		t.Fatal(err)
	}
	if mine.Lost == 0 {
		t.Errorf("nothing was lost: this tests nothing: %+v", mine)
	}
	followed := 0
	for _, x := range kept.snapshot() {
		if x.From != tracer.FinWait2 || x.NetNSCookie != ns.Cookie {
			continue
		}
		if x.Reason != tracer.ReasonExpired {
			t.Errorf("made up:\n%v", chain{x})
		}
		if x.Precision == tracer.PrecisionExact {
			followed++
		}
	}
	if int(mine.Lost) > n-followed {
		t.Errorf("%d of %d were followed, but %d counted as lost", followed, n, mine.Lost)
	}
}
