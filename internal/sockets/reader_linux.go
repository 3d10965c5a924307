package sockets

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"finwait/internal/cgroup"
	"finwait/internal/holders"
	"finwait/internal/ktime"
	"finwait/internal/label"
	"finwait/internal/netns"
	"finwait/internal/sockdiag"
	"finwait/tracer"

	"github.com/rs/zerolog"
)

// A Reader reads the sockets of network namespaces.
type Reader struct {
	sel     *Selection
	log     *zerolog.Logger
	need    Need
	every   func(*Row)
	bound   bool                                       // the kernel lists sockets that are only bound
	paths   map[uint32]string                          // those to read, by inode number
	cookies map[uint32]uint64                          // of those that the filter names
	holders func() (map[uint64]holders.Process, error) // nil: nobody asks for owners
	newWalk func() (Walk, error)                       // nil: there is none
	walk    *walking                                   // of a reading; nil: sock_diag lists all sockets
	names   Names
	live    func(path string, fn func(*tracer.LiveSocket)) error
}

// NewReader finds the namespaces to read, and what o asks for beside the sockets.
// It tells log of namespaces that it cannot read.
func NewReader(sel *Selection, o Options, log *zerolog.Logger) (*Reader, error) {
	r := &Reader{sel: sel, log: log, need: o.Need, every: o.Every, live: o.Live, newWalk: o.Walk}
	if sel.MinAge > 0 {
		r.need |= NeedInfo
	}
	var err error
	if r.need&NeedPorts != 0 {
		if r.bound, err = sockdiag.ListsBound(); err != nil {
			log.Debug().Err(err).Msg("cannot tell whether this kernel lists bound sockets")
		}
	}
	if err := r.findNamespaces(o.NetNS); err != nil {
		return nil, err
	}
	r.findOwners(&o)
	if o.Need&NeedNames != 0 {
		r.names.Label = label.New()
	}
	if o.Need&NeedCgroupPaths != 0 || len(sel.Cgroups) > 0 {
		// Without a tree the text has numbers; a filter has found the mount point already.
		r.names.paths, err = cgroup.Tree()
		if err != nil && len(sel.Cgroups) > 0 {
			return nil, err
		}
		sel.below(r.names.paths)
	}
	return r, nil
}

// findOwners finds the owners of sockets, if somebody asks for them, while the sockets are read.
func (r *Reader) findOwners(o *Options) {
	if o.Need&NeedOwners == 0 && !r.sel.needsOwners() {
		return
	}
	find := o.Owners
	if find == nil {
		find = holders.Sockets
	}
	r.holders = sync.OnceValues(find)
	go r.holders()
}

// own sets the owner of a socket.
func (r *Reader) own(row *Row) error {
	row.Owner, row.FD = tracer.Process{}, 0
	if row.Inode == 0 || r.holders == nil {
		return nil
	}
	held, err := r.holders()
	if err != nil {
		return fmt.Errorf("find the owners of sockets: %w", err)
	}
	if p, ok := held[row.Inode]; ok {
		row.Owner, row.FD = tracer.Process{PID: p.PID, Comm: p.Comm}, p.FD
	}
	return nil
}

// states are those of the sockets to list.
func (r *Reader) states() uint32 {
	if r.need&NeedPorts != 0 {
		return sockdiag.AllStates | sockdiag.BoundOnly
	}
	return r.sel.states
}

// findNamespaces finds where to enter those that were named, or all.
func (r *Reader) findNamespaces(named []netns.NS) (err error) {
	if len(named) == 0 {
		if r.paths, err = netns.All(); err != nil {
			return fmt.Errorf("find network namespaces: %w", err)
		}
		return nil
	}
	r.paths, r.cookies = make(map[uint32]string), make(map[uint32]uint64)
	for _, ns := range named {
		r.paths[ns.Inode], r.cookies[ns.Inode] = ns.Path, ns.Cookie
	}
	return nil
}

// Each calls fn for every socket that the Selection matches, and ends with the error that fn returns.
// Namespaces that cannot be read are told in one line; that none can be read is an error. Namespaces
// are read side by side, and shown one after the other.
func (r *Reader) Each(fn func(*Row) error) error {
	spaces := r.start()
	defer spaces.stop()
	var failed, old error
	undated := 0
	var unread []uint32 // inode numbers
	read := 0
	for _, s := range spaces.all {
		for rows := range s.rows {
			for i := range rows {
				if r.every != nil {
					r.every(&rows[i])
				}
				if !r.sel.Matches(&rows[i]) {
					continue
				}
				if err := fn(&rows[i]); err != nil {
					return err
				}
			}
			spaces.giveBack(rows)
		}
		switch {
		case s.walk && s.err != nil:
			return s.err
		case s.walk:
		case s.err != nil:
			failed, unread = s.err, append(unread, s.inode)
		case !s.gone:
			read++
		}
		if s.old != nil && !s.gone {
			undated, old = undated+1, s.old
		}
	}
	if undated > 0 {
		r.log.Warn().Err(old).Msgf("network namespaces in which ages are at least: %d", undated)
	}
	if len(unread) > 0 {
		r.log.Warn().Err(failed).Uints32("netns", unread[:min(len(unread), someUnread)]).
			Msgf("network namespaces that cannot be read: %d", len(unread))
	}
	switch {
	case read > 0:
		return nil
	case failed != nil:
		return fmt.Errorf("no network namespace could be read: %w", failed)
	}
	return errors.New("no network namespace could be read: lsns -t net shows those that there are")
}

