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

// visitExisting tells the programs of the sockets that were there before them: first who
// holds each, then, in every network namespace, an iterator visits them all.
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
			// It went away, or may not be entered: its sockets are met when they next move.
			t.cfg.Logger.Debug().Err(err).Uint32("netns", inode).Msg("cannot look at the sockets of this network namespace")
		}
	}
	// Nothing else uses these: the kernel can have the memory back.
	return errors.Join(t.coll.Programs[bpfProgExisting].Close(), t.coll.Maps[bpfMapHolders].Close())
}

// visit lets the iterator see every TCP socket of the calling thread's namespace.
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

// nameHolders fills the map of holders from /proc. The hooks give pids of the
// initial pid namespace; those of another would name the wrong processes.
func (t *Tracer) nameHolders() error {
	if ns, err := os.Readlink("/proc/self/ns/pid"); err != nil || ns != initialPIDNamespace {
		t.cfg.Logger.Warn().Msg("not in the initial pid namespace: sockets older than finwait are shown without an owner, and pids are the host's")
		return nil
	}
	held, err := holders.Sockets()
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
