package tracer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
)

// timeWaitOverflow is the number of the kernel's counter TCPTimeWaitOverflow.
const timeWaitOverflow = "LINUX_MIB_TCPTIMEWAITOVERFLOW"

// overflowCounter finds the number of timeWaitOverflow in the running kernel. It does not change.
var overflowCounter = sync.OnceValues(func() (uint32, error) {
	types, err := os.ReadFile("/sys/kernel/btf/vmlinux")
	if errors.Is(err, os.ErrNotExist) {
		return 0, ErrNoBTF
	}
	if err != nil {
		return 0, fmt.Errorf("read kernel BTF: %w", err)
	}
	return enumerator(types, timeWaitOverflow)
})

// enumerator finds the value of an enumerator in BTF (Documentation/bpf/btf.rst). CO-RE
// cannot: the enum has no name. The whole BTF of a kernel takes 2 ms.
func enumerator(types []byte, name string) (uint32, error) {
	malformed := errors.New("the kernel's BTF is malformed")
	le := binary.LittleEndian
	if len(types) < 24 || le.Uint16(types) != 0xeb9f {
		return 0, malformed
	}
	section := func(off uint32) []byte {
		from := uint64(le.Uint32(types[4:])) + uint64(le.Uint32(types[off:]))
		to := from + uint64(le.Uint32(types[off+4:]))
		if from > to || to > uint64(len(types)) {
			return nil
		}
		return types[from:to]
	}
	rest, names := section(8), section(16)
	at := bytes.Index(names, []byte("\x00"+name+"\x00"))
	if at < 0 {
		return 0, fmt.Errorf("the kernel's BTF has no %s", name)
	}
	for len(rest) >= 12 {
		info := le.Uint32(rest[4:])
		n, size := int(info&0xffff), 12
		switch info >> 24 & 31 {
		case 1, 14, 17: // int, var, declaration tag
			size += 4
		case 3: // array
			size += 12
		case 4, 5, 15, 19: // struct, union, data section, enum of 64 bits
			size += 12 * n
		case 6: // enum
			for i := 12; i+8 <= len(rest) && i < 12+8*n; i += 8 {
				if le.Uint32(rest[i:]) == uint32(at)+1 {
					return le.Uint32(rest[i+4:]), nil
				}
			}
			size += 8 * n
		case 13: // prototype of a function
			size += 8 * n
		}
		if size > len(rest) {
			return 0, malformed
		}
		rest = rest[size:]
	}
	return 0, fmt.Errorf("the kernel's BTF has no enumerator %s", name)
}
