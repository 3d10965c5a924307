package sockets

import (
	"fmt"
	"sync"

	"finwait/internal/sockdiag"
	"finwait/tracer"
)

// manySpaces is from how many network namespaces on a Walk is worth while: to load its programs
// takes as long as sock_diag takes for a few.
const manySpaces = 4

// A walking is a Walk with what is known of the namespaces that it is to list.
type walking struct {
	Walk
	mu     sync.Mutex
	spaces map[uint64]*walked // by cookie
}

// walked is a namespace: what all its rows have in common.
type walked struct {
	path  string
	row   Row
	scope func(*sockdiag.Socket) tracer.Scope
}

// byWalk is what sock_diag need not list of these states where there is a Walk. Listeners are in a
// table that sock_diag walks fast.
func byWalk(states uint32) uint32 { return states &^ (1 << tracer.Listen) }

// startWalk makes ready to walk the kernel's table once, where that is worth while and permitted. The
// walk gives no cookie to a socket that has none.
func (r *Reader) startWalk() {
	r.walk = nil
	if r.newWalk == nil || r.live != nil || r.need&NeedCookies != 0 || len(r.sel.Cookies) > 0 ||
		len(r.paths) < manySpaces || byWalk(r.states()) == 0 {
		return
	}
	walk, err := r.newWalk()
	if err != nil {
		r.log.Debug().Err(err).Msg("the kernel's table of sockets is walked once for each network namespace")
		return
	}
	r.walk = &walking{Walk: walk, spaces: make(map[uint64]*walked)}
}

func (w *walking) add(path string, row *Row, scope func(*sockdiag.Socket) tracer.Scope) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.spaces[row.netNSCookie] = &walked{path, *row, scope}
}

// rows calls fn for every socket that the Walk finds.
func (w *walking) rows(r *Reader, fn func(*Row) error) error {
	states := byWalk(r.states())
	if states&sockdiag.BoundOnly != 0 {
		w.bind(r)
	}
	if err := w.Sockets(states&sockdiag.AllStates, w.each(r, fn)); err != nil {
		return fmt.Errorf("list the sockets of all network namespaces: %w", err)
	}
	return nil
}

// bind finds the sockets that are only bound.
func (w *walking) bind(r *Reader) {
	bind := func(row *Row) error {
		if row.Remote.Port() == 0 { // else a connection that has just ended
			row.space.bind(row.Local.Port(), row.Owner)
		}
		return nil
	}
	var err error
	if r.bound {
		err = w.Bound(w.each(r, bind))
	}
	if err != nil {
		r.log.Debug().Err(err).Msg("sock_diag lists the sockets that are only bound")
	}
	for _, s := range w.spaces {
		if err != nil && r.boundBySockDiag(s, bind) != nil {
			s.row.space.heldKnown = false
		}
		s.row.space.finish()
	}
}

func (r *Reader) boundBySockDiag(in *walked, fn func(*Row) error) error {
	conn, _, _, err := r.open(in.path, in.row.netNSCookie)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.List(sockdiag.BoundOnly, func(s *sockdiag.Socket) error {
		in.row.Socket = *s
		if err := r.own(&in.row); err != nil {
			return err
		}
		return fn(&in.row)
	})
}

// each calls fn for those of the sockets that are of the namespaces to list.
func (w *walking) each(r *Reader, fn func(*Row) error) func([]tracer.WalkedSocket) error {
	return func(found []tracer.WalkedSocket) error {
		for i := range found {
			space, ok := w.spaces[found[i].NetNSCookie]
			if !ok {
				continue // it was not asked for, or could not be read
			}
			row := &space.row
			row.Socket = socketOf(&found[i])
			row.Scope = space.scope(&row.Socket)
			if err := r.own(row); err != nil {
				return err
			}
			if err := fn(row); err != nil {
				return err
			}
		}
		return nil
	}
}

func socketOf(from *tracer.WalkedSocket) sockdiag.Socket {
	s := sockdiag.Socket{
		Local: from.Local, Remote: from.Remote, Cookie: from.Cookie, CgroupID: from.CgroupID, Inode: from.Inode,
		TimerLeft: from.TimerLeft, RecvQueue: from.RecvQueue, SendQueue: from.SendQueue,
		UID: from.UID, Interface: from.Interface, State: uint8(from.State), Family: uint8(from.Family),
		Timer: sockdiag.Timer(from.Timer), Retries: from.Retries, MPTCP: from.MPTCP,
	}
	switch {
	case from.Minisock:
		s.Kind = sockdiag.Minisock
	case from.State == tracer.NewSynRecv:
		s.Kind = sockdiag.Request
	default:
		s.Info = sockdiag.Info{Known: true, DataSent: from.DataSent, DataReceived: from.DataReceived, AckReceived: from.AckReceived}
	}
	s.UIDKnown = s.Kind == sockdiag.Full && (s.Inode != 0 || s.UID != 0)
	return s
}
