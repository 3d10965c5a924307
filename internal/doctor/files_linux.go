package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// readFiles finds who accepts, and its files. A server that forks may accept in its children, which have
// limits of their own. It has no files left only if none of them has.
func (l *Listener) readFiles() {
	left := func(open, most uint64) float64 { return 1 - float64(open)/float64(most) }
	l.Accepter = l.Owner
	l.Files, l.FileLimit = filesOf(l.Owner.PID)
	if l.FileLimit == 0 {
		return
	}
	var child Process
	var files, limit uint64
	for _, pid := range childrenOf(l.Owner.PID) {
		open, most := filesOf(pid)
		if most == 0 || !hasSocket(pid, l.inode) || limit > 0 && left(open, most) <= left(files, limit) {
			continue
		}
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err != nil {
			continue
		}
		child, files, limit = Process{PID: pid, Comm: strings.TrimSuffix(string(comm), "\n"), Name: l.Owner.Name}, open, most
	}
	if limit > 0 && left(files, limit) < left(l.Files, l.FileLimit) {
		l.Accepter, l.Files, l.FileLimit = child, files, limit
	}
}

// childrenOf are the processes that the main thread of a process has forked; without
// CONFIG_PROC_CHILDREN they are not known.
func childrenOf(pid uint32) (all []uint32) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	if err != nil {
		return nil
	}
	for field := range strings.FieldsSeq(string(b)) {
		if n, err := strconv.ParseUint(field, 10, 32); err == nil {
			all = append(all, uint32(n))
		}
	}
	return all
}

// hasSocket reports whether a process has a file of this inode that is a socket.
func hasSocket(pid uint32, inode uint64) bool {
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return false
	}
	want := fmt.Sprintf("socket:[%d]", inode)
	return slices.ContainsFunc(fds, func(fd os.DirEntry) bool {
		to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd.Name()))
		return err == nil && to == want
	})
}

// filesOf is how many files a process has open, and how many it may; 0: not known.
func filesOf(pid uint32) (open, most uint64) {
	dir := filepath.Join("/proc", strconv.FormatUint(uint64(pid), 10))
	fds, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return 0, 0
	}
	b, err := os.ReadFile(filepath.Join(dir, "limits"))
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "Max open files"); ok {
			if fields := strings.Fields(rest); len(fields) > 0 {
				if n, err := strconv.ParseUint(fields[0], 10, 64); err == nil {
					return uint64(len(fds)), n
				}
			}
		}
	}
	return 0, 0
}
