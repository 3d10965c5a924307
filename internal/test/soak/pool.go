//go:build linux

package main

import (
	"context"
	"errors"
	"os/exec"
	"sync/atomic"

	"finwait/internal/scenario"
)

// A pool makes network namespaces and removes them.
type pool struct {
	faults *faults
	made   atomic.Int64
}

// A namespace is a network namespace with a process in it. Readers of /proc find the
// namespace by that process.
type namespace struct {
	*scenario.Stage
	holder  *exec.Cmd
	release func() error // closes the holder's stdin, which ends it
}

// open makes a namespace without a process.
func (p *pool) open() (*scenario.Stage, error) {
	st, err := scenario.Open()
	if err == nil {
		p.made.Add(1)
	}
	return st, err
}

// create makes a namespace with a process.
func (p *pool) create(ctx context.Context) (*namespace, error) {
	st, err := p.open()
	if err != nil {
		return nil, err
	}
	n := &namespace{Stage: st, holder: exec.Command("cat")}
	stdin, err := n.holder.StdinPipe()
	if err == nil {
		n.release = stdin.Close
		err = st.Act(ctx, &scenario.Scenario{Run: func(st *scenario.Stage) { st.Start(n.holder) }})
	}
	if err != nil {
		st.Close()
		return nil, err
	}
	return n, nil
}

// replace removes a namespace and makes another. A failure is a fault, and returns nil.
func (p *pool) replace(ctx context.Context, old *namespace) *namespace {
	p.remove(old)
	n, err := p.create(ctx)
	if err != nil && ctx.Err() == nil {
		p.faults.add("make a network namespace: %v", err)
	}
	return n
}

// remove removes a namespace, if there is one.
func (p *pool) remove(n *namespace) {
	if n == nil {
		return
	}
	err := errors.Join(n.release(), n.holder.Wait())
	n.Close()
	if err != nil {
		p.faults.add("remove a network namespace: %v", err)
	}
}
