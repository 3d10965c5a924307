//go:build linux

package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

const stateTracepoint = "inet_sock_set_state"

// tracepoints that finwait uses. Other tools use only the first.
var tracepoints = []string{stateTracepoint, "timer_start", "timer_cancel", "timer_expire_entry", "kfree_skb"}

// tracepointOf is the tracepoint of a program. An fentry program has none, so no time of an empty
// program is subtracted from its time.
func tracepointOf(program string) string {
	switch {
	case slices.Contains(tracepoints, program):
		return program
	case slices.Contains([]string{"twsk_alloc", "twsk_schedule", "twsk_kill"}, program):
		return ""
	}
	return stateTracepoint
}

// empties are programs that do nothing, one on each tracepoint. Their run time is the cost of the
// call and of the measurement.
type empties struct {
	coll   *ebpf.Collection
	links  []link.Link
	before map[string]use
}

func attachEmpty() (*empties, error) {
	spec := &ebpf.CollectionSpec{Programs: make(map[string]*ebpf.ProgramSpec)}
	for _, name := range tracepoints {
		spec.Programs[name] = &ebpf.ProgramSpec{
			Name: "empty", Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: name,
			License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
		}
	}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, fmt.Errorf("load empty programs: %w", err)
	}
	e := &empties{coll: coll}
	for name, prog := range coll.Programs {
		l, err := link.AttachTracing(link.TracingOptions{Program: prog})
		if err != nil {
			e.Close()
			return nil, fmt.Errorf("attach an empty program to %s: %w", name, err)
		}
		e.links = append(e.links, l)
	}
	return e, nil
}

func (e *empties) Close() {
	for _, l := range e.links {
		l.Close()
	}
	e.coll.Close()
}

func (e *empties) read() (map[string]use, error) {
	all := make(map[string]use)
	var failed error
	for name, prog := range e.coll.Programs {
		u, err := used(prog)
		failed = errors.Join(failed, err)
		all[name] = u
	}
	return all, failed
}

func (e *empties) begin() (err error) {
	e.before, err = e.read()
	return err
}

// end returns the use of each program since begin, by tracepoint.
func (e *empties) end() (map[string]use, error) {
	all, err := e.read()
	for name, u := range all {
		all[name] = u.less(e.before[name])
	}
	return all, err
}
