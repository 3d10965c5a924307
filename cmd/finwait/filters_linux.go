package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"finwait/internal/netns"
	"finwait/tracer"
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

// cgroup finds a cgroup v2 directory, given as a path or as what is below the mount point.
func cgroup(name string) (tracer.Cgroup, error) {
	root, err := cgroupRoot()
	if err != nil {
		return tracer.Cgroup{}, err
	}
	dir := filepath.Clean(name)
	if dir != root && !strings.HasPrefix(dir, root+"/") {
		dir = filepath.Join(root, dir)
	}
	st, err := os.Stat(dir)
	if errors.Is(err, os.ErrNotExist) {
		return tracer.Cgroup{}, fmt.Errorf("no cgroup %q below %s", name, root)
	}
	if err != nil {
		return tracer.Cgroup{}, err
	}
	if !st.IsDir() {
		return tracer.Cgroup{}, fmt.Errorf("%s is not a cgroup: it is no directory", dir)
	}
	below := strings.Trim(strings.TrimPrefix(dir, root), "/")
	level := 0
	if below != "" {
		level = strings.Count(below, "/") + 1
	}
	return tracer.Cgroup{ID: st.Sys().(*syscall.Stat_t).Ino, Level: uint32(level)}, nil
}

// cgroupRoot is where the cgroup v2 hierarchy is mounted (proc_pid_mountinfo(5)).
func cgroupRoot() (string, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("find the cgroup v2 mount: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		mount, fs, ok := strings.Cut(line, " - ")
		fields := strings.Fields(mount)
		if ok && strings.HasPrefix(fs, "cgroup2 ") && len(fields) > 4 {
			return fields[4], nil
		}
	}
	return "", errors.New("cgroup v2 is not mounted here: --cgroup cannot name one")
}
