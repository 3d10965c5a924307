//go:build !linux

package audit

import "finwait/tracer"

// Take fails, because there is no tracer on this system.
func Take(*tracer.Tracer) (*Snapshot, error) { return nil, tracer.ErrNotLinux }
