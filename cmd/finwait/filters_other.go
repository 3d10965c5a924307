//go:build !linux

package main

import "finwait/tracer"

func netNS(string) (uint32, error) { return 0, tracer.ErrNotLinux }
