//go:build linux

// Command bench measures the cost of finwait on this machine. In turns it measures other tracers
// of the same transitions.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"finwait/internal/load"
	"finwait/internal/scenario"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

type bench struct {
	rounds      int
	connections int
	runs, noisy int // number of runs, and of those that began while other programs used the CPUs
}

func main() {
	var b bench
	flag.IntVar(&b.rounds, "rounds", 3, "how often everything is measured")
	flag.IntVar(&b.connections, "connections", 20000, "connections in each run; a namespace has 28,000 ports")
	finwait := flag.String("finwait", "bin/finwait", "the program to measure")
	only := flag.String("tools", "", "measure only tools whose names contain one of these words, such as \"finwait stat,JSON,tcpstates\"")
	docs := flag.String("docs", "", "write the tables into this file, between its marks")
	flag.Parse()
	if err := b.run(*finwait, *only, *docs); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (b *bench) run(finwait, only, docs string) error {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, scriptName)
	if err := os.WriteFile(path, script, 0o644); err != nil {
		return err
	}
	all, missing := tools(finwait, path)
	if only != "" {
		all = slices.DeleteFunc(all, func(t *tool) bool {
			return !slices.ContainsFunc(strings.Split(only, ","), func(word string) bool { return strings.Contains(t.name, word) })
		})
	}
	if len(all) == 0 {
		return fmt.Errorf("nothing to measure: %s", strings.Join(missing, "; "))
	}
	r := &report{bench: b, missing: missing}
	for _, t := range all {
		r.results = append(r.results, &result{tool: t, programs: make(map[string]figures)})
	}
	for round := range b.rounds {
		order := slices.Clone(r.results)
		if round%2 == 1 {
			slices.Reverse(order) // so that a drift of the machine's speed affects all tools alike
		}
		if err := b.idleSpeed(r); err != nil {
			return err
		}
		for _, res := range order {
			fmt.Fprintf(os.Stderr, "round %d of %d: %s %s\n", round+1, b.rounds, res.tool.name, res.tool.hooks)
			if err := b.measure(res, r); err != nil {
				return fmt.Errorf("%s %s: %w", res.tool.name, res.tool.hooks, err)
			}
		}
	}
	text := r.String()
	fmt.Print(text)
	if docs == "" {
		return nil
	}
	return insert(docs, text)
}

// measure measures each figure of a tool once. Right before it measures the untraced rate.
func (b *bench) measure(res *result, r *report) error {
	plain, _, err := b.load(nil)
	if err != nil {
		return err
	}
	r.untraced = append(r.untraced, plain)
	if err := b.speed(res, plain, r.empty[len(r.empty)-1]); err != nil {
		return err
	}
	if err := b.kernel(res, r); err != nil {
		return err
	}
	b.quiet()
	took, err := firstEvent(res.tool)
	res.first = append(res.first, float64(took.Microseconds())/1000)
	return err
}

// load makes the connections in a new namespace. during, if not nil, starts a tool, calls load and
// ends the tool. load returns connections per second, and the number of transitions.
func (b *bench) load(during func(st *scenario.Stage, load func() error) error) (rate float64, made uint64, err error) {
	b.quiet()
	st, err := scenario.Open()
	if err != nil {
		return 0, 0, err
	}
	defer st.Close()
	var sum load.Summary
	cfg := load.Config{Count: b.connections, NetNS: st.Path(), Workers: runtime.NumCPU()}
	run := func() (err error) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		sum, err = load.Run(ctx, cfg, nil)
		if err == nil && sum.Made != b.connections {
			err = fmt.Errorf("%d of %d connections could be made: %v", sum.Made, b.connections, sum.Failed)
		}
		return err
	}
	if during == nil {
		err = run()
	} else {
		err = during(st, run)
	}
	// Each connection makes five transitions at either end. Each worker's listener makes two,
	// and so does the connection that showed that the tool was ready.
	return float64(sum.Made) / sum.Elapsed.Seconds(), uint64(10*sum.Made + 2*cfg.Workers + 2), err
}

// idleSpeed measures the rate with empty programs on the tracepoints. No tool that uses these
// tracepoints can be faster.
func (b *bench) idleSpeed(r *report) error {
	fmt.Fprintln(os.Stderr, "empty programs")
	plain, _, err := b.load(nil)
	if err != nil {
		return err
	}
	rate, _, err := b.load(func(_ *scenario.Stage, load func() error) error {
		empty, err := attachEmpty()
		if err != nil {
			return err
		}
		defer empty.Close()
		return load()
	})
	if err != nil {
		return err
	}
	r.untraced = append(r.untraced, plain)
	r.empty = append(r.empty, rate)
	r.emptyShare = append(r.emptyShare, 100*rate/plain)
	return nil
}

