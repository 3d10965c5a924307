package holders

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"

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
	t := newTable()
	var next atomic.Int64
	var readers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), mostReaders) {
		readers.Go(func() {
			var held []descriptor
			for i := next.Add(1) - 1; i < int64(len(entries)); i = next.Add(1) - 1 {
				pid, err := strconv.ParseUint(entries[i].Name(), 10, 32)
				if err != nil {
					continue
				}
				dir := filepath.Join(proc, entries[i].Name())
				held = appendSockets(held[:0], dir)
				if p, ok := readProcess(dir, uint32(pid)); ok {
					t.add(p, held)
				}
			}
		})
	}
	readers.Wait()
	return t.owners(), nil
}

// Choose is Sockets, for descriptors that somebody else finds: each calls add for every one,
// with the parent of its process.
func Choose(each func(add func(inode uint64, p Process, parent uint32)) error) (map[uint64]Process, error) {
	t := newTable()
	one := make([]descriptor, 1)
	err := each(func(inode uint64, p Process, parent uint32) {
		one[0] = descriptor{inode, p.FD}
		t.add(process{p, parent}, one)
	})
	if err != nil {
		return nil, err
	}
	return t.owners(), nil
}

func newTable() *table {
	return &table{owner: make(map[uint64]Process), shared: make(map[uint64][]Process), procs: make(map[uint32]process)}
}

// owners are those that were found, when all is known.
func (t *table) owners() map[uint64]Process {
	for inode, all := range t.shared {
		if root, ok := ancestor(all, t.procs); ok {
			t.owner[inode] = root
		} else {
			delete(t.owner, inode)
		}
	}
	return t.owner
}

// mostReaders read processes side by side: each descriptor is a system call.
const mostReaders = 4

// A table is what is known of holders so far.
type table struct {
	mu     sync.Mutex
	owner  map[uint64]Process   // of each socket one that holds it
	shared map[uint64][]Process // of the sockets that several hold all
	procs  map[uint32]process
}

func (t *table) add(p process, held []descriptor) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.procs[p.PID] = p
	for _, d := range held {
		p.FD = d.fd
		other, taken := t.owner[d.inode]
		switch {
		case !taken:
			t.owner[d.inode] = p.Process
		case other.PID == p.PID: // two descriptors
			other.FD = min(other.FD, d.fd)
			t.owner[d.inode] = other
		case len(t.shared[d.inode]) == 0:
			t.shared[d.inode] = []Process{other, p.Process}
		default:
			t.shared[d.inode] = append(t.shared[d.inode], p.Process)
		}
	}
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