// someUnread is how many of the network namespaces that cannot be read are named.
const someUnread = 5

// A reading is the sockets of one network namespace, or those that a Walk finds, as they are read.
type reading struct {
	inode uint32
	walk  bool
	rows  chan []Row // closed at the end; then there are
	err   error
	gone  bool  // it is, and its sockets with it
	old   error // why the programs could not be asked since when sockets are in their states
}

// readings are those of all namespaces, in the order in which they are shown. A few are read at a
// time, each as far ahead as its channel has room, so that memory does not grow with the number of
// sockets; but see dated.
type readings struct {
	all     []*reading
	stopped chan struct{}
	free    chan []Row
	running sync.WaitGroup
}

const (
	rowsAtOnce  = 512 // a few datagrams of the kernel
	ahead       = 8   // so many times as many rows are read before they are shown
	mostReaders = 4   // more would wait for the locks of the kernel's table
)

var errStopped = errors.New("nobody reads on")

func (r *Reader) start() *readings {
	r.startWalk()
	s := &readings{stopped: make(chan struct{}), free: make(chan []Row, mostReaders*ahead)}
	for _, inode := range slices.Sorted(maps.Keys(r.paths)) {
		s.all = append(s.all, &reading{inode: inode, rows: make(chan []Row, ahead)})
	}
	all := s.all
	var next atomic.Int64
	var readers sync.WaitGroup
	for range min(len(all), runtime.GOMAXPROCS(0), mostReaders) {
		readers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(all)); i = next.Add(1) - 1 {
				one := all[i]
				one.err = r.read(one, s)
				close(one.rows)
			}
		})
	}
	s.running.Go(readers.Wait)
	if r.walk != nil {
		last := &reading{walk: true, rows: make(chan []Row, ahead)}
		s.all = append(s.all, last)
		s.running.Go(func() {
			defer close(last.rows)
			defer r.walk.Close()
			readers.Wait() // then it is known of which namespaces rows are
			last.err = s.handAll(last, func(fn func(*Row) error) error { return r.walk.rows(r, fn) })
		})
	}
	return s
}

// stop ends the readings that nobody waits for any more.
func (s *readings) stop() {
	close(s.stopped)
	s.running.Wait()
}

func (s *readings) take() []Row {
	select {
	case rows := <-s.free:
		return rows[:0]
	default:
		return make([]Row, 0, rowsAtOnce)
	}
}

func (s *readings) giveBack(rows []Row) {
	select {
	case s.free <- rows:
	default:
	}
}

func (s *readings) hand(one *reading, rows []Row) error {
	select {
	case one.rows <- rows:
		return nil
	case <-s.stopped:
		return errStopped
	}
}

// handAll hands over every row that each calls fn with.
func (s *readings) handAll(one *reading, each func(fn func(*Row) error) error) error {
	rows := s.take()
	err := each(func(row *Row) error {
		if rows = append(rows, *row); len(rows) < rowsAtOnce {
			return nil
		}
		full := rows
		rows = s.take()
		return s.hand(one, full)
	})
	if handed := s.hand(one, rows); handed != nil {
		return handed
	}
	return err
}

// read reads a namespace.
func (r *Reader) read(one *reading, s *readings) error {
	return s.handAll(one, func(fn func(*Row) error) error {
		err := r.dated(one, r.paths[one.inode], fn)
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		// The process by which it was found has ended; another may be in it.
		again, scan := netns.All()
		path, ok := again[one.inode]
		if scan == nil && !ok {
			one.gone = true
			return nil
		}
		return r.dated(one, path, fn)
	})
}

// A liveKey is what a row and a live socket have in common. Not only one socket may have it: a
// socket that was used again, and its minisock, have one cookie.
type liveKey struct {
	cookie uint64
	state  uint8
}

