//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"finwait/internal/netns"
	"finwait/internal/scenario"
	"finwait/internal/test/bpfobj"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

const (
	patience = 30 * time.Second
	still    = 300 * time.Millisecond // a reader that is idle for this long has read everything
)

// A process is a running tool.
type process struct {
	*exec.Cmd
	stdout *os.File // nil: not kept
	stderr bytes.Buffer
	ended  bool
}

// launch starts a tool. Its output goes to memory or to /dev/null. A process that read the output
// meanwhile would need a CPU.
func launch(t *tool) (*process, error) {
	p := &process{Cmd: exec.Command(t.argv[0], t.argv[1:]...)}
	if t.keep {
		fd, err := unix.MemfdCreate(t.name, unix.MFD_CLOEXEC)
		if err != nil {
			return nil, fmt.Errorf("memfd: %w", err)
		}
		p.stdout = os.NewFile(uintptr(fd), t.name)
		p.Stdout = p.stdout
	}
	p.Stderr = &p.stderr
	if err := p.Start(); err != nil {
		return nil, err
	}
	return p, nil
}

// stop ends the process like Ctrl-C, and returns its output.
func (p *process) stop() (stdout, stderr []byte, err error) {
	if err := p.Process.Signal(os.Interrupt); err != nil {
		return nil, nil, err
	}
	kill := time.AfterFunc(patience, func() { _ = p.Process.Kill() })
	defer kill.Stop()
	p.ended = true
	var exit *exec.ExitError
	// tcpstates and bpftrace may end by the signal. Their output shows whether they worked.
	if err := p.Wait(); err != nil && !errors.As(err, &exit) {
		return nil, nil, err
	}
	if p.stdout != nil {
		stdout, err = io.ReadAll(io.NewSectionReader(p.stdout, 0, 1<<40))
	}
	return stdout, p.stderr.Bytes(), err
}

// discard kills the process if it still runs, after an error.
func (p *process) discard() {
	if !p.ended {
		_ = p.Process.Kill()
		_ = p.Wait()
	}
	if p.stdout != nil {
		p.stdout.Close()
	}
}

// cpu is the CPU time of all threads of the process (clock_getcpuclockid(3)).
func (p *process) cpu() (time.Duration, error) {
	const scheduled = 2 // CPUCLOCK_SCHED, include/linux/posix-timers_types.h
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^p.Process.Pid<<3|scheduled), &ts); err != nil {
		return 0, fmt.Errorf("CPU clock of %s: %w", p.Path, err)
	}
	return time.Duration(ts.Nano()), nil
}

// rest waits until the process is idle, and returns its cpu.
func (p *process) rest() (time.Duration, error) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		before, err := p.cpu()
		if err != nil {
			return 0, err
		}
		time.Sleep(still)
		after, err := p.cpu()
		if err != nil || after-before < still/100 {
			return after, err
		}
	}
	return 0, fmt.Errorf("%s does not come to rest", p.Path)
}

// peak is the largest resident memory of the process, in bytes. getrusage(2) of a child is not
// used, because it includes the memory of this process at the time of the fork.
func (p *process) peak() (uint64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Process.Pid))
	if err != nil {
		return 0, err
	}
	kb, err := number(status, "VmHWM:")
	return kb << 10, err
}

// number reads the number after a key in a file of /proc.
func number(text []byte, key string) (uint64, error) {
	for line := range bytes.Lines(text) {
		if f := bytes.Fields(line); len(f) > 1 && string(f[0]) == key {
			return strconv.ParseUint(string(f[1]), 10, 64)
		}
	}
	return 0, fmt.Errorf("no %s in %q", key, text)
}

// A use is the kernel's statistics of one program.
type use struct {
	runs uint64
	time time.Duration
}

func (u use) less(v use) use { return use{u.runs - v.runs, u.time - v.time} }

// perRun is in ns. It is 0 for a program that did not run.
func (u use) perRun() float64 {
	if u.runs == 0 {
		return 0
	}
	return float64(u.time) / float64(u.runs)
}

// programs returns the kernel's statistics of the programs that the process holds, by name. Only
// its descriptors tell which programs of the kernel belong to the process.
func (p *process) programs() (map[string]use, error) {
	held, err := bpfobj.Held(p.Process.Pid)
	if err != nil {
		return nil, err
	}
	all := make(map[string]use)
	for _, o := range held {
		if o.Kind != bpfobj.Program {
			continue
		}
		prog, err := ebpf.NewProgramFromID(ebpf.ProgramID(o.ID))
		if errors.Is(err, os.ErrNotExist) {
			continue // the program was unloaded meanwhile
		}
		if err != nil {
			return nil, err
		}
		info, err := prog.Info()
		if err == nil {
			var u use
			u, err = used(prog)
			sum := all[info.Name]
			all[info.Name] = use{sum.runs + u.runs, sum.time + u.time}
		}
		prog.Close()
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

func used(prog *ebpf.Program) (use, error) {
	st, err := prog.Stats()
	if err != nil {
		return use{}, err
	}
	return use{st.RunCount, st.Runtime}, nil
}

// ready waits until the tool has started, and then until its programs run when a connection is
// tried.
func (p *process) ready(st *scenario.Stage) error {
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		return err
	}
	return errors.Join(p.awaitRun(st), stats.Close())
}

func (p *process) awaitRun(st *scenario.Stage) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if _, err := p.rest(); err != nil {
			return err
		}
		if err := netns.Do(st.Path(), refused); err != nil {
			return err
		}
		all, err := p.programs()
		if err != nil {
			return err
		}
		for _, u := range all {
			if u.runs > 0 {
				_, err := p.rest()
				return err
			}
		}
	}
	return fmt.Errorf("%s attaches nothing: %q", p.Path, p.stderr.String())
}

// refused connects to a port without a listener, which makes two transitions.
func refused() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = unix.Connect(fd, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 0, 0, 1}})
	if err != unix.ECONNREFUSED {
		return fmt.Errorf("connect to a port without a listener: %w", err)
	}
	return nil
}

// firstEvent is the time from exec until the tool reports a connection. A connection is tried
// every millisecond.
func firstEvent(t *tool) (time.Duration, error) {
	st, err := scenario.Open()
	if err != nil {
		return 0, err
	}
	defer st.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, t.start[0], t.start[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = patience
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	trying := make(chan error, 1)
	go func() {
		trying <- netns.Do(st.Path(), func() error {
			for ctx.Err() == nil {
				if err := refused(); err != nil {
					return err
				}
				time.Sleep(time.Millisecond)
			}
			return nil
		})
	}()
	began := time.Now()
	var took time.Duration
	if err := cmd.Start(); err != nil {
		cancel()
		return 0, errors.Join(err, <-trying)
	}
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 1<<20)
	for took == 0 && lines.Scan() {
		if strings.Contains(lines.Text(), t.event) {
			took = time.Since(began)
		}
	}
	cancel()
	_, _ = io.Copy(io.Discard, stdout)
	_ = cmd.Wait() // it ends by the signal
	if err := <-trying; err != nil {
		return 0, err
	}
	if took == 0 {
		return 0, fmt.Errorf("%s told of no connection: %q", t.name, stderr.String())
	}
	return took, nil
}
