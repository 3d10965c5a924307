// Package netns finds the network namespaces of a host and runs code in them.
package netns

// RunDir is where ip-netns(8) mounts named namespaces.
const RunDir = "/run/netns"

// A NS is a network namespace that a user has named.
type NS struct {
	Name   string // as the user wrote it: name, path, inode number, or self
	Path   string // where it was found
	Inode  uint32
	Cookie uint64 // the kernel gives it to no other namespace (SO_NETNS_COOKIE)
	file   file   // at Path; not set in /proc, where a path is that of a process
}
