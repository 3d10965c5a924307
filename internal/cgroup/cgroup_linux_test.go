package cgroup_test

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"finwait/internal/cgroup"
	"finwait/internal/test/testnet"
)

// The tree has each directory, those with others in them and those without, as Find has them.
func TestTree(t *testing.T) {
	top := fmt.Sprintf("/finwait-tree-%d", os.Getpid())
	var paths []string
	for _, path := range []string{"/", top, top + "/a", top + "/a/b", top + "/a/b/c", top + "/d"} {
		testnet.Cgroup(t, path)
		paths = append(paths, path)
	}
	tree, err := cgroup.Tree()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		id, level, found, err := cgroup.Find(path)
		if err != nil || tree[id] != path || found != path || int(level) != len(strings.FieldsFunc(path, func(r rune) bool { return r == '/' })) {
			t.Errorf("%s: number %d, level %d, %q, %v; in the tree it is %q", path, id, level, found, err, tree[id])
		}
	}
	root, err := cgroup.Root()
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(root + top)
	if err != nil {
		t.Fatal(err)
	}
	if id, _, _, _ := cgroup.Find(root + top); id != st.Sys().(*syscall.Stat_t).Ino {
		t.Errorf("%s has number %d", root+top, id)
	}
	if tree, err := cgroup.TreeAt(root + top + "/none"); err == nil {
		t.Errorf("a tree where there is none: %v", tree)
	}
}
