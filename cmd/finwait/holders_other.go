//go:build !linux

package main

import (
	"finwait/internal/sockets"

	"github.com/rs/zerolog"
)

// socketOwners is never asked: there are no sockets to be listed.
func socketOwners(*zerolog.Logger) sockets.OwnerSource { return nil }
