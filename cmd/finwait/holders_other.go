//go:build !linux

package main

import (
	"finwait/internal/sockets"
	"finwait/tracer"

	"github.com/rs/zerolog"
)

// socketOwners is never asked: there are no sockets to be listed.
func socketOwners(*zerolog.Logger) sockets.OwnerSource { return nil }

// socketWalk is never asked, either.
func socketWalk() (sockets.Walk, error) { return nil, tracer.ErrNotLinux }
