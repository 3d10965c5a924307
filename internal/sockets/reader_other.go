//go:build !linux

package sockets

import (
	"finwait/tracer"

	"github.com/rs/zerolog"
)

// A Reader reads sockets. There is none on this system.
type Reader struct{}

// NewReader fails with tracer.ErrNotLinux.
func NewReader(*Selection, Options, *zerolog.Logger) (*Reader, error) { return nil, tracer.ErrNotLinux }

// Each is never reached.
func (*Reader) Each(func(*Row) error) error { return tracer.ErrNotLinux }

// Names is never reached.
func (*Reader) Names() *Names { return nil }
