//go:build !linux

package ktime

import "errors"

// HZ fails: only Linux is known to have it.
func HZ() (uint32, error) { return 0, errors.New("this system is not Linux") }
