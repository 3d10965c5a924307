package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Inode is the inode number of a network namespace. lsns(8) and finwait identify it by that number.
func Inode(path string) (uint32, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	var sfs unix.Statfs_t
	if err := unix.Statfs(path, &sfs); err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: path, Err: err}
	}
	if sfs.Type != unix.NSFS_MAGIC {
		return 0, fmt.Errorf("%s is not a network namespace", path)
	}
	return uint32(st.Ino), nil
}

// own is a file of the calling thread's namespace. It can always be read.
const own = "/proc/thread-self/ns/net"

// Find finds a network namespace by the name that ip-netns(8) gave it, by a path (which has a
// slash), by inode number, or as "self". A number must be that of a namespace that All finds. The
// cookie of any other namespace than the own one needs CAP_SYS_ADMIN.
func Find(name string) (NS, error) {
	ns := NS{Name: name, Path: name}
	inode, err := strconv.ParseUint(name, 10, 32)
	switch {
	case name == "self":
		ns.Path = own
	case err == nil:
		all, err := All()
		if err != nil {
			return ns, fmt.Errorf("find network namespaces: %w", err)
		}
		var ok bool
		if ns.Path, ok = all[uint32(inode)]; !ok {
			return ns, fmt.Errorf("no network namespace with the number %s can be found, neither one with a name nor that of a process "+
				"(of another user's process only with CAP_SYS_PTRACE): lsns -t net shows those that are", name)
		}
	case !strings.Contains(name, "/"):
		ns.Path = filepath.Join(RunDir, name)
	}
	err = ns.read()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ns, fmt.Errorf("network namespace %q is not there (any more): ip netns list and lsns -t net show those that are (%w)", name, err)
	case errors.Is(err, fs.ErrPermission):
		return ns, fmt.Errorf("network namespace %q cannot be entered, which finwait must do once, to tell it from later ones (%w): "+
			"that needs CAP_SYS_ADMIN, and CAP_SYS_PTRACE if its path is in /proc; root has both", name, err)
	case err != nil:
		return ns, fmt.Errorf("network namespace %q: %w", name, err)
	case inode != 0 && ns.Inode != uint32(inode):
		return ns, fmt.Errorf("network namespace %s went away while finwait looked for it", name)
	}
	return ns, nil
}

// Interface is the index of the interface of that name in the network namespace that Find finds by
// space, and the namespace's cookie.
func Interface(space, name string) (index uint32, cookie uint64, err error) {
	ns, err := Find(space)
	if err != nil {
		return 0, 0, err
	}
	err = Do(ns.Path, func() error {
		i, err := net.InterfaceByName(name)
		if err != nil {
			return fmt.Errorf("there is no interface %q in this network namespace: ip link shows those that are", name)
		}
		index = uint32(i.Index)
		return nil
	})
	return index, ns.Cookie, err
}

// read reads what identifies the namespace at ns.Path.
func (ns *NS) read() error {
	if _, err := Inode(ns.Path); err != nil {
		return err // it is not there, or no namespace
	}
	if !strings.HasPrefix(ns.Path, "/proc/") {
		var err error
		if ns.file, err = fileAt(ns.Path); err != nil {
			return err
		}
	}
	return Do(ns.Path, func() (err error) {
		if ns.Inode, err = Inode(own); err != nil {
			return err
		}
		ns.Cookie, err = Cookie()
		return err
	})
}

// A file is a file of nsfs. If a namespace has the inode number of an earlier one, its file has a
// later ctime. The kernel makes the file when somebody looks at the namespace, and keeps it as
// long as it is mounted (fs/nsfs.c).
type file struct {
	inode uint64
	ctime int64 // ns
}

