//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// A pair is a finwait trace and a finwait stat that run at the same time. The control
// namespace is used by nobody else, and only while both are attached. What the two
// processes report of it must agree, also with the kernel's counters.
type pair struct {
	soak    *soak
	rng     *rand.Rand
	control *namespace

	trace, stat *process
	stream      stream
	printed     []byte // output of stat
}

// runPairs runs one pair after the other until ctx is done.
func (s *soak) runPairs(ctx context.Context, rng *rand.Rand) {
	for ctx.Err() == nil {
		control, err := s.pool.create(ctx)
		if err != nil {
			if ctx.Err() == nil {
				s.faults.add("make a network namespace: %v", err)
			}
			return
		}
		p := &pair{soak: s, rng: rng, control: control}
		if err := p.run(ctx); err != nil {
			s.faults.add("%v", err)
		}
		s.pool.remove(control)
	}
}

// rings are the sizes of the ring buffer, from one page, which is too small, to the default.
var rings = []int{os.Getpagesize(), 4 * os.Getpagesize(), 16 * os.Getpagesize(), 1 << 20, 8 << 20}

func (p *pair) run(ctx context.Context) error {
	ring := rings[p.rng.IntN(len(rings))]
	netns := p.control.Inode
	var err error
	p.trace, err = p.soak.start(func(r io.Reader) { p.stream.read(r, netns) },
		"trace", "--output", "json", "--ring-bytes", strconv.Itoa(ring))
	if err != nil {
		return err
	}
	p.stat, err = p.soak.start(func(r io.Reader) { p.printed, _ = io.ReadAll(r) },
		"stat", "--audit", "--output", "json", "--by", "netns", "--top", "100000", "--duration", "10m")
	if err != nil {
		return errors.Join(err, p.trace.end(os.Kill))
	}
	mayKill := p.soak.compared.Load() > 0 // not before one comparison is done
	if p.rng.IntN(8) == 0 && mayKill {    // before or while it attaches
		time.Sleep(time.Duration(p.rng.IntN(1000)) * time.Millisecond)
		return p.kill()
	}
	if err := errors.Join(p.trace.await(), p.stat.await()); err != nil {
		return errors.Join(err, p.kill())
	}
	p.exercise(ctx, time.Duration(2+p.rng.IntN(9))*time.Second)
	if p.rng.IntN(4) == 0 && mayKill {
		return p.kill()
	}
	return p.end()
}

// exercise makes connections and stalls the processes for a while.
func (p *pair) exercise(ctx context.Context, d time.Duration) {
	random := func() time.Duration { return time.Duration(300+p.rng.IntN(2700)) * time.Millisecond }
	for end := time.Now().Add(d); time.Now().Before(end) && ctx.Err() == nil; {
		switch p.rng.IntN(6) {
		case 0:
			p.soak.stalls.Add(1)
			p.trace.suspend(random())
		case 1:
			p.soak.stalls.Add(1)
			p.stat.suspend(random())
		case 2:
			p.soak.stalls.Add(1)
			p.stream.block(random())
		case 3:
			sleep(ctx, random()/2)
		default:
			// It runs to its end, so that no connection of the control namespace is left half-made.
			p.soak.workload.load(context.WithoutCancel(ctx), p.rng, p.control.Stage, 50+p.rng.IntN(400))
		}
	}
}

// kill kills both processes and checks what the trace had printed.
func (p *pair) kill() error {
	p.soak.kills.Add(2)
	err := errors.Join(p.trace.end(os.Kill), p.stat.end(os.Kill))
	for _, wrong := range p.stream.wrong {
		p.soak.faults.add("trace, killed: %s", wrong)
	}
	return err
}

// end interrupts both processes and checks what they printed.
func (p *pair) end() error {
	if err := p.awaitQuiet(); err != nil {
		return err
	}
	if p.rng.IntN(4) == 0 { // end the trace while its output is blocked
		p.soak.stalls.Add(1)
		go p.stream.block(time.Second)
		time.Sleep(pollInterval)
	}
	errTrace := p.trace.end(os.Interrupt)
	errStat := p.stat.end(os.Interrupt)
	if err := errors.Join(errTrace, errStat); err != nil {
		return err
	}
	p.soak.checkTrace("trace", p.trace, &p.stream)
	p.check()
	return nil
}

