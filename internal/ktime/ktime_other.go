//go:build !linux

package ktime

import "errors"

// HZ fails, because only Linux is supported.
func HZ() (uint32, error) { return 0, errors.New("this system is not Linux") }
