package sockets

import "finwait/internal/label"

// Names are those of the numbers that the kernel has.
type Names struct {
	Label label.Names // nil: there are none

	paths map[uint64]string // of cgroups, below the mount point
}

// CgroupPath is the path of a cgroup below the mount point, if Options asked for paths.
func (n *Names) CgroupPath(id uint64) (string, bool) {
	path, ok := n.paths[id]
	return path, ok
}

// cgroup is what is known of one; empty: nothing.
func (n *Names) cgroup(id uint64) (c label.Cgroup) {
	if n != nil && n.Label != nil && id != 0 {
		c, _ = n.Label.Cgroup(id)
	}
	return c
}

func (n *Names) netNS(r *Row) string { return n.netNSOf(r.NetNS, r.netNSCookie) }

// netNSOf is the name of a network namespace; "": it has none, or it is not known.
func (n *Names) netNSOf(inode uint32, cookie uint64) string {
	if n == nil || n.Label == nil {
		return ""
	}
	return n.Label.NetNS(inode, cookie)
}

// NetNS is the name of a network namespace; "": it has none.
func (n *Names) NetNS(inode uint32) string { return n.netNSOf(inode, 0) }

// Of is the name of the pod, the container or the unit of a socket; "": there is none.
func (n *Names) Of(r *Row) string {
	c := n.cgroup(r.CgroupID)
	return c.Name()
}
