//go:build linux

package holders

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// fakeProc makes a directory with the files of /proc that the package reads.
func fakeProc(t *testing.T, procs map[int]struct {
	comm   string
	parent int
	inodes []int
}) string {
	t.Helper()
	root := t.TempDir()
	for pid, p := range procs {
		dir := filepath.Join(root, strconv.Itoa(pid))
		if err := os.MkdirAll(filepath.Join(dir, "fd"), 0o755); err != nil {
			t.Fatal(err)
		}
		stat := strconv.Itoa(pid) + " (" + p.comm + ") S " + strconv.Itoa(p.parent) + " 1 1 0 -1\n"
		if err := os.WriteFile(filepath.Join(dir, "stat"), []byte(stat), 0o644); err != nil {
			t.Fatal(err)
		}
		for i, ino := range p.inodes {
			if err := os.Symlink("socket:["+strconv.Itoa(ino)+"]", filepath.Join(dir, "fd", strconv.Itoa(i))); err != nil {
				t.Fatal(err)
			}
		}
	}
	return root
}

func TestSockets(t *testing.T) {
	type proc = struct {
		comm   string
		parent int
		inodes []int
	}
	root := fakeProc(t, map[int]proc{
		10: {"nginx", 1, []int{100, 200}},
		11: {"nginx", 10, []int{100}},
		12: {"nginx", 10, []int{100, 300}},
		20: {"a) (b", 1, []int{400, 300}}, // shares 300 with 12, unrelated
		30: {"orphan", 999, []int{7, 500, 500}},
	})
	got, err := sockets(root)
	if err != nil {
		t.Fatal(err)
	}
	want := map[uint64]uint32{100: 10, 200: 10, 400: 20, 500: 30, 7: 30}
	if len(got) != len(want) {
		t.Errorf("%d sockets have an owner, want %d: %v", len(got), len(want), got)
	}
	for ino, pid := range want {
		if got[ino].PID != pid {
			t.Errorf("socket %d: pid %d, want %d", ino, got[ino].PID, pid)
		}
	}
	for ino, fd := range map[uint64]uint32{100: 0, 200: 1, 500: 1} {
		if got[ino].FD != fd {
			t.Errorf("socket %d: descriptor %d, want %d", ino, got[ino].FD, fd)
		}
	}
	if c := got[400].Comm; string(c[:6]) != "a) (b\x00" {
		t.Errorf("comm %q, want %q", c, "a) (b")
	}
}
