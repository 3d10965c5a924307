//go:build linux

package netns

import (
	"errors"
	"os"
	"testing"
)

// After Do and New, all threads of the process are in their own namespace again. The main
// thread must be, because /proc/self/ns/net is its namespace.
func TestThreadsComeHome(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test makes network namespaces: run it as root")
	}
	home, err := Inode("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	failed := errors.New("failed")
	for i := range 50 {
		var there uint32
		err := New(func() (err error) {
			there, err = Inode("/proc/thread-self/ns/net")
			if i%2 == 0 {
				return failed
			}
			return err
		})
		if i%2 == 0 != errors.Is(err, failed) {
			t.Fatal(err)
		}
		if there == home {
			t.Fatal("the new namespace is the old one")
		}
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			if ino, err := Inode("/proc/self/task/" + task.Name() + "/ns/net"); err == nil && ino != home {
				t.Fatalf("thread %s stayed in %d", task.Name(), ino)
			}
		}
	}
}
