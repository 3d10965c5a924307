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

// A couple is a finwait trace and a finwait stat that run at one time. What happens
// in their witness, a town that nobody else uses, happens while both are attached:
// of that they must tell the same, and the same as the kernel's counters.
type couple struct {
	soak    *soak
	rng     *rand.Rand
	witness *town

	trace, stat *process
	stream      stream
	printed     []byte // by stat
}

// succeed runs one couple after the other until ctx is done.
func (s *soak) succeed(ctx context.Context, rng *rand.Rand) {
	for ctx.Err() == nil {
		t, err := s.world.settle(ctx)
		if err != nil {
			if ctx.Err() == nil {
				s.faults.add("make a network namespace: %v", err)
			}
			return
		}
		c := &couple{soak: s, rng: rng, witness: t}
		if err := c.run(ctx); err != nil {
			s.faults.add("%v", err)
		}
		s.world.vacate(t)
	}
}

// rings are the sizes of ring buffers, from far too small to what it is by default.
var rings = []int{os.Getpagesize(), 4 * os.Getpagesize(), 16 * os.Getpagesize(), 1 << 20, 8 << 20}

func (c *couple) run(ctx context.Context) error {
	ring := rings[c.rng.IntN(len(rings))]
	netns := c.witness.Inode
	var err error
	c.trace, err = c.soak.start(func(r io.Reader) { c.stream.read(r, netns) },
		"trace", "--output", "json", "--ring-bytes", strconv.Itoa(ring))
	if err != nil {
		return err
	}
	c.stat, err = c.soak.start(func(r io.Reader) { c.printed, _ = io.ReadAll(r) },
		"stat", "--audit", "--output", "json", "--by", "netns", "--top", "100000", "--duration", "10m")
	if err != nil {
		return errors.Join(err, c.trace.end(os.Kill))
	}
	kills := c.soak.compared.Load() > 0 // something has been proved by then
	if c.rng.IntN(8) == 0 && kills {    // somewhere on the way to being attached
		time.Sleep(time.Duration(c.rng.IntN(1000)) * time.Millisecond)
		return c.kill()
	}
	if err := errors.Join(c.trace.await(), c.stat.await()); err != nil {
		return errors.Join(err, c.kill())
	}
	c.disturb(ctx, time.Duration(2+c.rng.IntN(9))*time.Second)
	if c.rng.IntN(4) == 0 && kills {
		return c.kill()
	}
	return c.end()
}

// disturb lets things happen for a while.
func (c *couple) disturb(ctx context.Context, d time.Duration) {
	some := func() time.Duration { return time.Duration(300+c.rng.IntN(2700)) * time.Millisecond }
	for over := time.Now().Add(d); time.Now().Before(over) && ctx.Err() == nil; {
		switch c.rng.IntN(6) {
		case 0:
			c.soak.stalls.Add(1)
			c.trace.stop(some())
		case 1:
			c.soak.stalls.Add(1)
			c.stat.stop(some())
		case 2:
			c.soak.stalls.Add(1)
			c.stream.leave(some())
		case 3:
			pause(ctx, some()/2)
		default:
			// To the end, so that all that is made in the witness is over by then.
			c.soak.world.load(context.WithoutCancel(ctx), c.rng, c.witness.Stage, 50+c.rng.IntN(400))
		}
	}
}

func (c *couple) kill() error {
	c.soak.kills.Add(2)
	err := errors.Join(c.trace.end(os.Kill), c.stat.end(os.Kill))
	for _, wrong := range c.stream.wrong {
		c.soak.faults.add("trace, killed: %s", wrong)
	}
	return err
}

func (c *couple) end() error {
	if err := c.calm(); err != nil {
		return err
	}
	if c.rng.IntN(4) == 0 { // while its output is blocked
		c.soak.stalls.Add(1)
		go c.stream.leave(time.Second)
		time.Sleep(beat)
	}
	errTrace := c.trace.end(os.Interrupt)
	errStat := c.stat.end(os.Interrupt)
	if err := errors.Join(errTrace, errStat); err != nil {
		return err
	}
	c.soak.judgeTrace("trace", c.trace, &c.stream)
	c.judge()
	return nil
}

// calm waits until nothing moves in the witness: then it does not matter which of
// the two is ended first.
func (c *couple) calm() error {
	for deadline := time.Now().Add(patience); ; time.Sleep(beat) {
		left, err := c.witness.Left()
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
			return errors.New("the connections in the witness do not come to their end")
		}
	}
}

// judge compares what the two say with each other, and with the kernel.
func (c *couple) judge() {
	f := &c.soak.faults
	st, err := parseStatistic(c.printed)
	if err != nil {
		f.add("stat: %v, %v: %s", c.stat.err, err, c.stat.lastWords())
		return
	}
	missing := c.audited(st)
	if code := c.stat.ProcessState.ExitCode(); code != 0 && missing == 0 || code == 0 && missing > 0 {
		f.add("stat: %v, with %d transitions missing in its audit: %s", c.stat.err, missing, c.stat.lastWords())
	}
	c.compare(st, missing)
}

// audited looks at the audit, and says how many transitions are missing in it.
func (c *couple) audited(st *statistic) (missing int64) {
	off := make(map[uint32]int64) // by namespace: one transition can be missing in several counters
	for _, r := range st.Audit {
		c.soak.verdict(r.Verdict)
		switch diff := max(r.Kernel-r.Finwait, r.Finwait-r.Kernel); {
		case r.Verdict == "disagrees":
			off[r.NetNS] = max(off[r.NetNS], diff)
			fmt.Printf("soak: stat: %s of network namespace %d: the kernel counted %d, finwait %d; lost: %+v\n", r.Counter, r.NetNS, r.Kernel, r.Finwait, st.Lost)
		case r.NetNS == c.witness.Inode && r.Verdict != "agrees" && st.Lost.total() == 0:
			c.soak.faults.add("stat: %s of the witness: the kernel counted %d, finwait %d, without a loss: %s", r.Counter, r.Kernel, r.Finwait, r.Cause)
		}
	}
	for _, n := range off {
		missing += n
	}
	c.soak.lost(st.Lost, missing)
	return missing
}

// compare compares what both say of the witness.
func (c *couple) compare(st *statistic, missing int64) {
	f := &c.soak.faults
	if st.Ungrouped > 0 || c.stream.summary == nil {
		return
	}
	lost := c.stream.summary.Lost
	if lost.total() > lost[ringFull] || st.Lost.total() > 0 || missing > 0 {
		return // which of the two has missed what is not known
	}
	c.soak.compared.Add(1)
	totals := make(map[string]moves)
	name := strconv.FormatUint(uint64(c.witness.Inode), 10)
	for _, g := range st.Groups {
		if g.Name != nil && *g.Name == name {
			for _, s := range g.States {
				totals[s.State] = s.moves
			}
		}
	}
	for state, t := range totals {
		var m moves
		if w := c.stream.watched[state]; w != nil {
			m = *w
		}
		// What the ring had no room for is missing in the stream, and only there.
		if lost[ringFull] == 0 && m != t || m.Entered > t.Entered || m.Left > t.Left {
			f.add("the witness: %s was entered and left %v in the stream, %v in the totals; lost: %+v", state, m, t, lost)
		}
	}
	for state, m := range c.stream.watched {
		if _, ok := totals[state]; !ok && state != closed {
			f.add("the witness: %s was entered and left %v in the stream, and is not in the totals", state, *m)
		}
	}
}
