package tracer

import (
	"errors"
	"fmt"
	"io"
	"os"

	"finwait/internal/holders"
	"finwait/internal/netns"

	"github.com/cilium/ebpf/link"
)

// visitExisting tells the programs about the sockets that existed before them. First it
// fills the map of their holders; then, in each network namespace, an iterator visits
// every socket.
func (t *Tracer) visitExisting() error {
	if err := t.nameHolders(); err != nil {
		return err
	}
	iter, err := link.AttachIter(link.IterOptions{Program: t.coll.Programs[bpfProgExisting]})
	if err != nil {
		return fmt.Errorf("attach socket iterator: %w", err)
	}
	defer iter.Close()

	all, err := netns.All()
	if err != nil {
		return fmt.Errorf("find network namespaces: %w", err)
	}
	for inode, path := range all {
		if err := netns.Do(path, func() error { return visit(iter) }); err != nil {
			// The namespace is gone, or finwait may not enter it. The programs see its
			// sockets at their next transition.
			t.cfg.Logger.Debug().Err(err).Uint32("netns", inode).Msg("cannot look at the sockets of this network namespace")
		}
	}
	// Nothing uses these any more: give their memory back.
	return errors.Join(t.coll.Programs[bpfProgExisting].Close(), t.coll.Maps[bpfMapHolders].Close())
}

// visit runs the iterator over every TCP socket of the calling thread's network namespace.
func visit(iter *link.Iter) error {
	r, err := iter.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err
}

// initialPIDNamespace is PROC_PID_INIT_INO (linux/proc_ns.h).
const initialPIDNamespace = "pid:[4026531836]"

// nameHolders fills the map of holders. The iterator finds the processes of finwait's pid
// namespace only. In another than the initial one it would find some holders and not others,
// and choose wrong ones.
func (t *Tracer) nameHolders() error {
	if ns, err := os.Readlink("/proc/self/ns/pid"); err != nil || ns != initialPIDNamespace {
		t.cfg.Logger.Warn().Msg("not in the initial pid namespace: sockets older than finwait are shown without an owner, and pids are the host's")
		return nil
	}
	held, err := holders.Choose(func(add func(uint64, holders.Process, uint32)) error {
		return eachHolding(kernelTypesCache(), func(h *bpfHolding) {
			add(h.Inode, holders.Process{PID: h.Pid, Comm: h.Comm, FD: h.Fd}, h.Parent)
		})
	})
	if err != nil {
		return fmt.Errorf("find the owners of sockets: %w", err)
	}
	m := t.coll.Maps[bpfMapHolders]
	for inode, p := range held {
		if err := m.Put(inode, bpfOwner{Pid: p.PID, Comm: p.Comm}); err != nil {
			t.cfg.Logger.Warn().Err(err).Msg("not every owner of an older socket can be kept")
			break
		}
	}
	return nil
}
