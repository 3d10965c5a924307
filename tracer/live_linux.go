package tracer

import (
	"errors"
	"fmt"
	"time"

	"finwait/internal/netns"

	"github.com/cilium/ebpf/link"
)

// LiveSockets calls fn for every TCP socket of the network namespace at this path, such as
// /proc/self/ns/net, of which the programs know since when it is in its state; what fn is given is
// valid until it returns. What is reported was so at a moment between the call and the return. It
// needs Config.LiveSockets.
func (t *Tracer) LiveSockets(path string, fn func(*LiveSocket)) error {
	if !t.cfg.LiveSockets {
		return errors.New("the tracer was not made with Config.LiveSockets")
	}
	return netns.Do(path, func() error {
		// An iterator visits the namespace in which it was opened.
		iter, err := link.AttachIter(link.IterOptions{Program: t.coll.Programs[bpfProgLiveSockets]})
		if err != nil {
			return fmt.Errorf("attach the iterator of sockets: %w", err)
		}
		defer iter.Close()
		var to LiveSocket
		return eachRecord(iter, func(from *bpfLiveSocket) {
			to = LiveSocket{from.Cookie, State(from.State), time.Duration(from.SinceNs), Precision(from.Precision), Role(from.Role)}
			fn(&to)
		})
	})
}