// awaitQuiet waits until all sockets of the control namespace are in TIME_WAIT or gone.
// Then it does not matter which process ends first.
func (p *pair) awaitQuiet() error {
	for deadline := time.Now().Add(timeout); ; time.Sleep(pollInterval) {
		left, err := p.control.Left()
		if err != nil {
			return err
		}
		others := 0
		for state, n := range left {
			if state != unix.BPF_TCP_TIME_WAIT {
				others += n
			}
		}
		if others == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.New("the connections in the control namespace do not end")
		}
	}
}

// check compares the two outputs with each other and with the kernel's counters.
func (p *pair) check() {
	f := &p.soak.faults
	st, err := parseStatistic(p.printed)
	if err != nil {
		f.add("stat: %v, %v: %s", p.stat.err, err, p.stat.lastStderr())
		return
	}
	missing := p.checkAudit(st)
	if code := p.stat.ProcessState.ExitCode(); code != 0 && missing == 0 || code == 0 && missing > 0 {
		f.add("stat: %v, with %d transitions missing in its audit: %s", p.stat.err, missing, p.stat.lastStderr())
	}
	p.compare(st, missing)
}

// checkAudit checks the audit and returns how many transitions it found missing.
func (p *pair) checkAudit(st *statistic) (missing int64) {
	off := make(map[uint32]int64) // per namespace the largest difference: one transition can be missing in several counters
	for _, r := range st.Audit {
		p.soak.addVerdict(r.Verdict)
		switch diff := max(r.Kernel-r.Finwait, r.Finwait-r.Kernel); {
		case r.Verdict == "disagrees":
			off[r.NetNS] = max(off[r.NetNS], diff)
			fmt.Printf("soak: stat: %s of network namespace %d: the kernel counted %d, finwait %d; lost: %+v\n", r.Counter, r.NetNS, r.Kernel, r.Finwait, st.Lost)
		case r.NetNS == p.control.Inode && r.Verdict != "agrees" && st.Lost.total() == 0:
			p.soak.faults.add("stat: %s of the control namespace: the kernel counted %d, finwait %d, without a loss: %s", r.Counter, r.Kernel, r.Finwait, r.Cause)
		}
	}
	for _, n := range off {
		missing += n
	}
	p.soak.addLosses(st.Lost, missing)
	return missing
}

// compare compares what both report of the control namespace.
func (p *pair) compare(st *statistic, missing int64) {
	f := &p.soak.faults
	if st.Ungrouped > 0 || p.stream.summary == nil {
		return
	}
	lost := p.stream.summary.Lost
	if lost.total() > lost[ringFull] || st.Lost.total() > 0 || missing > 0 {
		return // it is unknown which of the two missed a transition
	}
	p.soak.compared.Add(1)
	totals := make(map[string]moves)
	name := strconv.FormatUint(uint64(p.control.Inode), 10)
	for _, g := range st.Groups {
		if g.Name != nil && *g.Name == name {
			for _, s := range g.States {
				totals[s.State] = s.moves
			}
		}
	}
	for state, t := range totals {
		var m moves
		if w := p.stream.moves[state]; w != nil {
			m = *w
		}
		// A full ring loses transitions of the stream, but not of the totals.
		if lost[ringFull] == 0 && m != t || m.Entered > t.Entered || m.Left > t.Left {
			f.add("the control namespace: %s was entered and left %v in the stream, %v in the totals; lost: %+v", state, m, t, lost)
		}
	}
	for state, m := range p.stream.moves {
		if _, ok := totals[state]; !ok && state != closed {
			f.add("the control namespace: %s was entered and left %v in the stream, and is not in the totals", state, *m)
		}
	}
}
