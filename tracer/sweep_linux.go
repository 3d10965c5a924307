package tracer

import (
	"time"

	"finwait/internal/ktime"

	"github.com/cilium/ebpf"
)

// noticedWithin bounds how long after its timer was due a minisock's end is noticed that no
// program was run for. The bound that is promised is 10 s.
const noticedWithin = 9500 * time.Millisecond

// sweepsPerSockets is how many sweeps of minisocks there are for one of full sockets. That costs
// more for each, because each socket is read.
const sweepsPerSockets = 3

// overdueAfter is how late a minisock's timer may fire, and some time for the softirq that
// fires it.
func overdueAfter(hz uint32) time.Duration {
	return ktime.Slot(ktime.TimeWaitLen, hz) + 250*time.Millisecond
}

// sweepEvery is how often the records of minisocks are looked at: every 7.1 s at 250 Hz.
func sweepEvery(hz uint32) time.Duration { return noticedWithin - overdueAfter(hz) - makeSure }

// settleEvery is how often finwait looks for sockets that have got their local port since their
// first transition, if something asks for that port.
const settleEvery = time.Second

// makeSure is how long after one look another one is sure that a minisock is gone. The program for
// its end may have been running.
const makeSure = 100 * time.Millisecond

// A sweeper runs the programs that look for sockets that are gone.
type sweeper struct {
	stop chan struct{}
	done chan struct{}
}

// sweep starts to look for sockets and minisocks that are gone although no program was run for
// their end. A program that user space runs needs no capability, from 5.19 on or with
// kernel.unprivileged_bpf_disabled=0. The first run is made at once: the library then tries
// whether the kernel can run programs, which needs one.
func (t *Tracer) sweep() {
	hz, err := ktime.HZ()
	if err != nil || t.cfg.Raw && !t.cfg.asksForPort() {
		return
	}
	programs := []string{bpfProgSettlePorts, bpfProgSweepMinisocks, bpfProgSweepSockets}
	if t.cfg.Raw {
		programs = programs[:1]
	}
	for _, name := range programs {
		if _, ok := t.runOnce(t.coll.Programs[name]); !ok {
			return
		}
	}
	t.sweeper = &sweeper{stop: make(chan struct{}), done: make(chan struct{})}
	go t.keepSweeping(t.sweeper, sweepEvery(hz))
}

func (t *Tracer) keepSweeping(s *sweeper, every time.Duration) {
	defer close(s.done)
	var minisocks, ports <-chan time.Time
	if !t.cfg.Raw { // raw events tell what the hooks saw, and no more
		tick := time.NewTicker(every)
		defer tick.Stop()
		minisocks = tick.C
	}
	if t.cfg.asksForPort() {
		settle := time.NewTicker(settleEvery)
		defer settle.Stop()
		ports = settle.C
	}
	for n, ok := 1, true; ok; {
		select {
		case <-s.stop:
			return
		case <-ports:
			ok = t.settlePorts()
		case <-minisocks:
			ok = t.sweepMinisocks()
			if ok && n%sweepsPerSockets == 0 {
				_, ok = t.runOnce(t.coll.Programs[bpfProgSweepSockets])
			}
			n++
		}
	}
}

func (t *Tracer) sweepMinisocks() (ok bool) {
	if t.variable(bpfVarMinisocksRecorded) == 0 && t.variable(bpfVarMinisocksSpilled) == 0 {
		return true
	}
	p := t.coll.Programs[bpfProgSweepMinisocks]
	suspects, ok := t.runOnce(p)
	if ok && suspects > 0 {
		time.Sleep(makeSure)
		_, ok = t.runOnce(p)
	}
	return ok
}

// settlePorts tells the first transitions of sockets that have got their local port since.
func (t *Tracer) settlePorts() (ok bool) {
	if !t.cfg.asksForPort() || t.variable(bpfVarPortsPending) == 0 {
		return true
	}
	_, ok = t.runOnce(t.coll.Programs[bpfProgSettlePorts])
	return ok
}

// settleBeforeRead is settlePorts before the totals are read.
func (t *Tracer) settleBeforeRead() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.links != nil {
		t.settlePorts()
	}
}

// variable reads a global variable of the programs, without a system call where the kernel maps
// it into memory; 1 if it cannot be read.
func (t *Tracer) variable(name string) uint32 {
	n := uint32(1)
	_ = t.coll.Variables[name].Get(&n)
	return n
}

// runOnce runs a program that has no hook, and returns what that returns.
func (t *Tracer) runOnce(p *ebpf.Program) (result uint32, ok bool) {
	result, err := p.Run(nil)
	if err != nil {
		t.cfg.Logger.Warn().Err(err).Msg("cannot look for sockets whose end was missed")
	}
	return result, err == nil
}

// end waits until no program runs any more.
func (s *sweeper) end() {
	if s != nil {
		close(s.stop)
		<-s.done
	}
}