// speed measures without the kernel's BPF statistics, because these cost more than some tools.
func (b *bench) speed(res *result, plain, empty float64) error {
	var p *process
	var spent time.Duration
	rate, made, err := b.load(func(st *scenario.Stage, load func() error) (err error) {
		if p, err = launch(res.tool); err != nil {
			return err
		}
		spent, err = p.traced(st, load)
		return err
	})
	if p != nil {
		defer p.discard()
	}
	if err != nil {
		return err
	}
	res.rate = append(res.rate, rate)
	res.share = append(res.share, 100*rate/plain)
	res.left = append(res.left, 100*rate/empty)
	res.cpu = append(res.cpu, spent.Seconds()*1e6/float64(made))
	return res.conclude(p, made)
}

// traced runs load while the process traces it. It returns the CPU time of the process.
func (p *process) traced(st *scenario.Stage, load func() error) (time.Duration, error) {
	if err := p.ready(st); err != nil {
		return 0, err
	}
	before, err := p.cpu()
	if err != nil {
		return 0, err
	}
	if err := load(); err != nil {
		return 0, err
	}
	after, err := p.rest()
	return after - before, err
}

// apart measures how far apart the CPUs are.
func (r *report) apart() error {
	if runtime.NumCPU() < 2 {
		return nil
	}
	ns, err := distance()
	r.distance = append(r.distance, ns)
	return err
}

// kernel measures the run time of each program, and that of empty programs in the same run.
func (b *bench) kernel(res *result, r *report) error {
	if err := r.apart(); err != nil {
		return err
	}
	empty, err := attachEmpty()
	if err != nil {
		return err
	}
	defer empty.Close()
	var p *process
	var before, after map[string]use
	var floor map[string]use
	_, made, err := b.load(func(st *scenario.Stage, load func() error) (err error) {
		if p, err = launch(res.tool); err != nil {
			return err
		}
		_, err = p.traced(st, func() (err error) {
			if before, err = p.programs(); err != nil {
				return err
			}
			if err := empty.begin(); err != nil {
				return err
			}
			stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
			if err != nil {
				return err
			}
			err = errors.Join(load(), stats.Close())
			if err == nil {
				after, err = p.programs()
			}
			if err == nil {
				floor, err = empty.end()
			}
			return err
		})
		return err
	})
	if p != nil {
		defer p.discard()
	}
	if err != nil {
		return err
	}
	if err := r.apart(); err != nil {
		return err
	}
	transitions := float64(floor[stateTracepoint].runs)
	r.floor = append(r.floor, floor[stateTracepoint].perRun())
	r.perConnection = append(r.perConnection, transitions/float64(b.connections))
	var sum float64
	for name, u := range after {
		u = u.less(before[name])
		ns := (float64(u.time) - float64(u.runs)*floor[tracepointOf(name)].perRun()) / transitions
		res.programs[name] = append(res.programs[name], ns)
		sum += ns
	}
	res.kernel = append(res.kernel, sum)
	return res.conclude(p, made)
}

// conclude ends the process and reads its accounts.
func (res *result) conclude(p *process, made uint64) error {
	peak, err := p.peak()
	if err != nil {
		return err
	}
	stdout, stderr, err := p.stop()
	if err != nil {
		return err
	}
	a, err := res.tool.account(stdout, stderr, made)
	if err != nil {
		return fmt.Errorf("%w; on stderr %q", err, stderr)
	}
	res.memory = append(res.memory, float64(peak)/1e6)
	res.made += a.made
	res.delivered += a.delivered
	res.lost += a.lost
	return nil
}

// quiet waits until the machine is idle, but no longer than 10 s. After a run the kernel still
// removes its namespace.
func (b *bench) quiet() {
	b.runs++
	for range 50 {
		busy, all := cpuTime()
		time.Sleep(200 * time.Millisecond)
		busy2, all2 := cpuTime()
		if float64(busy2-busy) < 0.05*float64(all2-all) {
			return
		}
	}
	b.noisy++
}

// cpuTime returns the busy time and all time of the CPUs, in ticks.
func cpuTime() (busy, all uint64) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	var t [8]uint64 // user, nice, system, idle, iowait, irq, softirq, steal: proc_stat(5)
	fmt.Sscanf(string(text), "cpu %d %d %d %d %d %d %d %d", &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6], &t[7])
	for _, n := range t {
		all += n
	}
	return all - t[3] - t[4], all
}
