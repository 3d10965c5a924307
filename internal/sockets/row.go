// Package sockets reads which TCP sockets there are now, with the process that
// holds each, and selects, sorts, counts and writes them.
package sockets

import (
	"slices"
	"time"

	"finwait/internal/ktime"
	"finwait/internal/netns"
	"finwait/internal/sockdiag"
	"finwait/tracer"
)

// Options say what a Reader reads beside the sockets.
type Options struct {
	NetNS       []netns.NS // those to read; none: all
	Owners      bool       // who holds each socket
	CgroupPaths bool
}

// A Row is a socket with what else is known of it.
type Row struct {
	sockdiag.Socket
	NetNS uint32         // inode number
	Scope tracer.Scope   // of a link-local address
	Owner tracer.Process // the process that holds it

	netNSCookie uint64 // 0: it was not asked for
}

// TCPState is the socket's state.
func (r *Row) TCPState() tracer.State { return tracer.State(r.State) }

// Age is how long the state has lasted at least. Only the timer of TIME_WAIT
// tells: it is always started with the same 60 s. FIN_WAIT_2 has
// tcp_fin_timeout, which may have been another when the timer was started.
func (r *Row) Age() (d time.Duration, known bool) {
	if r.TCPState() != tracer.TimeWait || r.Timer != sockdiag.TimeWait || r.TimerLeft > ktime.TimeWaitLen {
		return 0, false
	}
	return ktime.TimeWaitLen - r.TimerLeft, true
}

// A Sink shows sockets or their number.
type Sink interface {
	Socket(*Row) error
	Count(*StateCount) error
}

// A StateCount is how many sockets that a Selection matches are in a state.
type StateCount struct {
	State  tracer.State
	Known  bool // false: of those that there are, no owner can be known
	Count  uint64
	Owners bool   // the Selection asks for owners
	Unsure uint64 // what else it may match: their owners are not known
}

// Count counts sockets by state. It hands the numbers to s when finish is called;
// CLOSED has none, as the kernel lists no such socket.
func Count(sel *Selection, s Sink) (show func(*Row) error, finish func() error) {
	var n [tracer.NewSynRecv + 1]uint64
	show = func(r *Row) error {
		n[r.State]++
		return nil
	}
	finish = func() error {
		for _, state := range tracer.States() {
			if sel.states&(1<<state) == 0 || state == tracer.Closed {
				continue
			}
			c := &StateCount{State: state, Known: true, Count: n[state]}
			if sel.asksForOwner() {
				c.Owners, c.Unsure = true, sel.unknown[state]
				c.Known = ownerless&(1<<state) == 0 && (c.Count > 0 || c.Unsure == 0)
			}
			if err := s.Count(c); err != nil {
				return err
			}
		}
		return nil
	}
	return show, finish
}

// Collect keeps sockets and hands them to s in order when finish is called.
func Collect(compare func(a, b *Row) int, s Sink) (show func(*Row) error, finish func() error) {
	var all []Row
	show = func(r *Row) error {
		all = append(all, *r)
		return nil
	}
	finish = func() error {
		order := make([]*Row, len(all))
		for i := range all {
			order[i] = &all[i]
		}
		slices.SortStableFunc(order, compare)
		for _, r := range order {
			if err := s.Socket(r); err != nil {
				return err
			}
		}
		return nil
	}
	return show, finish
}
