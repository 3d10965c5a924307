package main

import (
	"fmt"

	"finwait/tracer"
)

// parseHooks reads the value of --hooks.
func parseHooks(name string) (tracer.HookSet, error) {
	for _, h := range []tracer.HookSet{tracer.HooksAuto, tracer.HooksFentry, tracer.HooksTracepoint} {
		if name == h.String() {
			return h, nil
		}
	}
	return 0, fmt.Errorf("hooks %q: there are auto, fentry and tracepoint", name)
}
