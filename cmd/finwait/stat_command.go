package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"finwait/internal/cgroup"
	"finwait/tracer"

	"github.com/rs/zerolog"
)

// The exit codes of a shell for a command that cannot be run, or that a signal ended.
const (
	exitCannotRun = 126
	exitNotFound  = 127
	exitBySignal  = 128 // and the signal's number
)

// errNotStarted: who ends finwait while it attaches does not want the command any more.
var errNotStarted = errors.New("interrupted: the command was not started")

// commandCgroup makes the cgroup by which the sockets of a command are told apart: the kernel
// gives a socket the cgroup of the process that makes it, and an accepted one that of its listener.
func commandCgroup(filter *tracer.Filter) (*cgroup.Child, error) {
	own, err := cgroup.NewChild()
	if err != nil {
		return nil, fmt.Errorf("cannot tell the command's sockets apart: %w; --all counts everything on the host while it runs", err)
	}
	filter.Cgroups = []tracer.Cgroup{{ID: own.ID, Level: own.Level}}
	return own, nil
}

func removeCgroup(own *cgroup.Child, log *zerolog.Logger) {
	if err := own.Remove(); err != nil {
		log.Warn().Msg(err.Error())
	}
}

// startCommand starts a command as a shell would, unless a signal has come before. It is started
// in a cgroup if there is one.
// finwait waits until it ends. A SIGINT of the terminal reaches the command directly;
// other signals are passed on.
func startCommand(ctx context.Context, command []string, own *cgroup.Child, signals chan os.Signal) (*ending, error) {
	if ctx.Err() != nil || len(signals) > 0 {
		return nil, errNotStarted
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	start := cmd.Start
	if own != nil {
		start = func() error { return own.Start(cmd) }
	}
	if err := start(); errors.Is(err, cgroup.ErrNoStart) {
		return nil, fmt.Errorf("%w; --all starts the command without, and counts everything on the host while it runs", err)
	} else if err != nil {
		code := exitCannotRun
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
			code = exitNotFound
		}
		return nil, &exitError{code, fmt.Errorf("cannot run %q: %w", command[0], plain(err))}
	}
	// What came meanwhile, even a SIGINT, may have been too early to reach the command.
	for len(signals) > 0 {
		_ = cmd.Process.Signal(<-signals) // it may have ended
	}
	done, code := make(chan struct{}), make(chan int, 1)
	go func() {
		code <- exitCodeOf(cmd.Wait())
		signal.Stop(signals) // a second one now ends finwait
		close(done)
	}()
	go func() {
		for {
			select {
			case <-done:
				return
			case s := <-signals:
				if s != syscall.SIGINT {
					_ = cmd.Process.Signal(s) // it may have ended
				}
			}
		}
	}()
	return &ending{done: done, code: code}, nil
}

// plain is the error without the words of package os/exec.
func plain(err error) error {
	var (
		lookup *exec.Error
		start  *fs.PathError
	)
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return errors.New("it is not in PATH")
	case errors.As(err, &lookup):
		return lookup.Err
	case errors.As(err, &start):
		return start.Err
	}
	return err
}

func exitCodeOf(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return exitOK
	case !errors.As(err, &exit):
		return exitFailure
	}
	if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return exitBySignal + int(ws.Signal())
	}
	return exit.ExitCode()
}
