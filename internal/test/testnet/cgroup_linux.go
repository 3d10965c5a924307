package testnet

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"finwait/internal/cgroup"
)

// Cgroup makes the cgroup v2 directory at a path below the mount point, and those above it that
// are not there. The end of the test removes what Cgroup has made; no process may be left in it.
// The file is the open directory, for syscall.SysProcAttr.CgroupFD.
func Cgroup(t testing.TB, path string) *os.File {
	t.Helper()
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
