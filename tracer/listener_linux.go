package tracer

import (
	"fmt"

	"finwait/internal/netns"

	"github.com/cilium/ebpf/link"
)

// Listeners calls fn for every listener of the network namespaces at these paths, such as
// /proc/self/ns/net, that has a cookie: sock_diag(7) gives one to each socket that it lists. What fn is
// given is valid until it returns. A namespace that cannot be entered is left out. It asks for
// CAP_BPF and CAP_PERFMON, and for other namespaces for CAP_SYS_ADMIN; no kernel tells without BPF.
func Listeners(paths []string, fn func(*Listener)) error {
	coll, err := loadAlone(bpfProgListenerOptions, kernelTypesCache())
	if err != nil {
		return err
	}
	defer coll.Close()
	iter, err := link.AttachIter(link.IterOptions{Program: coll.Programs[bpfProgListenerOptions]})
	if err != nil {
		return fmt.Errorf("attach the iterator of sockets: %w", err)
	}
	defer iter.Close()
	var to Listener
	for _, path := range paths {
		_ = netns.Do(path, func() error { // it may be gone
			return eachRecord(iter, func(l *bpfListener) {
				to = Listener{l.Cookie, l.ReuseAddr != 0, l.ReusePort != 0}
				fn(&to)
			})
		})
	}
	return nil
}
