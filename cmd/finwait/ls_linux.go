package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"finwait/internal/holders"
	"finwait/internal/netns"
	"finwait/internal/sockdiag"
	"finwait/tracer"

	"github.com/rs/zerolog"
)

// A socketReader reads the sockets of network namespaces.
type socketReader struct {
	sel     *selection
	log     *zerolog.Logger
	paths   map[uint32]string // those to read
	holders map[uint64]holders.Process
	cgroups map[uint64]string // paths below the mount point
}

func newSocketReader(o *lsOptions, sel *selection, log *zerolog.Logger) (*socketReader, error) {
	r := &socketReader{sel: sel, log: log}
	var err error
	if err := r.findNamespaces(o.filters.netns); err != nil {
		return nil, err
	}
	if o.sockets || sel.byOwner() {
		if r.holders, err = holders.Sockets(); err != nil {
			return nil, fmt.Errorf("find the owners of sockets: %w", err)
		}
	}
	if len(sel.Cgroups) > 0 || o.sockets && o.out.output == "text" {
		// Without a tree the text has numbers; a filter has found the mount point already.
		r.cgroups, err = cgroupTree()
		if err != nil && len(sel.Cgroups) > 0 {
			return nil, err
		}
		sel.below(r.cgroups)
	}
	return r, nil
}

// findNamespaces finds those that the filter names, or all.
func (r *socketReader) findNamespaces(names []string) (err error) {
	if r.paths, err = netns.All(); err != nil {
		return fmt.Errorf("find network namespaces: %w", err)
	}
	if len(r.sel.NetNS) == 0 {
		return nil
	}
	// One that was named by a path can be entered by it, though no process is in it.
	for i, name := range names {
		if inode := r.sel.NetNS[i]; strings.Contains(name, "/") {
			r.paths[inode] = name
		}
	}
	for _, inode := range r.sel.NetNS {
		if r.paths[inode] == "" {
			r.log.Warn().Uint32("netns", inode).Msg("no process that can be seen is in this network namespace, and it has no name: it cannot be entered")
		}
	}
	maps.DeleteFunc(r.paths, func(inode uint32, _ string) bool { return !slices.Contains(r.sel.NetNS, inode) })
	return nil
}

// each calls fn for every socket that the selection matches, and ends with the error that fn returns.
// A namespace that cannot be read is named; that none can is an error.
func (r *socketReader) each(fn func(*socketRow) error) error {
	var failed error
	read := 0
	for _, inode := range slices.Sorted(maps.Keys(r.paths)) {
		err := r.namespace(r.paths[inode], fn)
		if errors.Is(err, fs.ErrNotExist) {
			// The process by which it was found has ended; another may be in it.
			again, scan := netns.All()
			path, ok := again[inode]
			if scan == nil && !ok {
				continue // it is gone, and its sockets with it
			}
			err = r.namespace(path, fn)
		}
		if stop := (*stopped)(nil); errors.As(err, &stop) {
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

// stopped is an error of the one who is told of sockets, not of reading them.
type stopped struct{ error }

func (r *socketReader) namespace(path string, fn func(*socketRow) error) error {
	conn, err := open(path)
	if err != nil {
		return err
	}
	defer conn.Close()
	row := socketRow{netNS: conn.NetNS()}
	return conn.List(r.sel.states, func(s *sockdiag.Socket) error {
		row.Socket, row.owner = *s, tracer.Process{}
		if s.Inode != 0 {
			if p, ok := r.holders[s.Inode]; ok {
				row.owner = tracer.Process{PID: p.PID, Comm: p.Comm}
			}
		}
		if !r.sel.matches(&row) {
			return nil
		}
		if err := fn(&row); err != nil {
			return &stopped{err}
		}
		return nil
	})
}

// open connects to a namespace.
func open(path string) (conn *sockdiag.Conn, err error) {
	err = netns.Do(path, func() (err error) {
		conn, err = sockdiag.Open()
		return err
	})
	return conn, err
}

func (r *socketReader) cgroupPath(id uint64) (string, bool) {
	path, ok := r.cgroups[id]
	return path, ok
}

// cgroupTree has the path of each cgroup v2 directory, from the mount point, by its number.
func cgroupTree() (map[uint64]string, error) {
	root, err := cgroupRoot()
	if err != nil {
		return nil, err
	}
	tree := make(map[uint64]string)
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil // a file, or a directory removed meanwhile
		}
		if info, err := d.Info(); err == nil {
			tree[info.Sys().(*syscall.Stat_t).Ino] = "/" + strings.TrimPrefix(strings.TrimPrefix(path, root), "/")
		}
		return nil
	})
	return tree, err
}
