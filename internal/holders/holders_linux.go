package holders

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

type process struct {
	Process
	parent uint32
}

// A descriptor is one of a process that leads to a socket.
type descriptor struct {
	inode uint64
	fd    uint32
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
		owner  = make(map[uint64]Process)
		shared = make(map[uint64][]Process) // of the sockets that several hold
		procs  = make(map[uint32]process)
		held   []descriptor
	)
	for _, e := range entries {
		pid, err := strconv.ParseUint(e.Name(), 10, 32)
		if err != nil {
			continue
		}
		dir := filepath.Join(proc, e.Name())
		held = appendSockets(held[:0], dir)
		p, ok := readProcess(dir, uint32(pid))
		if !ok {
			continue
		}
		procs[p.PID] = p
		for _, d := range held {
			p.FD = d.fd
			other, taken := owner[d.inode]
			switch {
			case !taken:
				owner[d.inode] = p.Process
			case other.PID == p.PID: // two descriptors
				other.FD = min(other.FD, d.fd)
				owner[d.inode] = other
			case len(shared[d.inode]) == 0:
				shared[d.inode] = []Process{other, p.Process}
			default:
				shared[d.inode] = append(shared[d.inode], p.Process)
			}
		}
	}
	for inode, all := range shared {
		if root, ok := ancestor(all, procs); ok {
			owner[inode] = root
		} else {
			delete(owner, inode)
		}
	}
	return owner, nil
}

// ancestor is the process of all that the others descend from, through parents that are in
// all. A process may be there several times, with several descriptors.
func ancestor(all []Process, procs map[uint32]process) (root Process, ok bool) {
	in := make(map[uint32]bool, len(all))
	for _, p := range all {
		in[p.PID] = true
	}
	for _, p := range all {
		switch {
		case in[procs[p.PID].parent]:
		case !ok:
			root, ok = p, true
		case root.PID != p.PID:
			return Process{}, false
		default:
			root.FD = min(root.FD, p.FD)
		}
	}
	return root, ok
}

// appendSockets appends the descriptors of a process that are sockets. It looks at each from
// the directory: a path from the root would make the kernel check the process each time.
func appendSockets(held []descriptor, dir string) []descriptor {
	fds, err := os.Open(filepath.Join(dir, "fd"))
	if err != nil {
		return held
	}
	defer fds.Close()
	var target [64]byte
	for {
		names, err := fds.Readdirnames(1024)
		for _, name := range names {
			n, err := unix.Readlinkat(int(fds.Fd()), name, target[:])
			if err != nil {
				continue
			}
			digits, ok := bytes.CutPrefix(target[:n], []byte("socket:["))
			if !ok {
				continue
			}
			inode, err := strconv.ParseUint(string(bytes.TrimSuffix(digits, []byte("]"))), 10, 64)
			fd, wrong := strconv.ParseUint(name, 10, 32)
			if err == nil && wrong == nil {
				held = append(held, descriptor{inode, uint32(fd)})
			}
		}
		if err != nil {
			return held
		}
	}
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
