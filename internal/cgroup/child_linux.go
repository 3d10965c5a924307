package cgroup

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Child is a cgroup below this process's own, for one command. What limits this process's
// cgroup limits the command, too.
type Child struct {
	Parent, Path string // directories
	ID           uint64
	Level        uint32

	// Override: Parent is not for this process's user to write to, so Remove takes the
	// CAP_DAC_OVERRIDE that NewChild has made use of.
	Override bool

	dir, processes *os.File
}

// childName is the beginning of a Child's name, for those who find one that was left.
const childName = "finwait-stat-"

// NewChild makes a Child. An error says why there can be none.
func NewChild() (*Child, error) {
	parent, err := own()
	if err != nil {
		return nil, err
	}
	path, err := os.MkdirTemp(parent, childName+"*")
	if err != nil {
		return nil, fmt.Errorf("no cgroup can be made in %s: %w", parent, cause(err))
	}
	c := &Child{Parent: parent, Path: path}
	if err := c.open(); err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	return c, nil
}

// own is the directory of this process's cgroup.
func own() (string, error) {
	root, err := Whole()
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			return filepath.Join(root, path), nil
		}
	}
	return "", errors.New("this process is in no cgroup v2")
}

func (c *Child) open() (err error) {
	// To start a process in the Child is to move it out of the parent, which the kernel lets those
	// do who can write to this file (cgroup_attach_permissions()).
	above, err := os.OpenFile(filepath.Join(c.Parent, "cgroup.procs"), os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("no process can be moved out of cgroup %s: %w", c.Parent, cause(err))
	}
	above.Close()
	if err = os.Chmod(c.Path, 0o755); err != nil { // as mkdir(1) would have made it
		return err
	}
	if c.ID, c.Level, _, err = Find(c.Path); err != nil {
		return err
	}
	parent, err := os.Stat(c.Parent)
	if err != nil {
		return err
	}
	// The root of the hierarchy is nobody's to write to (mode 555), and the cgroup of a terminal on
	// a desktop is that of its user, also after sudo(8).
	c.Override = parent.Mode()&0o200 == 0 || int(parent.Sys().(*syscall.Stat_t).Uid) != os.Geteuid()
	if c.dir, err = os.Open(c.Path); err != nil {
		return err
	}
	c.processes, err = os.Open(filepath.Join(c.Path, "cgroup.procs"))
	return err
}

// ErrNoStart: the kernel, or a seccomp filter, refuses clone3(2) with a cgroup.
var ErrNoStart = errors.New("no process can be started in a cgroup")

// Start starts a command in the cgroup: all that it does is done there.
func (c *Child) Start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(c.dir.Fd())}
	err := cmd.Start()
	// None of these is an error of execve(2). EOPNOTSUPP: the cgroup above is threaded.
	for _, no := range []error{unix.ENOSYS, unix.EOPNOTSUPP, unix.EBUSY} {
		if errors.Is(err, no) {
			return fmt.Errorf("%w below %s: %w", ErrNoStart, c.Parent, no)
		}
	}
	return err
}

// leave is how long a process that has ended can stay in its cgroup.
const leave = 200 * time.Millisecond

// Remove removes the directory, unless something is left in it, and says what.
func (c *Child) Remove() error {
	defer c.dir.Close()
	defer c.processes.Close()
	for end := time.Now().Add(leave); ; time.Sleep(leave / 20) {
		err := unix.Rmdir(c.Path)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EBUSY):
			return fmt.Errorf("cannot remove cgroup %s: %w", c.Path, err)
		case time.Now().After(end):
			return errors.New(c.left())
		}
	}
}

// left says what keeps the cgroup.
func (c *Child) left() string {
	b, _ := io.ReadAll(c.processes)
	switch pids := strings.Fields(string(b)); len(pids) {
	case 0:
		return fmt.Sprintf("cgroup %s stays, because the command has made others in it", c.Path)
	case 1:
		return fmt.Sprintf("cgroup %s stays, because process %s of the command is still in it; rmdir removes it afterwards", c.Path, pids[0])
	default:
		return fmt.Sprintf("cgroup %s stays, because %d processes of the command are still in it; rmdir removes it afterwards", c.Path, len(pids))
	}
}

// cause is an error without the path, which the sentence around it names.
func cause(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
