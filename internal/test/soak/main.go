//go:build linux

// Command soak runs finwait under everything at once: all scenarios and loads in random
// order, in network namespaces that are made and removed meanwhile, with stalled
// readers and small ring buffers, while finwait is ended, killed and started again. It
// checks that nothing is wrong, unaccounted for, or left behind.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

func main() {
	duration := flag.Duration("duration", time.Minute, "how long the workload runs")
	seed := flag.Uint64("seed", 0, "seed of the random choices; 0 picks one")
	program := flag.String("finwait", "bin/finwait", "the finwait binary")
	flag.Parse()
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "this traces the kernel and makes network namespaces: run it as root")
		os.Exit(1)
	}
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	// The same seed makes the same choices. Their timing depends on the machine.
	fmt.Printf("soak: %v, seed %d\n", *duration, *seed)
	s := &soak{program: *program, seed: *seed, began: time.Now(), verdicts: make(map[string]int), losses: make(losses)}
	s.pool = &pool{faults: &s.faults}
	s.workload = &workload{faults: &s.faults, pool: s.pool}
	if err := s.run(ctx, *duration); err != nil {
		s.faults.add("%v", err)
	}
	s.report(os.Stdout)
	if s.faults.count() > 0 {
		os.Exit(1)
	}
}

// A soak is one run.
type soak struct {
	program  string
	seed     uint64
	began    time.Time
	pool     *pool
	workload *workload
	faults   faults

	starts, kills, stalls, compared atomic.Int64

	mu       sync.Mutex
	verdicts map[string]int // of audits
	losses   losses
	long     summary // of the long-running trace
	missing  int64   // transitions that audits missed and no loss counted by then
	printed  uint64  // transitions of all traces
	peak     sample  // of all processes
	records  []*records
}

// workers is how many workers run at once.
const workers = 3

func (s *soak) run(ctx context.Context, duration time.Duration) error {
	// The context has no deadline: with one, a rate limiter refuses at once to wait beyond it.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer time.AfterFunc(duration, cancel).Stop()
	long, err := s.startLongTrace()
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	for i := range workers {
		all.Go(func() { s.workload.work(ctx, s.rng(i)) })
	}
	all.Go(func() { s.runPairs(ctx, s.rng(workers)) })
	all.Go(func() { long.stall(ctx, s.rng(workers+1)) })
	all.Wait()
	if err := long.finish(); err != nil {
		return err
	}
	// finwait notices a skipped program run when the socket moves again. Every socket has
	// moved by now, because all namespaces are removed.
	if s.missing > int64(s.long.Lost[missed]) {
		s.faults.add("audits found %d transitions missing, and the long-running trace counted %d as missed", s.missing, s.long.Lost[missed])
	}
	if s.compared.Load() == 0 || s.records[0].most == s.records[0].first || s.losses[ringFull] == 0 {
		return errors.New("no stream was compared with totals, no minisock was made, or no ring was ever full: this proves nothing, so let it last longer")
	}
	return nil
}

// rng returns the random numbers of goroutine n.
func (s *soak) rng(n int) *rand.Rand { return rand.New(rand.NewPCG(s.seed, uint64(n))) }

// start starts a finwait process.
func (s *soak) start(consume func(io.Reader), args ...string) (*process, error) {
	s.starts.Add(1)
	return start(s.program, consume, args...)
}

// checkTrace reports the faults of a trace that SIGINT ended.
func (s *soak) checkTrace(name string, p *process, st *stream) {
	if p.err != nil {
		s.faults.add("%s: %v: %s", name, p.err, p.lastStderr())
	}
	for _, f := range st.faults() {
		s.faults.add("%s: %s", name, f)
	}
	if sum := st.summary; sum != nil {
		s.addLosses(sum.Lost, 0)
		s.mu.Lock()
		s.printed += st.transitions
		s.mu.Unlock()
	}
	samples := p.sampled()
	s.mu.Lock()
	s.peak = peak(append(samples, s.peak))
	s.mu.Unlock()
}

// addLosses adds the losses of a process, and what its audit found missing.
func (s *soak) addLosses(l losses, missing int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.losses.add(l)
	s.missing += missing
}

// addVerdict counts a verdict of an audit.
func (s *soak) addVerdict(v string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.verdicts[v]++
}

// faults prints and counts what went wrong.
type faults struct {
	mu sync.Mutex
	n  int
}

func (f *faults) add(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	fmt.Fprintf(os.Stderr, "soak: FAULT: "+format+"\n", args...)
}

func (f *faults) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

// report prints the figures of the run.
func (s *soak) report(w io.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	type row struct {
		what  string
		value any
	}
	rows := []row{
		{"seed", s.seed},
		{"took", time.Since(s.began).Round(time.Second)},
		{"network namespaces made", s.pool.made.Load()},
		{"scenarios played", s.workload.scenarios.Load()},
		{"that went otherwise", s.workload.otherwise.Load()},
		{"connections of loads", s.workload.connections.Load()},
		{"finwait started", s.starts.Load()},
		{"killed with SIGKILL", s.kills.Load()},
		{"stalls of a reader", s.stalls.Load()},
		{"long-running trace", s.long},
		{"lines of JSON checked", s.printed},
	}
	for _, cause := range slices.Sorted(maps.Keys(s.losses)) {
		rows = append(rows, row{"lost: " + cause, s.losses[cause]})
	}
	rows = append(rows, []row{
		{"streams compared with totals", s.compared.Load()},
		{"counters audited", fmt.Sprintf("%d agree, %d explained, %d disagree", s.verdicts["agrees"], s.verdicts["explained"], s.verdicts["disagrees"])},
		{"of those not counted in time", s.missing},
		{"records of minisocks", s.records[0]},
		{"records of full sockets", s.records[1]},
		{"peak of a process", fmt.Sprintf("%.1f MB resident, %d descriptors, %d threads", float64(s.peak.rss)/1e6, s.peak.fds, s.peak.threads)},
		{"faults", s.faults.count()},
	}...)
	for _, row := range rows {
		fmt.Fprintf(w, "%-30s %v\n", row.what, row.value)
	}
}
