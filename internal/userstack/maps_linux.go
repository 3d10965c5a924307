package userstack

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A mapping is a range of a process's memory that can be run.
type mapping struct {
	start, end uint64
	offset     uint64 // in the file
	file       fileID // zero: no file
	path       string // as the process sees it
}

// A fileID tells the files that a process has mapped from each other. It may be given to
// another file once a file is deleted and nobody has it open.
type fileID struct {
	dev, inode uint64
}

// A content tells files from each other for good, or nearly so.
type content struct {
	fileID
	size    int64
	changed unix.Timespec // status
}

// mostMaps bounds what is read of one process, in bytes.
const mostMaps = 512 << 10

// readMaps reads the mappings of a process that can be run, in order (proc_pid_maps(5)). size
// is about how much memory they take.
func readMaps(pid uint32) (all []mapping, size int, err error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(io.LimitReader(f, mostMaps)); ; {
		if !s.Scan() {
			return all, size, s.Err()
		}
		m, ok := parseMapping(s.Bytes())
		if !ok {
			continue
		}
		if n := len(all); n > 0 && all[n-1].path == m.path {
			m.path = all[n-1].path // the same memory
		} else {
			size += len(m.path)
		}
		size += int(unsafe.Sizeof(m))
		all = append(all, m)
	}
}

// parseMapping takes a line apart, such as
//
//	7f0fb2c26000-7f0fb2d7b000 r-xp 00026000 fe:01 1837 /usr/lib/libc.so.6
//
// and reports whether that memory can be run.
func parseMapping(line []byte) (m mapping, ok bool) {
	fields := bytes.SplitN(line, []byte{' '}, 6)
	if len(fields) < 5 || len(fields[1]) < 3 || fields[1][2] != 'x' {
		return m, false
	}
	start, end, _ := strings.Cut(string(fields[0]), "-")
	major, minor, _ := strings.Cut(string(fields[3]), ":")
	var devs [2]uint64
	for _, n := range []struct {
		to   *uint64
		from string
		base int
	}{
		{&m.start, start, 16}, {&m.end, end, 16}, {&m.offset, string(fields[2]), 16},
		{&devs[0], major, 16}, {&devs[1], minor, 16}, {&m.file.inode, string(fields[4]), 10},
	} {
		v, err := strconv.ParseUint(n.from, n.base, 64)
		if err != nil {
			return m, false
		}
		*n.to = v
	}
	if m.file.inode == 0 {
		m.file = fileID{}
		return m, true
	}
	m.file.dev = unix.Mkdev(uint32(devs[0]), uint32(devs[1]))
	if len(fields) == 6 {
		// A newline in a path is \012; no other byte is changed (seq_path()).
		m.path = strings.ReplaceAll(strings.TrimLeft(string(fields[5]), " "), `\012`, "\n")
		m.path = strings.TrimSuffix(m.path, " (deleted)")
	}
	return m, true
}

// find gives the mapping of an address.
func find(all []mapping, addr uint64) (mapping, bool) {
	i := sort.Search(len(all), func(i int) bool { return all[i].end > addr })
	if i == len(all) || addr < all[i].start {
		return mapping{}, false
	}
	return all[i], true
}

var errOtherFile = errors.New("the path names another file")

// open opens the file of a mapping, as the process sees it: it may have a root directory of
// its own, in a mount namespace of its own. It must be the file itself and not another one
// with its path. Overlayfs may show another device than the mapping does.
func (m *mapping) open(pid uint32) (*os.File, content, error) {
	f, c, err := m.openIn(fmt.Sprintf("/proc/%d/root", pid))
	if err == nil {
		return f, c, nil
	}
	for _, path := range []string{
		fmt.Sprintf("/proc/%d/exe", pid), // of a program that was replaced, the kernel still has the old file
		m.path,                           // of a process in a chroot(2), the mapping has the path as finwait sees it
	} {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		if f, c, err := openSame(fd, m.file, true); err == nil {
			return f, c, nil
		}
	}
	return nil, c, err
}

// openIn follows no link out of the root directory.
func (m *mapping) openIn(root string) (*os.File, content, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_CLOEXEC|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, content{}, err
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, m.path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
	if err != nil {
		return nil, content{}, err
	}
	return openSame(fd, m.file, false)
}

// openSame opens what fd names, if it is the mapped file. To open anything else, such as a
// device, may do something. It closes fd.
func openSame(fd int, id fileID, sameDevice bool) (*os.File, content, error) {
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, content{}, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Ino != id.inode || sameDevice && st.Dev != id.dev {
		return nil, content{}, errOtherFile
	}
	f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
	return f, content{fileID{st.Dev, st.Ino}, st.Size, st.Ctim}, err
}

// isNow reports whether a process still runs that program.
func isNow(p Process) bool {
	const tick = 10 * time.Millisecond // USER_HZ
	started, stack, err := startOf(p.PID)
	return err == nil && started == uint64(p.Started/tick) && stack == p.Stack
}

// startOf is when a process started, in ticks of 10 ms since boot, and where its stack
// begins (proc_pid_stat(5), fields 22 and 28).
func startOf(pid uint32) (started, stack uint64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	// The name is in parentheses, and may have any byte in it. What follows begins with field 3.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 26 {
		return 0, 0, fmt.Errorf("parse %q", b)
	}
	if started, err = strconv.ParseUint(fields[19], 10, 64); err == nil {
		stack, err = strconv.ParseUint(fields[25], 10, 64)
	}
	return started, stack, err
}
