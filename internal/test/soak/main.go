//go:build linux

// Command soak runs finwait under everything at once: all scenarios and loads at
// random, in network namespaces that come and go, with readers that stand still,
// small ring buffers, and finwait ended, killed and started again meanwhile. It
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
	duration := flag.Duration("duration", time.Minute, "how long it takes, but for the end")
	seed := flag.Uint64("seed", 0, "of what is chosen at random; 0: any")
	program := flag.String("finwait", "bin/finwait", "the program")
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
	// What is chosen is the same with the same seed; when it happens is the machine's affair.
	fmt.Printf("soak: %v, seed %d\n", *duration, *seed)
	s := &soak{program: *program, seed: *seed, began: time.Now(), verdicts: make(map[string]int), losses: make(losses)}
	s.world = &world{faults: &s.faults}
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
	program string
	seed    uint64
	began   time.Time
	world   *world
	faults  faults

	starts, kills, stalls, compared atomic.Int64

	mu       sync.Mutex
	verdicts map[string]int // of audits
	losses   losses
	elder    summary
	missing  int64  // in audits, for which no loss was counted by then
	printed  uint64 // transitions, by all traces
	worst    sample // of all processes
	records  []*records
}

// players is how many live in the world side by side.
const players = 3

func (s *soak) run(ctx context.Context, duration time.Duration) error {
	// No deadline: a rate limit would not wait for what comes after it.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer time.AfterFunc(duration, cancel).Stop()
	e, err := s.born()
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	for i := range players {
		all.Go(func() { s.world.live(ctx, s.rng(i)) })
	}
	all.Go(func() { s.succeed(ctx, s.rng(players)) })
	all.Go(func() { e.age(ctx, s.rng(players+1)) })
	all.Wait()
	if err := e.die(); err != nil {
		return err
	}
	// What the kernel runs no program for is noticed when the socket moves again: at
	// the latest when its namespace was removed, as all are by now.
	if s.missing > int64(s.elder.Lost[recursion]) {
		s.faults.add("audits found %d transitions missing, and the elder counted %d as lost to recursion", s.missing, s.elder.Lost[recursion])
	}
	if s.compared.Load() == 0 || s.records[0].most == s.records[0].first || s.losses[ringFull] == 0 {
		return errors.New("no stream was compared with totals, no minisock was made, or no ring was ever full: this proves nothing, so let it last longer")
	}
	return nil
}

// rng makes the numbers of one goroutine.
func (s *soak) rng(n int) *rand.Rand { return rand.New(rand.NewPCG(s.seed, uint64(n))) }

// start starts a finwait.
func (s *soak) start(consume func(io.Reader), args ...string) (*process, error) {
	s.starts.Add(1)
	return start(s.program, consume, args...)
}

// judgeTrace says what is wrong with a trace that was ended in order.
func (s *soak) judgeTrace(name string, p *process, st *stream) {
	if p.err != nil {
		s.faults.add("%s: %v: %s", name, p.err, p.lastWords())
	}
	for _, f := range st.faults() {
		s.faults.add("%s: %s", name, f)
	}
	if sum := st.summary; sum != nil {
		s.lost(sum.Lost, 0)
		s.mu.Lock()
		s.printed += st.transitions
		s.mu.Unlock()
	}
	samples := p.sampled()
	s.mu.Lock()
	s.worst = worst(append(samples, s.worst))
	s.mu.Unlock()
}

func (s *soak) lost(l losses, missing int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.losses.add(l)
	s.missing += missing
}

func (s *soak) verdict(v string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.verdicts[v]++
}

// faults are what went wrong.
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

// report prints what happened.
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
		{"network namespaces made", s.world.namespaces.Load()},
		{"scenarios played", s.world.scenarios.Load()},
		{"that went otherwise", s.world.otherwise.Load()},
		{"connections of loads", s.world.connections.Load()},
		{"finwait started", s.starts.Load()},
		{"killed with SIGKILL", s.kills.Load()},
		{"stalls of a reader", s.stalls.Load()},
		{"transitions, of the elder", s.elder},
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
		{"worst of a process", fmt.Sprintf("%.1f MB resident, %d descriptors, %d threads", float64(s.worst.rss)/1e6, s.worst.fds, s.worst.threads)},
		{"faults", s.faults.count()},
	}...)
	for _, row := range rows {
		fmt.Fprintf(w, "%-30s %v\n", row.what, row.value)
	}
}
