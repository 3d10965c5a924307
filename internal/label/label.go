// Package label gives names to the numbers that the kernel has: to cgroups those of pods,
// containers and systemd units, to network namespaces those of who lives in them. It reads
// files only, and asks no container runtime and no server. docs/names.md says which files.
//
// Names are as they were found. Those of cgroups' paths and of processes can have any
// character in them, so who prints them escapes them.
package label

import (
	"maps"
	"slices"
	"time"

	"finwait/internal/cgroup"
)

// What a Namer remembers, and how often it looks. A cgroup whose last socket has just been
// closed can be asked for as long as its TIME_WAITs last: 60 s, or 120 s after a FIN_WAIT_2.
const (
	keep     = 5 * time.Minute // at least, since it was noticed that a cgroup is gone
	keepMost = 4096            // cgroups that are gone, and network namespaces
	rest     = time.Second     // between two looks, and at least restTimes as long as a look takes
	// With restTimes looking takes at most 5 % of the time.
	restTimes = 20
	// lookAgain is when to look again for what was not found: a cgroup that is gone comes never
	// back, but reading may have failed. It is also how long the number alone, or a process, names
	// a network namespace: either can become another's.
	lookAgain = 10 * time.Second
	// The files with a container's name are written up to a few seconds after its cgroup is made.
	patience  = time.Minute
	nameAgain = 2 * time.Second
)

// A Cgroup is what is known of a cgroup. What is not known is empty.
type Cgroup struct {
	Path         string // below the mount point of cgroup v2
	Unit         string // of systemd, as nginx.service; below a user's manager that manager's
	ContainerID  string // 64 hexadecimal digits; of a container in a container the inner one
	Container    string // name
	PodUID       string // with dashes; of a static pod 32 hexadecimal digits
	Pod          string // name
	PodNamespace string
}

// Name is the name for people: NAMESPACE/POD, else the container's, else the unit's. An id
// or UID stands for a name that is not known.
func (c *Cgroup) Name() string {
	switch {
	case c.Pod != "":
		return c.PodNamespace + "/" + c.Pod
	case c.PodUID != "":
		return c.PodUID
	case c.Container != "":
		return c.Container
	case c.ContainerID != "":
		return c.ContainerID[:shortID]
	}
	return c.Unit
}

// shortID is as many digits of an id as docker ps and podman ps print.
const shortID = 12

// nameless says that a name may be in a file that is not there yet.
func (c *Cgroup) nameless() bool {
	return c.PodUID != "" && c.Pod == "" || c.ContainerID != "" && c.Container == ""
}

// Names give names to numbers, as a Namer does.
type Names interface {
	Cgroup(id uint64) (Cgroup, bool)
	NetNS(inode uint32, cookie uint64) string
}

// A Namer finds names, and remembers them. It is for one goroutine at a time. Its fields may be
// changed before it is used.
type Namer struct {
	Dirs

	cgroups map[uint64]*known
	absent  map[uint64]time.Time // a walk has not found them, so they are not looked for until then
	walks   pace
	naming  pace

	spaces  map[space]named
	scans   pace
	host    uint32            // inode number of the host's network namespace, once it is proved
	runDir  map[uint32]string // by the last scan
	members map[uint32]int    // by the last scan

	now func() time.Time
}

// known is a cgroup that was seen.
type known struct {
	Cgroup
	origin
	id    uint64
	since time.Time
	gone  time.Time // when a walk first missed it; zero: it is there
}

// New makes a Namer that reads the files of this host.
func New() *Namer {
	return &Namer{
		Dirs: defaultDirs, now: time.Now,
		cgroups: make(map[uint64]*known), absent: make(map[uint64]time.Time), spaces: make(map[space]named),
	}
}

// A pace says when to look again.
type pace struct{ next time.Time }

// look calls fn unless the last look was a moment ago, and says whether it did.
func (p *pace) look(now func() time.Time, least time.Duration, fn func()) bool {
	begun := now()
	if begun.Before(p.next) {
		return false
	}
	fn()
	end := now()
	p.next = end.Add(max(least, restTimes*end.Sub(begun)))
	return true
}

// Cgroup is what is known of the cgroup with this number: the inode number of its directory. ok
// says that its path is known. Of a number that was met before it allocates nothing. For one that
// is new it reads the tree of cgroups again, but not more than once a second.
func (n *Namer) Cgroup(id uint64) (c Cgroup, ok bool) {
	k := n.cgroups[id]
	if k == nil {
		if until, ok := n.absent[id]; id == 0 || ok && n.now().Before(until) || !n.walkAgain() {
			return Cgroup{}, false
		}
		if k = n.cgroups[id]; k == nil {
			if len(n.absent) >= keepMost {
				clear(n.absent)
			}
			n.absent[id] = n.now().Add(lookAgain)
			return Cgroup{}, false
		}
	}
	if k.nameless() && n.now().Sub(k.since) < patience {
		n.naming.look(n.now, nameAgain, n.nameNew)
	}
	return k.Cgroup, true
}

// walkAgain walks unless it did so a moment ago, and says whether it tried.
func (n *Namer) walkAgain() bool {
	return n.walks.look(n.now, rest, func() { _ = n.walk() }) // what cannot be read is not known
}

// walk reads the tree, names what is new in it and forgets what has long been gone. If the tree
// cannot be read (any more), nothing is gone.
func (n *Namer) walk() error {
	root := n.Cgroups
	if root == "" {
		var err error
		if root, err = cgroup.Root(); err != nil {
			return err
		}
	}
	tree, err := cgroup.TreeAt(root)
	if err != nil {
		return err
	}
	now := n.now()
	var fresh []*known
	for id, path := range tree {
		k := n.cgroups[id]
		if k == nil {
			k = &known{id: id, since: now}
			k.Cgroup, k.origin = parse(path)
			n.cgroups[id] = k
			fresh = append(fresh, k)
		}
		k.gone = time.Time{}
	}
	n.name(fresh)

	var gone []uint64
	for id, k := range n.cgroups {
		if _, ok := tree[id]; ok {
			continue
		}
		if k.gone.IsZero() {
			k.gone = now
		}
		gone = append(gone, id)
	}
	slices.SortFunc(gone, func(a, b uint64) int { return n.cgroups[a].gone.Compare(n.cgroups[b].gone) })
	for i, id := range gone {
		if len(gone)-i > keepMost || now.Sub(n.cgroups[id].gone) > keep {
			delete(n.cgroups, id)
		}
	}
	return nil
}

// nameNew looks again for the names of all that was met a short time ago.
func (n *Namer) nameNew() {
	now := n.now()
	n.name(slices.DeleteFunc(slices.Collect(maps.Values(n.cgroups)), func(k *known) bool {
		return !k.nameless() || now.Sub(k.since) >= patience
	}))
}
