package tracer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
)

// SocketHolders calls fn for every descriptor of every process that is a TCP socket; what
// fn is given is valid until it returns. An iterator of the kernel finds them in a fraction
// of the time that /proc/PID/fd takes, and asks for no more rights than New: CAP_BPF and
// CAP_PERFMON. It finds the processes of the caller's pid namespace; their pids are those of
// the initial one.
func SocketHolders(fn func(*SocketHolder)) error {
	var to SocketHolder
	return eachHolding(kernelTypesCache(), func(h *bpfHolding) {
		to = SocketHolder{Process: Process{PID: h.Pid, Comm: h.Comm}, Parent: h.Parent, FD: h.Fd, Inode: h.Inode, Listens: h.Listens != 0, ReuseAddr: h.ReuseAddr != 0, ReusePort: h.ReusePort != 0}
		fn(&to)
	})
}

func eachHolding(types *btf.Cache, fn func(*bpfHolding)) error {
	coll, err := loadAlone(bpfProgHoldings, types)
	if err != nil {
		return err
	}
	defer coll.Close()
	iter, err := link.AttachIter(link.IterOptions{Program: coll.Programs[bpfProgHoldings]})
	if err != nil {
		return fmt.Errorf("attach the iterator of files: %w", err)
	}
	defer iter.Close()
	return eachRecord(iter, fn)
}

// loadAlone loads an iterator that uses no map.
func loadAlone(program string, types *btf.Cache) (*ebpf.Collection, error) {
	spec, err := loadBpf()
	if err != nil {
		return nil, fmt.Errorf("read the embedded BPF object: %w", err)
	}
	for name := range spec.Programs {
		if name != program {
			delete(spec.Programs, name)
		}
	}
	spec.Maps, spec.Variables = nil, nil
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Cache: types})
	if err != nil {
		return nil, explainLoad(err, types)
	}
	return coll, nil
}

// eachRecord runs an iterator in the namespaces of the calling thread, and calls fn for each T that it
// writes; what fn is given is valid until it returns.
func eachRecord[T any](iter *link.Iter, fn func(*T)) error {
	r, err := iter.Open()
	if err != nil {
		return fmt.Errorf("open an iterator: %w", err)
	}
	defer r.Close()
	var record T
	buffered := bufio.NewReaderSize(r, 1<<16)
	for {
		_, err := io.ReadFull(buffered, unsafe.Slice((*byte)(unsafe.Pointer(&record)), unsafe.Sizeof(record)))
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read an iterator: %w", err)
		}
		fn(&record)
	}
}
