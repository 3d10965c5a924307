package testnet

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"finwait/internal/cgroup"

	"golang.org/x/sys/unix"
)

// Cgroup makes the cgroup v2 directory at a path below the mount point, and those above it that
// are not there. The end of the test removes what Cgroup has made; no process may be left in it.
// The file is the open directory, for syscall.SysProcAttr.CgroupFD. While a test has cgroups,
// other processes wait for it here: they may want the same ones.
func Cgroup(t testing.TB, path string) *os.File {
	t.Helper()
	alone(t)
	dir, err := cgroup.Root()
	if err != nil {
		t.Fatal(err)
	}
	for part := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		dir = filepath.Join(dir, part) // that of the mount point if path is "/"
		switch err := os.Mkdir(dir, 0o755); {
		case err == nil:
			made := dir
			t.Cleanup(func() { removeCgroup(t, made) })
		case !os.IsExist(err):
			t.Fatal(err)
		}
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

var users struct {
	sync.Mutex
	n    int // tests of this process that have cgroups
	lock *os.File
}

// alone keeps other processes out until the end of the test.
func alone(t testing.TB) {
	t.Helper()
	users.Lock()
	defer users.Unlock()
	if users.n == 0 {
		f, err := os.OpenFile(filepath.Join(os.TempDir(), "finwait-test-cgroups"), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		users.lock = f
	}
	users.n++
	t.Cleanup(func() {
		users.Lock()
		defer users.Unlock()
		if users.n--; users.n == 0 {
			users.lock.Close()
		}
	})
}

// removeCgroup waits until the kernel lets go of processes that have ended.
func removeCgroup(t testing.TB, dir string) {
	t.Helper()
	var err error
	for range 100 {
		if err = os.Remove(dir); err == nil || os.IsNotExist(err) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error(err)
}
