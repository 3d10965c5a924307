package main

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/internal/test/testnet"
)

// watched looks at a process until stop is called: at the most memory that it ever
// held, in bytes, and at the most descriptors that it was seen to have.
func watched(pid int) (stop func() (memory uint64, fds int)) {
	var (
		memory  uint64
		fds     int
		looking sync.WaitGroup
	)
	quit := make(chan struct{})
	looking.Go(func() {
		for {
			if dir, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid)); err == nil {
				fds = max(fds, len(dir))
			}
			status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // empty once it has ended
			for l := range strings.Lines(string(status)) {
				if f := strings.Fields(l); f[0] == "VmHWM:" {
					kb, _ := strconv.ParseUint(f[1], 10, 64)
					memory = kb << 10
				}
			}
			select {
			case <-quit:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	return func() (uint64, int) {
		close(quit)
		looking.Wait()
		return memory, fds
	}
}

// A hundred thousand sockets are there before: all of them are found, in memory
// that does not depend on how many there are.
func TestManyOlderSockets(t *testing.T) {
	const sockets = 100_000
	ns := sandbox.New(t)
	resident(t, ns)
	testnet.TimeWaits(t, ns, sockets)
	began := time.Now()
	p := trace(t, nil, "stat", "--output", "json", "--netns", pathOf(ns))
	t.Logf("with %d sockets it took %v to start", sockets, time.Since(began).Round(time.Millisecond))
	stop := watched(p.Process.Pid)
	p.signal(t, os.Interrupt)
	if code := p.end(t, patience); code != exitOK {
		t.Fatalf("exit code %d: %s", code, p.stderr.String())
	}
	// They live for a minute, which a machine that is slow enough may have taken.
	alive := int64(ns.States()[6])
	st := statObjects(t, p.stdout.String())[0]
	for _, s := range st.States {
		if s.State == "TIME_WAIT" && (s.Live > sockets || s.Live < alive || alive == 0) {
			t.Errorf("%d in TIME_WAIT, there were %d, of which %d are left", s.Live, sockets, alive)
		}
	}
	if st.Lost["map_full"] != 0 {
		t.Errorf("lost: %v", st.Lost)
	}
	memory, _ := stop()
	t.Logf("it held %d bytes at the most", memory)
	if memory == 0 || memory > 128<<20 {
		t.Errorf("it held %d bytes", memory)
	}
}

// resident starts a process in a namespace, by which others find it. It ends with the test.
func resident(t *testing.T, ns *sandbox.NS) {
	t.Helper()
	cmd := exec.Command("cat")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	ns.Start(cmd)
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
}

// Hundreds of network namespaces are there at the start, and as many come and go:
// what is in each is told, without a descriptor kept for any.
func TestManyNamespaces(t *testing.T) {
	const many = 300
	f := sandbox.Families[0]
	there := make(map[uint64]bool) // by cookie
	for range many {
		ns := sandbox.New(t)
		resident(t, ns)
		ns.Socket(f).Bind(0).Listen()
		there[ns.Cookie] = true
	}
	began := time.Now()
	p := trace(t, nil, "stat", "--by", "netns", "--top", "100000", "--output", "json")
	t.Logf("with %d network namespaces it took %v to start", many, time.Since(began).Round(time.Millisecond))
	stop := watched(p.Process.Pid)
	come := make(map[uint64]bool)
	for range many {
		ns := sandbox.New(t)
		ns.Socket(f).Bind(0).Listen().Close()
		come[ns.Cookie] = true
		ns.Remove()
	}
	p.signal(t, os.Interrupt)
	if code := p.end(t, patience); code != exitOK || strings.Contains(p.stderr.String(), "disagree") {
		t.Fatalf("exit code %d: %s", code, p.stderr.String())
	}
	listens := 0
	for _, g := range statObjects(t, p.stdout.String())[0].Groups {
		if g.Name == nil {
			continue
		}
		for _, s := range g.States {
			if s.State != "LISTEN" {
				continue
			}
			if there[g.NetNSCookie] && s.Live != 1 {
				t.Errorf("network namespace %s has %d listeners, want one", *g.Name, s.Live)
			}
			if there[g.NetNSCookie] || come[g.NetNSCookie] && s.Entered > 0 {
				listens++
			}
		}
	}
	if listens != 2*many {
		t.Errorf("the listeners of %d network namespaces were told of; want %d that were there, and as many that came", listens, many)
	}
	// As many as namespaces are what this is to find.
	if _, fds := stop(); fds == 0 || fds > many/3 {
		t.Errorf("it had %d descriptors", fds)
	}
}
