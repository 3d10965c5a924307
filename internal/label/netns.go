package label

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"finwait/internal/netns"
)

// Host is the name of the host's own network namespace, the one that the kernel starts with.
const Host = "host"

// What proves that a network namespace is the host's. Before 6.18 its cookie is 1, because it is
// the first (setup_net() in net/core/net_namespace.c). Since 6.17 its inode number is fixed (enum
// init_ns_ino in linux/nsfs.h). No kernel gives another network namespace this number or cookie.
const (
	hostInode  = 0xeffffff9
	hostCookie = 1
)

// space is a network namespace; cookie 0 is not known.
type space struct {
	inode  uint32
	cookie uint64
}

// named is a network namespace that was asked for.
type named struct {
	name  string // "": not known
	seen  time.Time
	again time.Time // when to look again; zero: the name is for good
}

// NetNS is the name of the network namespace with this inode number and this cookie
// (SO_NETNS_COOKIE; 0 if it is not known). It is Host for the host's own; else the name in
// /run/netns, unless that is a UUID; else the name of the cgroup of a process that is in it; else
// the UUID; else that process, as 4711/nginx. Of several processes it is the one with the lowest
// pid. "" is not known. Of a namespace that was met before NetNS allocates nothing.
func (n *Namer) NetNS(inode uint32, cookie uint64) string {
	if inode == hostInode || cookie == hostCookie {
		return Host
	}
	s := space{inode, cookie}
	was, met := n.spaces[s]
	if met && (was.again.IsZero() || n.now().Before(was.again)) {
		return was.name
	}
	fresh := n.scans.look(n.now, rest, n.scan)
	now := n.now()
	name, sure := n.nameOf(s)
	is := named{name, now, now.Add(lookAgain)}
	switch {
	case name == "" && now.Sub(was.seen) < keep:
		is.name, is.seen = was.name, was.seen // it may be gone
	case name == "" && !fresh:
		is.again = n.scans.next
	case name != "" && sure && cookie != 0:
		is.again = time.Time{}
	}
	if !met && len(n.spaces) >= keepMost {
		n.forgetSpaces()
	}
	n.spaces[s] = is
	return is.name
}

// forgetSpaces forgets those that were seen first, a quarter of all, so that it is rarely done.
func (n *Namer) forgetSpaces() {
	all := make([]space, 0, len(n.spaces))
	for s := range n.spaces {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b space) int { return n.spaces[a].seen.Compare(n.spaces[b].seen) })
	for _, s := range all[:len(all)/4+1] {
		delete(n.spaces, s)
	}
}

// scan reads which network namespaces have a name or a process.
func (n *Namer) scan() {
	if named, err := netns.Names(); err == nil {
		n.runDir = named
	}
	if members, err := netns.Processes(); err == nil {
		n.members = members
	}
	for _, path := range []string{"self", netns.PathOf(1)} { // if they may be entered
		if n.host != 0 {
			break
		}
		if ns, err := netns.Find(path); err == nil && (ns.Inode == hostInode || ns.Cookie == hostCookie) {
			n.host = ns.Inode
		}
	}
}

// byRuntime are names in /run/netns that a runtime has made up for a container or a pod.
var byRuntime = regexp.MustCompile(`^(?:cni-|netns-)?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// nameOf is the name by the last scan. sure: it stays as long as the namespace.
func (n *Namer) nameOf(s space) (name string, sure bool) {
	if s.cookie == 0 && s.inode == n.host {
		return Host, true
	}
	given, ok := n.runDir[s.inode]
	if !ok || !s.is(filepath.Join(netns.RunDir, given)) {
		given = ""
	} else if !byRuntime.MatchString(given) {
		return given, true
	}
	pid, ok := n.members[s.inode]
	if !ok {
		return given, false
	}
	c := n.cgroupOf(pid)
	comm, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm"))
	switch {
	case err != nil || !s.is(netns.PathOf(pid)):
		return given, false
	case c.Name() != "":
		return c.Name(), c.Pod != "" || !c.nameless() // a pod's sandbox is a container without a name
	case given != "":
		return given, false
	}
	return fmt.Sprintf("%d/%s", pid, strings.TrimSuffix(string(comm), "\n")), false
}

// is says whether the namespace at path is this one. If it may not be entered, its inode number
// has to do.
func (s space) is(path string) bool {
	ns, err := netns.Find(path)
	return errors.Is(err, fs.ErrPermission) || err == nil && ns.Inode == s.inode && (s.cookie == 0 || ns.Cookie == s.cookie)
}

// cgroupOf is what is known of the cgroup of a process (cgroups(7): the line of cgroup v2 begins
// with 0::).
func (n *Namer) cgroupOf(pid int) Cgroup {
	b, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cgroup"))
	for line := range strings.Lines(string(b)) {
		path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::")
		if !ok {
			continue
		}
		for range 2 {
			for id, k := range n.cgroups {
				if k.Path == path && k.gone.IsZero() {
					c, _ := n.Cgroup(id)
					return c
				}
			}
			if !n.walkAgain() {
				break
			}
		}
		c, _ := parse(path)
		return c
	}
	return Cgroup{}
}

// FindNetNS is the path of the one network namespace of this name, which can be any that NetNS
// gives, or that of a pod, a container or a unit in any of the spellings that Find takes. The
// error is fs.ErrNotExist if there is none.
func (n *Namer) FindNetNS(name string) (string, error) {
	n.scans, n.walks = pace{}, pace{}
	n.scan()
	var paths, numbers []string
	for inode, pid := range n.members {
		s := space{inode: inode}
		is, _ := n.nameOf(s)
		if is != name && is != Host && inode != hostInode {
			c := n.cgroupOf(pid)
			for _, kind := range []Kind{Pod, Container, Unit} {
				if kind.is(&c, name) {
					is = name
				}
			}
		}
		if inode == hostInode {
			is = Host
		}
		if is == name {
			paths, numbers = append(paths, netns.PathOf(pid)), append(numbers, strconv.Itoa(int(inode)))
		}
	}
	switch len(paths) {
	case 0:
		return "", fs.ErrNotExist
	case 1:
		return paths[0], nil
	}
	slices.Sort(numbers)
	return "", fmt.Errorf("%d network namespaces are called %q: give the number of one: %s", len(paths), name, strings.Join(numbers, ", "))
}
