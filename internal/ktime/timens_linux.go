package ktime

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// initialTimeNS is the initial time namespace (PROC_TIME_INIT_INO, linux/proc_ns.h).
const initialTimeNS = "time:[4026531834]"

// namespaceOffset is what the time namespace (time_namespaces(7), Linux 5.6) adds to the
// CLOCK_MONOTONIC of this process, in ns. The clock of BPF programs has no such offset. The
// offset is read once, because a process cannot change its time namespace.
var namespaceOffset = sync.OnceValues(func() (int64, error) {
	own, err := os.Readlink("/proc/self/ns/time")
	if errors.Is(err, os.ErrNotExist) || own == initialTimeNS {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("find the time namespace: %w", err)
	}
	// timens_offsets has the offsets of the namespace of future children.
	children, err := os.Readlink("/proc/self/ns/time_for_children")
	if err != nil {
		return 0, fmt.Errorf("find the time namespace: %w", err)
	}
	if children != own {
		return 0, errors.New("the offset of this time namespace is not known, as children are to be in another")
	}
	offsets, err := os.ReadFile("/proc/self/timens_offsets")
	if err != nil {
		return 0, fmt.Errorf("read the time namespace's offset: %w", err)
	}
	return parseOffset(string(offsets))
})

// parseOffset reads /proc/PID/timens_offsets: a line for each clock, with its name, seconds and ns.
func parseOffset(offsets string) (int64, error) {
	for line := range strings.Lines(offsets) {
		var (
			name    string
			sec, ns int64
		)
		if n, _ := fmt.Sscan(line, &name, &sec, &ns); n == 3 && name == "monotonic" {
			return sec*int64(time.Second) + ns, nil
		}
	}
	return 0, fmt.Errorf("the time namespace's offsets are %q: none is for the monotonic clock", offsets)
}
