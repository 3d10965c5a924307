//go:build linux

package live_test

import (
	"errors"
	"testing"
	"time"

	"finwait/internal/netstat"
	"finwait/internal/scenario"
)

// Every scenario of finwait demo is seen as it must be. Short mode does not wait for a TIME_WAIT.
func TestScenarios(t *testing.T) {
	t.Parallel()
	names := make(map[string]bool)
	for _, sc := range scenario.All() {
		if names[sc.Name] || sc.Name == "" || sc.Sentence == "" {
			t.Errorf("name %q, sentence %q: missing, or not the first of its name", sc.Name, sc.Sentence)
		}
		names[sc.Name] = true
		t.Run(sc.Name, func(t *testing.T) {
			t.Parallel()
			st, err := scenario.Open()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(st.Close)
			r := follow(t, st.Cookie)
			quit, fed := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(fed)
				r.feed(st, quit)
			}()
			run, counters := sc.Run, netstat.Counters(nil)
			sc.Run = func(st *scenario.Stage) {
				run(st)
				counters = countersOf(st.NS)
			}
			err = st.Play(t.Context(), &sc, testing.Short(), func(_ time.Duration, text string) { t.Log(text) })
			close(quit)
			<-fed
			var cannot *scenario.NotRunError
			if errors.As(err, &cannot) {
				t.Skip(cannot.Why)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, life := range st.Seen() {
				chain(life).check(t)
			}
			explained(t, sc.Name, st.Seen(), counters)
			if sc.Explain(st.Seen()) == "" {
				t.Error("nothing is said about it")
			}
		})
	}
}

// feed gives the recorded transitions to the stage.
func (r *recorder) feed(st *scenario.Stage, quit <-chan struct{}) {
	for n := 0; ; {
		all := r.snapshot()
		for i := range all[n:] {
			st.See(&all[n+i])
		}
		n = len(all)
		select {
		case <-r.more:
		case <-quit:
			return
		}
	}
}
