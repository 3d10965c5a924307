//go:build !linux

package doctor

import (
	"finwait/internal/netns"
	"finwait/internal/sockets"
	"finwait/tracer"

	"github.com/rs/zerolog"
)

// A Source is Linux's.
type Source struct {
	Filter tracer.Filter
	NetNS  []netns.NS
	Owners sockets.OwnerSource
	Walk   func() (sockets.Walk, error)
	Log    *zerolog.Logger
	Root   string
}

// A Collector is Linux's.
type Collector struct{}

// NewCollector makes one that fails.
func NewCollector(Source) *Collector { return &Collector{} }

// Begin fails with tracer.ErrNotLinux.
func (*Collector) Begin() error { return tracer.ErrNotLinux }

// Take fails with tracer.ErrNotLinux.
func (*Collector) Take() (*Input, error) { return nil, tracer.ErrNotLinux }
