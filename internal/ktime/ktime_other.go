//go:build !linux

package ktime

import (
	"errors"
	"time"
)

// Now gives no monotonic time: only Linux has the kernel's clock.
func Now() (monotonic, wall int64) { return 0, time.Now().UnixNano() }

// HZ fails, because only Linux is supported.
func HZ() (uint32, error) { return 0, errors.New("this system is not Linux") }
