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
	patience = 60 * time.Second       // for what takes a busy machine no more than seconds
	beat     = 100 * time.Millisecond // between two looks at a process
	flutter  = 10 * time.Millisecond  // the same until it is attached
)

// A process is a finwait that runs.
type process struct {
	*exec.Cmd
	stdout   *os.File
	read     chan struct{} // closed when stdout has come to its end
	attached chan struct{} // closed when it says that it traces
	ended    chan struct{} // closed when it was waited for
	err      error         // of waiting for it

	mu      sync.Mutex
	said    []string // the last lines of its stderr
	objects []bpfobj.Object
	samples []sample // from the moment it was attached
}

// A sample is what a process holds.
type sample struct {
	rss          uint64 // bytes
	fds, threads int
}

// start starts finwait; consume reads what it prints.
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
		p.listen(stderr)
		p.err = p.Wait()
		close(p.ended)
	}()
	go p.watch()
	return p, nil
}

// listen keeps what finwait says, until it says no more.
func (p *process) listen(stderr io.Reader) {
	for s := bufio.NewScanner(stderr); s.Scan(); {
		p.mu.Lock()
		if p.said = append(p.said, s.Text()); len(p.said) > 10 {
			p.said = p.said[1:]
		}
		p.mu.Unlock()
		if strings.Contains(s.Text(), "Ctrl-C ends it") {
			close(p.attached)
		}
	}
}

// watch looks at what it holds until it ends.
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
			time.Sleep(beat)
		default:
			time.Sleep(flutter)
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
		n, _ := strconv.ParseUint(string(f[1]), 10, 64) // other keys have no numbers
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

// await waits until finwait traces.
func (p *process) await() error {
	select {
	case <-p.attached:
		return nil
	case <-p.ended:
		return fmt.Errorf("it ended before it was attached: %v: %s", p.err, p.lastWords())
	case <-time.After(patience):
		return fmt.Errorf("it was not attached after %v: %s", patience, p.lastWords())
	}
}

func (p *process) lastWords() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.said, "; ")
}

// stop lets it stand still for a while.
func (p *process) stop(d time.Duration) {
	// It fails only of a process that has ended, which end will tell of.
	_ = p.Process.Signal(unix.SIGSTOP)
	time.Sleep(d)
	_ = p.Process.Signal(unix.SIGCONT)
}

// end sends a signal, waits for the end of the process and of what it printed,
// and then until the kernel has nothing left of it.
func (p *process) end(signal os.Signal) error {
	_ = p.Process.Signal(signal)
	select {
	case <-p.ended:
	case <-time.After(patience):
		_ = p.Process.Kill()
		<-p.ended
		return fmt.Errorf("it did not end within %v of %v: %s", patience, signal, p.lastWords())
	}
	<-p.read
	return p.gone()
}

func (p *process) gone() error {
	p.mu.Lock()
	objects := p.objects
	p.mu.Unlock()
	for deadline := time.Now().Add(patience); ; time.Sleep(beat) {
		left, err := bpfobj.Left(objects)
		if err != nil {
			return err
		}
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%v after its end the kernel still has %v", patience, left)
		}
	}
}

func (p *process) sampled() []sample {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.samples)
}

// worst is the most of everything.
func worst(samples []sample) (w sample) {
	for _, s := range samples {
		w = sample{max(w.rss, s.rss), max(w.fds, s.fds), max(w.threads, s.threads)}
	}
	return w
}