func fileAt(path string) (file, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return file{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return file{st.Ino, st.Ctim.Nano()}, nil
}

// Gone reports whether the namespace has lost its name: the file at Path is gone, or is that of
// another namespace. It needs no capability. It is never true for a namespace that was found
// through a process, because others may be in it.
func (ns *NS) Gone() bool {
	if ns.file == (file{}) {
		return false
	}
	now, err := fileAt(ns.Path)
	return errors.Is(err, fs.ErrNotExist) || err == nil && now != ns.file
}

// All returns, by inode number, a path for each network namespace that a process is in or that
// has a name in RunDir. Processes that end meanwhile, or whose files may not be read, are
// skipped.
func All() (map[uint32]string, error) {
	first, err := Processes()
	if err != nil {
		return nil, err
	}
	found := make(map[uint32]string, len(first))
	for inode, pid := range first {
		found[inode] = PathOf(pid)
	}
	named, err := Names()
	if err != nil {
		return nil, err
	}
	for inode, name := range named {
		found[inode] = filepath.Join(RunDir, name)
	}
	return found, nil
}

// PathOf is the path of the network namespace of a process.
func PathOf(pid int) string {
	if pid == os.Getpid() {
		return own // Do may have moved a thread of this process, even the main one, to another namespace
	}
	return filepath.Join("/proc", strconv.Itoa(pid), "ns/net")
}

// Processes returns, by inode number, the process with the lowest pid in each network namespace.
// Processes that end meanwhile, or whose files may not be read, are skipped.
func Processes() (map[uint32]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	first := make(map[uint32]int)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		var st unix.Stat_t
		if unix.Stat(PathOf(pid), &st) != nil {
			continue
		}
		if lowest, ok := first[uint32(st.Ino)]; !ok || pid < lowest {
			first[uint32(st.Ino)] = pid
		}
	}
	return first, nil
}

// Names returns, by inode number, the name of each network namespace that has one in RunDir. Of
// several names it is the last one in order.
func Names() (map[uint32]string, error) {
	entries, err := os.ReadDir(RunDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	named := make(map[uint32]string, len(entries))
	for _, e := range entries {
		// A removed namespace leaves an empty file.
		if inode, err := Inode(filepath.Join(RunDir, e.Name())); err == nil {
			named[inode] = e.Name()
		}
	}
	return named, nil
}

// Do runs fn on a thread in the network namespace at path. Another namespace needs
// CAP_SYS_ADMIN. The own namespace needs no capability.
func Do(path string, fn func() error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return apart(func(home *os.File) (moved bool, err error) {
		if same(f, home) {
			return false, nil
		}
		if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			return false, &fs.PathError{Op: "setns", Path: path, Err: err}
		}
		return true, nil
	}, fn)
}

// New runs fn on a thread in a new network namespace. The namespace exists as long as a socket,
// a process, or an open file of it does.
func New(fn func() error) error {
	return apart(func(*os.File) (moved bool, err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return false, fmt.Errorf("unshare network namespace: %w", err)
		}
		return true, nil
	}, fn)
}

// same reports whether two files are the same namespace (ioctl_ns(2)).
func same(a, b *os.File) bool {
	x, err := a.Stat()
	if err != nil {
		return false
	}
	y, err := b.Stat()
	return err == nil && os.SameFile(x, y)
}

// apart runs fn on a locked thread, after enter, which may move the thread to another
// namespace. Then apart moves the thread back. It must return, because it can be the main
// thread. The main thread does not end: it would hold the other namespace for ever, and
// /proc/self/ns/net would be the wrong namespace.
func apart(enter func(home *os.File) (moved bool, err error), fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		defer home.Close()
		moved, err := enter(home)
		if err == nil {
			err = fn()
		}
		if moved {
			if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
				// The thread is still locked, so it ends with this goroutine.
				done <- errors.Join(err, fmt.Errorf("return to the own network namespace: %w", back))
				return
			}
		}
		runtime.UnlockOSThread()
		done <- err
	}()
	return <-done
}

// Cookie returns the cookie of the calling thread's network namespace (SO_NETNS_COOKIE, Linux
// 5.14). The kernel never gives it to another namespace.
func Cookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open a socket: %w", err)
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0, fmt.Errorf("read SO_NETNS_COOKIE: %w", err)
	}
	return cookie, nil
}
