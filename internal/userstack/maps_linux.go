package userstack

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"

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

// mostMappings bounds how much is read of one process.
const mostMappings = 4096

// readMaps reads the mappings of a process that can be run, in order (proc_pid_maps(5)).
func readMaps(pid uint32) ([]mapping, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []mapping
	for s := bufio.NewScanner(f); ; {
		if !s.Scan() || len(all) == mostMappings {
			return all, s.Err()
		}
		if m, ok := parseMapping(s.Bytes()); ok {
			all = append(all, m)
		}
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
	root := fmt.Sprintf("/proc/%d/root", pid)
	f, c, err := openFile(root+m.path, m.file, false)
	if err == nil {
		return f, c, nil
	}
	for _, path := range []string{
		fmt.Sprintf("/proc/%d/exe", pid), // of a program that was replaced, the kernel still has the old file
		m.path,                           // of a process in a chroot(2), the mapping has the path as finwait sees it
	} {
		if f, c, err := openFile(path, m.file, true); err == nil {
			return f, c, nil
		}
	}
	return nil, c, err
}

func openFile(path string, id fileID, sameDevice bool) (*os.File, content, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, content{}, err
	}
	f := os.NewFile(uintptr(fd), path)
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil &&
		(st.Mode&unix.S_IFMT != unix.S_IFREG || st.Ino != id.inode || sameDevice && st.Dev != id.dev) {
		err = errOtherFile
	}
	if err != nil {
		f.Close()
		return nil, content{}, err
	}
	return f, content{fileID{st.Dev, st.Ino}, st.Size, st.Ctim}, nil
}

// startTime is when a process started, in ticks of 10 ms since boot (proc_pid_stat(5), field 22).
func startTime(pid uint32) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name is in parentheses, and may have any byte in it.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 20 {
		return 0, fmt.Errorf("parse %q", b)
	}
	return strconv.ParseUint(fields[19], 10, 64)
}
