package main

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"finwait/internal/netns"
	"finwait/internal/sandbox"
	"finwait/internal/test/testnet"
	"finwait/tracer"

	"golang.org/x/sys/unix"
)

// asCrowd makes the test binary hold that many connections in its network namespace, both ends of
// each, until its stdin ends.
const asCrowd = "FINWAIT_TEST_CROWD"

func crowd(count string) int {
	err := func() error {
		n, err := strconv.Atoi(count)
		if err != nil {
			return err
		}
		ln, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if err := unix.Bind(ln, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			return err
		}
		if err := unix.Listen(ln, 64); err != nil {
			return err
		}
		to, err := unix.Getsockname(ln)
		if err != nil {
			return err
		}
		for range n {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			if err := unix.Connect(fd, to); err != nil {
				return err
			}
			if _, _, err := unix.Accept4(ln, unix.SOCK_CLOEXEC); err != nil {
				return err
			}
		}
		fmt.Println("ready")
		_, err = io.Copy(io.Discard, os.Stdin)
		return err
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// startCrowd starts a process that holds connections in a namespace. It says "ready" when it has them.
func startCrowd(t testing.TB, n *sandbox.NS, connections int) (pid int, says *bufio.Reader) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), asCrowd+"="+strconv.Itoa(connections))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	n.Start(cmd)
	t.Cleanup(func() {
		stdin.Close()
		_ = cmd.Wait() // what went wrong was said
	})
	return cmd.Process.Pid, bufio.NewReader(stdout)
}

// crowds fills network namespaces with connections, each by a process of its own, and waits
// until all are there.
func crowds(t testing.TB, namespaces, connections int) (pids []string) {
	t.Helper()
	var ready []*bufio.Reader
	for range namespaces {
		pid, r := startCrowd(t, sandbox.New(t), connections)
		ready = append(ready, r)
		pids = append(pids, strconv.Itoa(pid))
	}
	for _, r := range ready {
		if line, err := r.ReadString('\n'); line != "ready\n" {
			t.Fatalf("a process said %q, %v", line, err)
		}
	}
	return pids
}

// finwaitProcess runs finwait in a process of its own. It returns how long it took, for how long it
// had a CPU, and the most memory that it was seen to have, in bytes. The kernel's ru_maxrss is that of
// this process, if that has more.
func finwaitProcess(t testing.TB, args ...string) (took, busy time.Duration, memory uint64) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), asFinwait+"=1")
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := watched(cmd.Process.Pid)
	err := cmd.Wait()
	took = time.Since(began)
	memory, _ = stop()
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	state := cmd.ProcessState
	return took, state.UserTime() + state.SystemTime(), memory
}

// crowdShapes are what people ask of a host with many sockets.
var crowdShapes = []struct {
	name string
	args []string
}{
	{"counts", nil},
	{"by state", []string{"--by", "state"}},
	{"by netns and state", []string{"--by", "netns,state", "--top", "0"}},
	{"by destination", []string{"--by", "destination"}},
	{"without owners", []string{"--sockets", "--columns", "netns,state,local,remote,recv-q,send-q"}},
	{"by comm and state", []string{"--by", "comm,state"}},
	{"sockets", []string{"--sockets"}},
	{"sockets as JSON", []string{"--sockets", "-o", "json"}},
	{"sorted", []string{"--sockets", "--sort", "-idle"}},
}

// BenchmarkLsCrowd: 100,000 sockets in 40 network namespaces, in a process of its own each time.
func BenchmarkLsCrowd(b *testing.B) {
	const namespaces, connections = 40, 1250
	crowds(b, namespaces, connections)
	for _, c := range crowdShapes {
		b.Run(strings.ReplaceAll(c.name, " ", "_"), func(b *testing.B) {
			benchProcess(b, append([]string{"ls"}, c.args...)...)
		})
	}
	// What --watch asks the programs for in addition, at each reading.
	b.Run("live_sockets", func(b *testing.B) {
		tr, err := tracer.New(tracer.Config{LiveSockets: true, TotalsOnly: true})
		if err != nil {
			b.Fatal(err)
		}
		defer tr.Close()
		all, err := netns.All()
		if err != nil {
			b.Fatal(err)
		}
		found := 0
		for b.Loop() {
			found = 0
			for _, path := range all {
				if err := tr.LiveSockets(path, func(*tracer.LiveSocket) { found++ }); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(found), "sockets")
	})
}

// BenchmarkDoctorCrowd: 100,000 sockets in 40 network namespaces, and few in 300 of them.
func BenchmarkDoctorCrowd(b *testing.B) {
	for name, c := range map[string]struct{ namespaces, connections int }{
		"100000_sockets": {40, 1250}, "300_namespaces": {300, 2},
	} {
		b.Run(name, func(b *testing.B) {
			crowds(b, c.namespaces, c.connections)
			b.Run("snapshot", func(b *testing.B) { benchProcess(b, "doctor", "--snapshot") })
		})
	}
}

// BenchmarkMillion: a million TIME_WAITs in one network namespace, which takes most of their minute to
// make.
func BenchmarkMillion(b *testing.B) {
	const sockets = 1_000_000
	for _, args := range [][]string{{"doctor", "--snapshot"}, {"ls", "--by", "destination"}} {
		b.Run(args[0], func(b *testing.B) {
			ns := sandbox.New(b)
			testnet.TimeWaits(b, ns, sockets)
			benchProcess(b, append(args, "--netns", pathOf(ns))...)
		})
	}
}

// benchProcess reports the best of several processes: the machine does other things as well.
func benchProcess(b *testing.B, args ...string) {
	shortest, least, most := time.Duration(math.MaxInt64), time.Duration(math.MaxInt64), uint64(0)
	for b.Loop() {
		took, busy, memory := finwaitProcess(b, args...)
		shortest, least, most = min(shortest, took), min(least, busy), max(most, memory)
	}
	b.ReportMetric(float64(shortest.Milliseconds()), "best-ms")
	b.ReportMetric(float64(least.Milliseconds()), "best-cpu-ms")
	b.ReportMetric(float64(most>>20), "MB")
}

// Namespaces full of sockets of other processes: all are listed, with their owner and descriptor,
// and in groups.
func TestLsCrowd(t *testing.T) {
	const namespaces, connections = 7, 101
	pids := strings.Join(crowds(t, namespaces, connections), ",")
	perOwner := make(map[int]map[uint32]bool)
	for _, s := range lsSockets(t, "--pid", pids) {
		fds := perOwner[s.Owner.PID]
		if fds == nil {
			fds = make(map[uint32]bool)
			perOwner[s.Owner.PID] = fds
		}
		fds[*s.FD] = true
	}
	if len(perOwner) != namespaces {
		t.Errorf("%d owners, want %d", len(perOwner), namespaces)
	}
	for pid, fds := range perOwner {
		if len(fds) != 2*connections+1 {
			t.Errorf("process %d has %d sockets, each with a descriptor of its own; want %d", pid, len(fds), 2*connections+1)
		}
	}
	for _, g := range lsGroups(t, "--by", "pid", "--top", "0") {
		if g.Name == nil {
			continue
		}
		pid, _ := strconv.Atoi(*g.Name)
		if fds := perOwner[pid]; fds != nil && g.Sockets != len(fds) {
			t.Errorf("group %+v, want %d sockets", g, len(fds))
		}
	}
}
