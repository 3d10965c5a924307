package tracer_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"finwait/internal/ktime"
	"finwait/internal/scenario"
	"finwait/internal/test/saved"
	"finwait/tracer"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var record = flag.Bool("record", false, "run every scenario and save what the programs report of it")

// What the kernel reported in the past means the same as then.
func TestSaved(t *testing.T) {
	all, err := saved.All()
	if err != nil || len(all) != len(scenario.All()) {
		t.Fatalf("%d runs of %d scenarios are saved, %v", len(all), len(scenario.All()), err)
	}
	for _, r := range all {
		clock := ktime.NewClock(r.Clock)
		if len(r.Events) == 0 || len(r.Events) != len(r.Transitions) || len(r.RawEvents) == 0 || len(r.RawEvents) != len(r.Raws) {
			t.Fatalf("%s: %d records of %d transitions, %d of %d raw events", r.Name, len(r.Events), len(r.Transitions), len(r.RawEvents), len(r.Raws))
		}
		for i, sample := range r.Events {
			got, err := tracer.Resolve(sample, clock)
			if diff := cmp.Diff(r.Transitions[i].Tracer(), got, cmpopts.EquateComparable(netip.AddrPort{})); err != nil || diff != "" {
				t.Errorf("%s, record %d: %v (-saved +now)\n%s", r.Name, i, err, diff)
			}
		}
		for i, sample := range r.RawEvents {
			got, err := tracer.ResolveRaw(sample, clock)
			if diff := cmp.Diff(r.Raws[i].Tracer(), got, cmpopts.EquateComparable(netip.AddrPort{})); err != nil || diff != "" {
				t.Errorf("%s, raw record %d: %v (-saved +now)\n%s", r.Name, i, err, diff)
			}
		}
	}
}

// TestRecord makes the files of package saved anew: go test ./tracer -run TestRecord -record.
func TestRecord(t *testing.T) {
	if !*record {
		t.Skip("it writes files only with -record")
	}
	for _, sc := range scenario.All() {
		t.Run(sc.Name, func(t *testing.T) {
			t.Parallel()
			save(t, &sc)
		})
	}
}

func save(t *testing.T, sc *scenario.Scenario) {
	st, err := scenario.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	r := &saved.Run{Name: sc.Name}
	cfg := tracer.Config{Filter: tracer.Filter{NetNS: []uint64{st.Cookie}}}
	raw := cfg
	raw.Raw = true
	cfg.SplitBy = tracer.SplitPort
	began := time.Now()
	told, err := tracer.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer told.Close()
	raws, err := tracer.New(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer raws.Close()
	r.Hooks = told.Hooks().String()
	r.Mono, r.Wall = ktime.Now()
	frozen := func() *ktime.Clock { return ktime.NewClock(r.Clock) }

	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		clock := frozen()
		err := told.ReadSamples(ctx, func(sample []byte) error {
			tr, err := tracer.Resolve(sample, clock)
			if err != nil || !st.See(&tr) {
				return err
			}
			r.Events = append(r.Events, sample)
			r.Transitions = append(r.Transitions, saved.FromTransition(&tr))
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() {
		clock := frozen()
		err := raws.ReadSamples(ctx, func(sample []byte) error {
			ev, err := tracer.ResolveRaw(sample, clock)
			if err != nil {
				return err
			}
			r.RawEvents = append(r.RawEvents, sample)
			r.Raws = append(r.Raws, saved.FromRaw(&ev))
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	err = st.Play(t.Context(), sc, false, nil)
	stop()
	wg.Wait()
	var cannot *scenario.NotRunError
	if errors.As(err, &cannot) {
		t.Fatal(cannot.Why)
	}
	if err != nil {
		t.Fatal(err)
	}
	stats, err := told.Stats()
	if err != nil {
		t.Fatal(err)
	}
	totals, err := told.Totals()
	if err != nil {
		t.Fatal(err)
	}
	groups, err := told.Groups()
	if err != nil {
		t.Fatal(err)
	}
	r.Stats, r.Totals, r.SpanNs = saved.FromStats(stats), saved.FromTotals(totals), int64(time.Since(began))
	for _, g := range groups {
		r.Groups = append(r.Groups, saved.FromGroup(g))
	}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("../internal/test/saved", saved.Dir, sc.Name+".run"), append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
