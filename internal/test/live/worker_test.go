//go:build linux

package live_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	generator "finwait/internal/load"
	"finwait/internal/sandbox"
)

const (
	workerEnv = "FINWAIT_TEST_WORKER"
	stay      = "stay"
	connects  = "connect " // and an address: to connect to that
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
	n, err := strconv.Atoi(job)
	if err == nil {
		err = churn(n)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		return 1
	}
	return 0
}

func churn(n int) error {
	sum, err := generator.Run(context.Background(), generator.Config{Count: n}, nil)
	if err == nil && sum.Made != n {
		err = fmt.Errorf("%d of %d connections: %v", sum.Made, n, sum.Failed)
	}
	return err
}
