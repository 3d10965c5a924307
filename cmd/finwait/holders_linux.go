package main

import (
	"fmt"
	"os"

	"finwait/internal/holders"
	"finwait/internal/privilege"
	"finwait/internal/sockets"
	"finwait/tracer"

	"github.com/rs/zerolog"
)

// initialPIDNamespace is PROC_PID_INIT_INO (linux/proc_ns.h).
const initialPIDNamespace = "pid:[4026531836]"

// socketOwners finds the processes that hold sockets: with an iterator of the kernel where
// BPF is permitted, which takes a fifth of the time, and else in /proc. The iterator gives
// the pids of the initial pid namespace, and another one has pids of its own.
func socketOwners(log *zerolog.Logger) sockets.OwnerSource {
	return func() (map[uint64]holders.Process, error) {
		if ns, err := os.Readlink("/proc/self/ns/pid"); err != nil || ns != initialPIDNamespace || len(privilege.Missing()) > 0 {
			return holders.Sockets()
		}
		held, err := holders.Choose(func(add func(uint64, holders.Process, uint32)) error {
			return tracer.SocketHolders(func(h *tracer.SocketHolder) {
				add(h.Inode, holders.Process{PID: h.PID, Comm: h.Comm, FD: h.FD}, h.Parent)
			})
		})
		if err != nil {
			log.Debug().Err(err).Msg("the kernel's iterator of files cannot be used here: reading /proc")
			return holders.Sockets()
		}
		return held, nil
	}
}

// socketWalk walks the kernel's table of sockets, where BPF is permitted.
func socketWalk() (sockets.Walk, error) {
	if missing := privilege.Missing(); len(missing) > 0 {
		return nil, fmt.Errorf("the programs that walk the table need %v", missing)
	}
	return tracer.NewSocketWalk()
}
