//go:build !linux

package main

import (
	"finwait/tracer"

	"github.com/rs/zerolog"
)

// A socketReader reads sockets. There is none on this system.
type socketReader struct{}

func newSocketReader(*lsOptions, *selection, *zerolog.Logger) (*socketReader, error) {
	return nil, tracer.ErrNotLinux
}

func (*socketReader) each(func(*socketRow) error) error { return tracer.ErrNotLinux }

func (*socketReader) cgroupPath(uint64) (string, bool) { return "", false }
