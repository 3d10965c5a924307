package sockets

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/bits"
	"net"
	"os"
	"slices"

	"finwait/internal/cgroup"
	"finwait/internal/holders"
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
	bound   bool              // the kernel lists sockets that are only bound
	paths   map[uint32]string // those to read, by inode number
	cookies map[uint32]uint64 // of those that the filter names
	holders map[uint64]holders.Process
	cgroups map[uint64]string // paths below the mount point
}

// NewReader finds the namespaces to read, and what o asks for beside the sockets.
// It tells log of a namespace that it cannot read.
func NewReader(sel *Selection, o Options, log *zerolog.Logger) (*Reader, error) {
	r := &Reader{sel: sel, log: log, need: o.Need, every: o.Every}
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
	if o.Need&NeedOwners != 0 || sel.byOwner() {
		if r.holders, err = o.owners()(); err != nil {
			return nil, fmt.Errorf("find the owners of sockets: %w", err)
		}
	}
	if o.Need&NeedCgroupPaths != 0 || len(sel.Cgroups) > 0 {
		// Without a tree the text has numbers; a filter has found the mount point already.
		r.cgroups, err = cgroup.Tree()
		if err != nil && len(sel.Cgroups) > 0 {
			return nil, err
		}
		sel.below(r.cgroups)
	}
	return r, nil
}

// owners is what finds the owners of sockets.
func (o *Options) owners() OwnerSource {
	if o.Owners == nil {
		return holders.Sockets
	}
	return o.Owners
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
// A namespace that cannot be read is named; that none can is an error.
func (r *Reader) Each(fn func(*Row) error) error {
	var failed error
	read := 0
	for _, inode := range slices.Sorted(maps.Keys(r.paths)) {
		err := r.namespace(inode, r.paths[inode], fn)
		if errors.Is(err, fs.ErrNotExist) {
			// The process by which it was found has ended; another may be in it.
			again, scan := netns.All()
			path, ok := again[inode]
			if scan == nil && !ok {
				continue // it is gone, and its sockets with it
			}
			err = r.namespace(inode, path, fn)
		}
		if stop := (*handlerError)(nil); errors.As(err, &stop) {
			return stop.error
		}
		if err != nil {
			failed = err
			r.log.Warn().Err(err).Uint32("netns", inode).Msg("cannot read this network namespace")
			continue
		}
		read++
	}
	switch {
	case read > 0:
		return nil
	case failed != nil:
		return fmt.Errorf("no network namespace could be read: %w", failed)
	}
	return errors.New("no network namespace could be read: lsns -t net shows those that there are")
}

// A handlerError is what fn returned, and no error of reading.
type handlerError struct{ error }

func (r *Reader) namespace(inode uint32, path string, fn func(*Row) error) error {
	conn, now, err := open(path, r.cookies[inode])
	if err != nil {
		return err
	}
	defer conn.Close()
	row := Row{NetNS: conn.NetNS(), netNSCookie: now}
	if row.space, err = r.space(conn, path); err != nil {
		return err
	}
	scope := interfaces(path)
	list, states := conn.List, r.sel.states
	if r.need&NeedInfo != 0 {
		list = conn.ListWithInfo
	}
	if r.need&NeedPorts != 0 {
		states = sockdiag.AllStates
	}
	return list(states, func(s *sockdiag.Socket) error {
		row.Socket, row.Owner, row.FD, row.Scope = *s, tracer.Process{}, 0, scope(s)
		if s.Inode != 0 {
			if p, ok := r.holders[s.Inode]; ok {
				row.Owner, row.FD = tracer.Process{PID: p.PID, Comm: p.Comm}, p.FD
			}
		}
		if r.need&NeedPorts != 0 {
			r.every(&row)
		}
		if !r.sel.Matches(&row) {
			return nil
		}
		if err := fn(&row); err != nil {
			return &handlerError{err}
		}
		return nil
	})
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
		return s, nil
	}
	if s.heldKnown = r.bound; !r.bound {
		return s, nil
	}
	held := s.listened
	if err := conn.Bound(func(b *sockdiag.Socket) error {
		held.add(b.Local.Port())
		return nil
	}); err != nil {
		return nil, err
	}
	for i := range held {
		s.held += bits.OnesCount64(held[i] & s.usable[i])
	}
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
// cookie that it has; 0 before Linux 5.14.
func open(path string, cookie uint64) (conn *sockdiag.Conn, now uint64, err error) {
	err = netns.Do(path, func() (err error) {
		now, err = netns.Cookie()
		if cookie != 0 && (err != nil || now != cookie) {
			return cmp.Or(err, fmt.Errorf("it is gone, and another has its place: %w", fs.ErrNotExist))
		}
		conn, err = sockdiag.Open()
		return err
	})
	return conn, now, err
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

// CgroupPath is the path of a cgroup below the mount point, if Options asked for paths.
func (r *Reader) CgroupPath(id uint64) (string, bool) {
	path, ok := r.cgroups[id]
	return path, ok
}
