//go:build linux

package live_test

import (
	"fmt"
	"os"
	"testing"

	"finwait/internal/sandbox"
	"finwait/tracer"

	"golang.org/x/sys/unix"
)

// The iterator finds what /proc/PID/fd has: this process holds both ends and the listener, and a
// child holds one of them, too.
func TestSocketHolders(t *testing.T) {
	t.Parallel()
	ns := sandbox.New(t)
	p := ns.Pair(sandbox.Families[0])
	f := p.Server.File()
	defer f.Close()
	cmd := worker(leaves)
	cmd.ExtraFiles = []*os.File{f}
	say := startTalking(t, ns, cmd)
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	held := make(map[string]tracer.SocketHolder)
	if err := tracer.SocketHolders(func(h *tracer.SocketHolder) {
		if h.Inode == st.Ino {
			held[fmt.Sprint(h.PID, h.FD)] = *h
		}
	}); err != nil {
		t.Fatal(err)
	}
	us, child := os.Getpid(), cmd.Process.Pid
	for _, want := range []string{fmt.Sprint(us, f.Fd()), fmt.Sprint(child, 3)} {
		h, ok := held[want]
		if !ok {
			t.Errorf("no descriptor %q of socket %d in %v", want, st.Ino, held)
			continue
		}
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", h.PID))
		if err != nil || h.Comm.String()+"\n" != string(comm) {
			t.Errorf("process %d is called %v, %v; the kernel says %q", h.PID, h.Comm, err, comm)
		}
		if int(h.PID) == child && int(h.Parent) != us {
			t.Errorf("parent %d, want %d", h.Parent, us)
		}
	}
	if len(held) != 3 { // p.Server's own, f, and the child's
		t.Errorf("%d descriptors, want 3: %v", len(held), held)
	}
	say()
}

// The file of an MPTCP socket holds the TCP sockets below it. Go listens so where the kernel can.
func TestHolderOfMPTCP(t *testing.T) {
	t.Parallel()
	ns := sandbox.New(t)
	var fd int
	ns.Try(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP)
		return err
	})
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	found := false
	if err := tracer.SocketHolders(func(h *tracer.SocketHolder) {
		found = found || h.Inode == st.Ino && int(h.PID) == os.Getpid() && int(h.FD) == fd
	}); err != nil {
		t.Fatal(err)
	}
	if !found {
		t.Errorf("no holder of socket %d", st.Ino)
	}
}
