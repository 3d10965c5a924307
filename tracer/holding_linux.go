package tracer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
)

// holdingSize is what the iterator writes of each descriptor.
const holdingSize = int(unsafe.Sizeof(bpfHolding{}))

// SocketHolders calls fn for every descriptor of every process that is a TCP socket; what
// fn is given is valid until it returns. An iterator of the kernel finds them in a fraction
// of the time that /proc/PID/fd takes, and asks for no more rights than New: CAP_BPF and
// CAP_PERFMON. It finds the processes of the caller's pid namespace; their pids are those of
// the initial one.
func SocketHolders(fn func(*SocketHolder)) error {
	var to SocketHolder
	return eachHolding(kernelTypesCache(), func(h *bpfHolding) {
		to = SocketHolder{Process: Process{PID: h.Pid, Comm: h.Comm}, Parent: h.Parent, FD: h.Fd, Inode: h.Inode}
		fn(&to)
	})
}

func eachHolding(types *btf.Cache, fn func(*bpfHolding)) (err error) {
	spec, err := loadBpf()
	if err != nil {
		return fmt.Errorf("read the embedded BPF object: %w", err)
	}
	for name := range spec.Programs {
		if name != bpfProgHoldings {
			delete(spec.Programs, name)
		}
	}
	spec.Maps, spec.Variables = nil, nil
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Cache: types})
	if err != nil {
		return explainLoad(err, types)
	}
	defer coll.Close()
	iter, err := link.AttachIter(link.IterOptions{Program: coll.Programs[bpfProgHoldings]})
	if err != nil {
		return fmt.Errorf("attach the iterator of files: %w", err)
	}
	defer iter.Close()
	r, err := iter.Open()
	if err != nil {
		return fmt.Errorf("open the iterator of files: %w", err)
	}
	defer r.Close()
	buffered := bufio.NewReaderSize(r, 1<<16)
	var h bpfHolding
	for {
		err := binary.Read(buffered, binary.NativeEndian, unsafe.Slice((*byte)(unsafe.Pointer(&h)), holdingSize))
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the iterator of files: %w", err)
		}
		fn(&h)
	}
}
