// Package netns finds the network namespaces of a host and runs code in them.
package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// RunDir is where ip-netns(8) mounts named namespaces.
const RunDir = "/run/netns"

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

// All returns, by inode number, a path for each network namespace that a process is in or that
// has a name in RunDir. Processes that end meanwhile, or whose files may not be read, are
// skipped.
func All() (map[uint32]string, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	found := make(map[uint32]string)
	const own = "/proc/thread-self/ns/net" // always readable
	if inode, err := Inode(own); err == nil {
		found[inode] = own
	}
	for _, e := range entries {
		// Do may have moved a thread of this process, even the main one, to another namespace.
		if pid, err := strconv.Atoi(e.Name()); err != nil || pid == os.Getpid() {
			continue
		}
		path := filepath.Join("/proc", e.Name(), "ns/net")
		var st unix.Stat_t
		if unix.Stat(path, &st) == nil {
			if _, ok := found[uint32(st.Ino)]; !ok {
				found[uint32(st.Ino)] = path
			}
		}
	}
	named, err := os.ReadDir(RunDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range named {
		path := filepath.Join(RunDir, e.Name())
		// A removed namespace leaves an empty file.
		if ino, err := Inode(path); err == nil {
			found[ino] = path
		}
	}
	return found, nil
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
