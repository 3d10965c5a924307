//go:build linux

package live_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	generator "finwait/internal/load"
	"finwait/internal/sandbox"

	"golang.org/x/sys/unix"
)

const (
	workerEnv = "FINWAIT_TEST_WORKER"
	stay      = "stay"
	connects  = "connect " // and an address: to connect to that
	shares    = "share "   // and an address: to listen there too, and to close what is closed
	accepts   = "accept"   // from the listener that is descriptor 3, and to read until the end
	reads     = "read"     // descriptor 3 until the end
	writes    = "write"    // to descriptor 3, and to close it
	leaves    = "leave"    // when it is told to
)

// inhabit starts a process in the namespace, so that /proc leads to the namespace. leave ends the
// process.
func inhabit(t testing.TB, ns *sandbox.NS) (leave func()) {
	t.Helper()
	cmd := startWorker(t, ns, stay)
	leave = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	t.Cleanup(leave)
	return leave
}

// startWorker starts this test binary as a worker process in the namespace.
func startWorker(t testing.TB, ns *sandbox.NS, job string) *exec.Cmd {
	t.Helper()
	cmd := worker(job)
	ns.Start(cmd)
	return cmd
}

func worker(job string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), workerEnv+"="+job)
	cmd.Stderr = os.Stderr
	return cmd
}

// work is the job of a worker process: to make connections to a listener of its own, as fast as
// it can, or to do nothing until it is killed.
func work(job string) int {
	if job == stay {
		time.Sleep(time.Hour)
	}
	if to, ok := strings.CutPrefix(job, connects); ok {
		_, err := net.Dial("tcp", to)
		fmt.Fprintln(os.Stderr, "worker:", err)
		return 1
	}
	if at, ok := strings.CutPrefix(job, shares); ok {
		fmt.Fprintln(os.Stderr, "worker:", share(at))
		return 1
	}
	var n int
	var err error
	switch job {
	case leaves:
		_, err = os.Stdin.Read(make([]byte, 1))
	case accepts, reads, writes:
		err = handle(job)
	default:
		if n, err = strconv.Atoi(job); err == nil {
			err = churn(n)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		return 1
	}
	return 0
}

// handle handles one connection, with plain system calls: net would look at it first.
func handle(job string) (err error) {
	fd, buf := 3, make([]byte, 16)
	if job == accepts {
		if fd, _, err = unix.Accept(3); err != nil {
			return err
		}
	}
	if job == writes {
		_, err = unix.Write(fd, buf)
		return err
	}
	for n := 1; n > 0 && err == nil; {
		n, err = unix.Read(fd, buf)
	}
	return err
}

func share(at string) error {
	reuse := func(_, _ string, c syscall.RawConn) (err error) {
		failed := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		return errors.Join(failed, err)
	}
	l, err := (&net.ListenConfig{Control: reuse}).Listen(context.Background(), "tcp", at)
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		_, _ = io.Copy(io.Discard, c)
		c.Close()
	}
}

func churn(n int) error {
	sum, err := generator.Run(context.Background(), generator.Config{Count: n}, nil)
	if err == nil && sum.Made != n {
		err = fmt.Errorf("%d of %d connections: %v", sum.Made, n, sum.Failed)
	}
	return err
}
