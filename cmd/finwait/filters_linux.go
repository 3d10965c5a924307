package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"finwait/internal/netns"
)

// netNS finds a network namespace by inode number, path, the name that
// ip-netns(8) gave it, or as the one that finwait itself is in.
func netNS(name string) (uint32, error) {
	if inum, ok := parseUint32(name); ok {
		return inum, nil
	}
	path := name
	switch {
	case name == "self":
		path = "/proc/thread-self/ns/net"
	case !strings.Contains(name, "/"):
		path = filepath.Join(netns.RunDir, name)
	}
	inum, err := netns.Inode(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, fmt.Errorf("network namespace %q is not there (any more): ip netns list and lsns -t net show those that are", name)
	}
	if err != nil {
		return 0, fmt.Errorf("network namespace %q: %w", name, err)
	}
	return inum, nil
}
