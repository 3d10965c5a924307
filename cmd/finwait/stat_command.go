package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// The exit codes of a shell for a command that cannot be run, or that a signal ended.
const (
	exitCannotRun = 126
	exitNotFound  = 127
	exitBySignal  = 128 // and the signal's number
)

// startCommand starts a command as a shell would. finwait waits until it ends. A
// SIGINT of the terminal reaches the command directly; a SIGTERM is passed on.
func startCommand(command []string) (*ending, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	if err := cmd.Start(); err != nil {
		signal.Stop(signals)
		code := exitCannotRun
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
			code = exitNotFound
		}
		return nil, &exitError{code, fmt.Errorf("cannot run the command: %w", err)}
	}
	done, code := make(chan struct{}), make(chan int, 1)
	go func() {
		code <- exitCodeOf(cmd.Wait())
		signal.Stop(signals)
		close(done)
	}()
	go func() {
		for {
			select {
			case <-done:
				return
			case s := <-signals:
				if s == syscall.SIGTERM {
					_ = cmd.Process.Signal(s) // it may have ended
				}
			}
		}
	}()
	return &ending{done: done, code: code}, nil
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
