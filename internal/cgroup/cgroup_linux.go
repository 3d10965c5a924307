// Package cgroup finds cgroup v2 directories by path, and their paths by number.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Root is where the cgroup v2 hierarchy is mounted.
func Root() (string, error) {
	root, _, err := mount()
	return root, err
}

// Whole is Root, if all of the hierarchy is mounted there. From a part of it nobody can tell the
// levels of cgroups, which a tracer.Filter compares at.
func Whole() (string, error) {
	root, mounted, err := mount()
	if err != nil {
		return "", err
	}
	top, err := os.Stat(root)
	if err != nil {
		return "", err
	}
	// The first directory that the kernel makes is that of the whole (kernfs_create_root()).
	if number(top) != 1 || mounted != "/" {
		return "", errors.New("only a part of the cgroup tree is to be seen here, as in a container")
	}
	return root, nil
}

// mount gives the mount point, and which directory of the hierarchy is mounted there, as this
// process may know it: "/" can be that of its cgroup namespace (proc_pid_mountinfo(5)).
func mount() (root, mounted string, err error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", "", fmt.Errorf("find the cgroup v2 mount: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		mount, fs, ok := strings.Cut(line, " - ")
		fields := strings.Fields(mount)
		if ok && strings.HasPrefix(fs, "cgroup2 ") && len(fields) > 4 {
			return fields[4], fields[3], nil
		}
	}
	return "", "", errors.New("cgroup v2 is not mounted here: no cgroup can be named")
}

// Find gives the number of a directory, its inode number, and its path from the mount point and
// its level below that, which has level 0. The name is a path, or what is below the mount point.
func Find(name string) (id uint64, level uint32, path string, err error) {
	root, err := Root()
	if err != nil {
		return 0, 0, "", err
	}
	dir := filepath.Clean(name)
	if dir != root && !strings.HasPrefix(dir, root+"/") {
		dir = filepath.Join(root, dir)
	}
	st, err := os.Stat(dir)
	if errors.Is(err, os.ErrNotExist) {
		return 0, 0, "", &NotFoundError{fmt.Sprintf("no cgroup %q below %s", name, root)}
	}
	if err != nil {
		return 0, 0, "", err
	}
	if !st.IsDir() {
		return 0, 0, "", fmt.Errorf("%s is not a cgroup: it is no directory", dir)
	}
	below := strings.Trim(strings.TrimPrefix(dir, root), "/")
	if below != "" {
		level = uint32(strings.Count(below, "/")) + 1
	}
	return number(st), level, "/" + below, nil
}

// Tree has the path of each directory, from the mount point, by its number.
func Tree() (map[uint64]string, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	return TreeAt(root)
}

// treeMax bounds what TreeAt reads: who may make cgroups can make very many.
const treeMax = 1 << 18

// TreeAt is Tree for a mount point. It has at most treeMax directories.
func TreeAt(root string) (map[uint64]string, error) {
	tree := make(map[uint64]string)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil && path == root:
			return err
		case err != nil || !d.IsDir():
			return nil // a file, or a directory removed meanwhile
		case len(tree) == treeMax:
			return fs.SkipAll
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		tree[number(info)] = "/" + strings.TrimPrefix(strings.TrimPrefix(path, root), "/")
		// Without directories in it there are only files, forty of them, which take the most time
		// to list. kernfs counts the directories (kernfs_refresh_inode()).
		if info.Sys().(*syscall.Stat_t).Nlink == 2 {
			return fs.SkipDir
		}
		return nil
	})
	return tree, err
}

func number(info fs.FileInfo) uint64 { return info.Sys().(*syscall.Stat_t).Ino }
