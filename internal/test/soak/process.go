//go:build linux

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"finwait/internal/test/bpfobj"

	"golang.org/x/sys/unix"
)

const (
	timeout        = 60 * time.Second       // for what takes seconds on a busy machine
	pollInterval   = 100 * time.Millisecond // between two samples of a process
	attachInterval = 10 * time.Millisecond  // the same, until it is attached
)

// A process is a running finwait.
type process struct {
	*exec.Cmd
	stdout   *os.File
	read     chan struct{} // closed at the end of stdout
	attached chan struct{} // closed when finwait says that it traces
	ended    chan struct{} // closed when Wait has returned
	err      error         // of Wait

	mu      sync.Mutex
	stderr  []string // its last lines
	objects []bpfobj.Object
	samples []sample // taken after it was attached
}

// A sample is what a process holds at one time.
type sample struct {
	rss          uint64 // bytes
	fds, threads int
}

// start starts finwait; consume reads its output.
func start(program string, consume func(io.Reader), args ...string) (*process, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	p := &process{Cmd: exec.Command(program, args...), stdout: r,
		read: make(chan struct{}), attached: make(chan struct{}), ended: make(chan struct{})}
	p.Stdout = w
	stderr, err := p.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.Start(); err != nil {
		r.Close()
		return nil, err
	}
	go func() {
		defer close(p.read)
		defer r.Close()
		consume(r)
	}()
	go func() {
		p.readStderr(stderr)
		p.err = p.Wait()
		close(p.ended)
	}()
	go p.watch()
	return p, nil
}

// readStderr keeps the last lines of stderr, and reads it to its end.
func (p *process) readStderr(stderr io.Reader) {
	for s := bufio.NewScanner(stderr); s.Scan(); {
		p.mu.Lock()
		if p.stderr = append(p.stderr, s.Text()); len(p.stderr) > 10 {
			p.stderr = p.stderr[1:]
		}
		p.mu.Unlock()
		if strings.Contains(s.Text(), "Ctrl-C ends it") {
			close(p.attached)
		}
	}
}

// watch samples the process, and lists its BPF objects, until it ends.
func (p *process) watch() {
	for {
		held, err := bpfobj.Held(p.Process.Pid)
		s, errSample := p.sample()
		p.mu.Lock()
		if err == nil {
			p.objects = append(p.objects, held...)
			slices.SortFunc(p.objects, func(a, b bpfobj.Object) int { return strings.Compare(a.String(), b.String()) })
			p.objects = slices.Compact(p.objects)
		}
		select {
		case <-p.attached:
			if errSample == nil {
				p.samples = append(p.samples, s)
			}
		default:
		}
		p.mu.Unlock()
		select {
		case <-p.attached:
			time.Sleep(pollInterval)
		default:
			time.Sleep(attachInterval)
		}
		select {
		case <-p.ended:
			return
		default:
		}
	}
}

func (p *process) sample() (s sample, err error) {
	dir := fmt.Sprintf("/proc/%d/", p.Process.Pid)
	fds, err := os.ReadDir(dir + "fd")
	if err != nil {
		return s, err
	}
	status, err := os.ReadFile(dir + "status")
	if err != nil {
		return s, err
	}
	s.fds = len(fds)
	for l := range bytes.Lines(status) {
		f := bytes.Fields(l)
		if len(f) < 2 {
			continue
		}
		n, _ := strconv.ParseUint(string(f[1]), 10, 64) // an error gives 0, which other keys may have
		switch string(f[0]) {
		case "VmRSS:":
			s.rss = n << 10
		case "Threads:":
			s.threads = int(n)
		}
	}
	if s.rss == 0 {
		return s, fmt.Errorf("process %d has ended", p.Process.Pid)
	}
	return s, nil
}

// await waits until finwait is attached.
func (p *process) await() error {
	select {
	case <-p.attached:
		return nil
	case <-p.ended:
		return fmt.Errorf("finwait ended before it was attached: %v: %s", p.err, p.lastStderr())
	case <-time.After(timeout):
		return fmt.Errorf("finwait was not attached after %v: %s", timeout, p.lastStderr())
	}
}

func (p *process) lastStderr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.stderr, "; ")
}

// suspend stops the process for a while.
func (p *process) suspend(d time.Duration) {
	// Signal fails only if the process has ended, which end reports.
	_ = p.Process.Signal(unix.SIGSTOP)
	time.Sleep(d)
	_ = p.Process.Signal(unix.SIGCONT)
}

// end sends a signal, and waits for the end of the process, for the end of its output,
// and until the kernel has freed its BPF objects.
func (p *process) end(signal os.Signal) error {
	_ = p.Process.Signal(signal)
	select {
	case <-p.ended:
	case <-time.After(timeout):
		_ = p.Process.Kill()
		<-p.ended
		return fmt.Errorf("finwait did not end within %v of %v: %s", timeout, signal, p.lastStderr())
	}
	<-p.read
	return p.awaitFreed()
}

// awaitFreed waits until the kernel has freed all BPF objects of the process.
func (p *process) awaitFreed() error {
	p.mu.Lock()
	objects := p.objects
	p.mu.Unlock()
	for deadline := time.Now().Add(timeout); ; time.Sleep(pollInterval) {
		left, err := bpfobj.Left(objects)
		if err != nil {
			return err
		}
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%v after its end the kernel still has %v", timeout, left)
		}
	}
}

func (p *process) sampled() []sample {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.samples)
}

// peak returns the maximum of each figure.
func peak(samples []sample) (p sample) {
	for _, s := range samples {
		p = sample{max(p.rss, s.rss), max(p.fds, s.fds), max(p.threads, s.threads)}
	}
	return p
}
