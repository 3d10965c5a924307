package sockets

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
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
	info    bool              // read tcp_info
	paths   map[uint32]string // those to read, by inode number
	cookies map[uint32]uint64 // of those that the filter names
	holders map[uint64]holders.Process
	cgroups map[uint64]string // paths below the mount point
}

// NewReader finds the namespaces to read, and what o asks for beside the sockets.
// It tells log of a namespace that it cannot read.
func NewReader(sel *Selection, o Options, log *zerolog.Logger) (*Reader, error) {
	r := &Reader{sel: sel, log: log, info: o.Need&NeedInfo != 0 || sel.MinAge > 0}
	var err error
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
	scope := interfaces(path)
	list := conn.List
	if r.info {
		list = conn.ListWithInfo
	}
	return list(r.sel.states, func(s *sockdiag.Socket) error {
		row.Socket, row.Owner, row.FD, row.Scope = *s, tracer.Process{}, 0, scope(s)
		if s.Inode != 0 {
			if p, ok := r.holders[s.Inode]; ok {
				row.Owner, row.FD = tracer.Process{PID: p.PID, Comm: p.Comm}, p.FD
			}
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
		if s.Interface == 0 || !linkLocal(s.Local) && !linkLocal(s.Remote) {
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

func linkLocal(a netip.AddrPort) bool { return a.Addr().Is6() && a.Addr().IsLinkLocalUnicast() }

// CgroupPath is the path of a cgroup below the mount point, if Options asked for paths.
func (r *Reader) CgroupPath(id uint64) (string, bool) {
	path, ok := r.cgroups[id]
	return path, ok
}
