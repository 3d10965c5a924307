// Package holders finds in /proc the processes that hold sockets.
package holders

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A Process holds a socket.
type Process struct {
	PID  uint32
	Comm [16]byte // zero-terminated, as in the kernel
}

type process struct {
	Process
	parent uint32
}

// Sockets maps the inode of every socket to the process that holds it. If several processes
// hold a socket, Sockets chooses the one that all others descend from, because it had the
// socket first. If there is no such process the socket is left out. Processes that end
// meanwhile, or whose files may not be read, are skipped.
func Sockets() (map[uint64]Process, error) {
	return sockets("/proc")
}

func sockets(proc string) (map[uint64]Process, error) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil, err
	}
	var (
		held  = make(map[uint64][]uint32)
		procs = make(map[uint32]process)
	)
	for _, e := range entries {
		pid, err := strconv.ParseUint(e.Name(), 10, 32)
		if err != nil {
			continue
		}
		dir := filepath.Join(proc, e.Name())
		inodes := socketInodes(dir)
		p, ok := readProcess(dir, uint32(pid))
		if !ok {
			continue
		}
		procs[p.PID] = p
		for ino := range inodes {
			held[ino] = append(held[ino], p.PID)
		}
	}
	owner := make(map[uint64]Process, len(held))
	for ino, pids := range held {
		if root, ok := ancestor(pids, procs); ok {
			owner[ino] = root.Process
		}
	}
	return owner, nil
}

// ancestor is the process of pids that all others descend from, through parents that are in pids.
func ancestor(pids []uint32, procs map[uint32]process) (process, bool) {
	in := make(map[uint32]bool, len(pids))
	for _, pid := range pids {
		in[pid] = true
	}
	var root process
	roots := 0
	for _, pid := range pids {
		if !in[procs[pid].parent] {
			root, roots = procs[pid], roots+1
		}
	}
	return root, roots == 1
}

func socketInodes(dir string) map[uint64]bool {
	fds, err := os.Open(filepath.Join(dir, "fd"))
	if err != nil {
		return nil
	}
	defer fds.Close()
	names, _ := fds.Readdirnames(-1)
	var inodes map[uint64]bool
	for _, name := range names {
		target, err := os.Readlink(filepath.Join(dir, "fd", name))
		if err != nil {
			continue
		}
		num, ok := strings.CutPrefix(target, "socket:[")
		if !ok {
			continue
		}
		ino, err := strconv.ParseUint(strings.TrimSuffix(num, "]"), 10, 64)
		if err != nil {
			continue
		}
		if inodes == nil {
			inodes = make(map[uint64]bool)
		}
		inodes[ino] = true
	}
	return inodes
}

// readProcess parses /proc/PID/stat: pid (comm) state ppid ... A comm may have spaces and
// parentheses in it, so it ends at the last parenthesis (proc_pid_stat(5)).
func readProcess(dir string, pid uint32) (process, bool) {
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return process{}, false
	}
	from, to := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if from < 0 || to < from {
		return process{}, false
	}
	fields := bytes.Fields(stat[to+1:])
	if len(fields) < 2 {
		return process{}, false
	}
	parent, err := strconv.ParseUint(string(fields[1]), 10, 32)
	if err != nil {
		return process{}, false
	}
	p := process{parent: uint32(parent)}
	p.PID = pid
	copy(p.Comm[:15], stat[from+1:to])
	return p, true
}