// dated is like namespace, with what the programs know. They are asked after the kernel has listed
// the sockets: what is then in the state that was listed, since before, has been in it all the time.
// So all rows of the namespace are in memory at a time.
func (r *Reader) dated(one *reading, path string, fn func(*Row) error) error {
	if r.live == nil {
		return r.namespace(one.inode, path, fn)
	}
	var rows []Row
	listed := make(map[liveKey]int) // one more than the index; -1: there are several
	if err := r.namespace(one.inode, path, func(row *Row) error {
		rows = append(rows, *row)
		key, at := liveKey{row.Cookie, row.State}, len(rows)
		if listed[key] != 0 {
			at = -1
		}
		listed[key] = at
		return nil
	}); err != nil {
		return err
	}
	now, _ := ktime.Now()
	one.old = r.live(path, func(l *tracer.LiveSocket) {
		if at := listed[liveKey{l.Cookie, uint8(l.State)}]; at > 0 {
			rows[at-1].live = live{max(0, time.Duration(now)-l.Since), l.Precision, l.Role}
		}
	})
	for i := range rows {
		if err := fn(&rows[i]); err != nil {
			return err
		}
	}
	return nil
}

// namespace calls fn for every socket of a namespace.
func (r *Reader) namespace(inode uint32, path string, fn func(*Row) error) error {
	conn, now, walked, err := r.open(path, r.cookies[inode])
	if err != nil {
		return err
	}
	defer conn.Close()
	row := Row{NetNS: conn.NetNS(), netNSCookie: now}
	if row.space, err = r.space(conn, path); err != nil {
		return err
	}
	scope := interfaces(path)
	list, states := conn.List, r.states()
	if r.need&NeedInfo != 0 {
		list = conn.ListWithInfo
	}
	if walked {
		states &^= byWalk(states)
	} else if r.need&NeedPorts != 0 {
		defer row.space.finish()
	}
	err = list(states, func(s *sockdiag.Socket) error {
		row.Socket, row.Scope = *s, scope(s)
		if err := r.own(&row); err != nil {
			return err
		}
		if row.TCPState() == tracer.Closed {
			row.space.bind(s.Local.Port(), row.Owner)
			return nil
		}
		return fn(&row)
	})
	if walked && err == nil {
		r.walk.add(path, &row, scope)
	}
	return err
}

// space reads what is asked for of the ports of a namespace. What connect(2) can choose is not
// known if the sysctls cannot be read.
func (r *Reader) space(conn *sockdiag.Conn, path string) (*space, error) {
	if r.need&(NeedListeners|NeedPorts) == 0 {
		return nil, nil
	}
	s := new(space)
	if err := conn.List(1<<tracer.Listen, func(l *sockdiag.Socket) error {
		s.listened.add(l.Local.Port())
		return nil
	}); err != nil {
		return nil, err
	}
	if r.need&NeedPorts == 0 {
		return s, nil
	}
	var err error
	if s.usable, err = usablePorts(path); err != nil {
		r.log.Debug().Err(err).Uint32("netns", conn.NetNS()).Msg("cannot read which ports can be used")
	}
	s.heldKnown = r.bound
	return s, nil
}

// usablePorts are those that connect(2) can choose in a namespace.
func usablePorts(path string) (usable *portSet, err error) {
	err = netns.Do(path, func() error {
		const dir = "/proc/sys/net/ipv4/" // of the thread's namespace
		between, err := os.ReadFile(dir + "ip_local_port_range")
		if err != nil {
			return err
		}
		reserved, err := os.ReadFile(dir + "ip_local_reserved_ports")
		if err != nil {
			return err
		}
		usable, err = parsePorts(string(between), string(reserved))
		return err
	})
	return usable, err
}

// open connects to a namespace. It must have the cookie, if that is not 0. now is the
// cookie that it has; 0 before Linux 5.14. walked: the Walk lists its sockets.
func (r *Reader) open(path string, cookie uint64) (conn *sockdiag.Conn, now uint64, walked bool, err error) {
	err = netns.Do(path, func() (err error) {
		now, err = netns.Cookie()
		if cookie != 0 && (err != nil || now != cookie) {
			return cmp.Or(err, fmt.Errorf("it is gone, and another has its place: %w", fs.ErrNotExist))
		}
		if r.walk != nil && err == nil {
			if walked, err = r.walk.Include(); err != nil {
				r.log.Debug().Err(err).Str("netns", path).Msg("sock_diag lists its sockets")
			}
		}
		conn, err = sockdiag.Open()
		return err
	})
	return conn, now, walked, err
}

// interfaces gives the interface of a socket with a link-local address. It asks the
// namespace for its names when it meets the first one.
func interfaces(path string) func(*sockdiag.Socket) tracer.Scope {
	var names map[uint32]string
	return func(s *sockdiag.Socket) tracer.Scope {
		if s.Interface == 0 || !linkLocal(s.Local.Addr()) && !linkLocal(s.Remote.Addr()) {
			return tracer.Scope{}
		}
		if names == nil {
			names = make(map[uint32]string)
			_ = netns.Do(path, func() error { // without names there are numbers
				all, err := net.Interfaces()
				for _, i := range all {
					names[uint32(i.Index)] = i.Name
				}
				return err
			})
		}
		return tracer.Scope{ID: s.Interface, Interface: names[s.Interface]}
	}
}

// Names are those that Options asked for.
func (r *Reader) Names() *Names { return &r.names }
