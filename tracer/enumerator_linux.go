package tracer

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// timeWaitOverflow is the number of the kernel's counter TCPTimeWaitOverflow.
const timeWaitOverflow = "LINUX_MIB_TCPTIMEWAITOVERFLOW"

// overflowCounter finds the number of timeWaitOverflow in the running kernel. It does not change.
var overflowCounter = sync.OnceValues(func() (uint32, error) {
	types, err := os.Open("/sys/kernel/btf/vmlinux")
	if errors.Is(err, os.ErrNotExist) {
		return 0, ErrNoBTF
	}
	if err != nil {
		return 0, fmt.Errorf("read kernel BTF: %w", err)
	}
	defer types.Close()
	return enumerator(types, timeWaitOverflow)
})

var errMalformedBTF = errors.New("the kernel's BTF is malformed")

// enumerator finds the value of an enumerator in BTF (Documentation/bpf/btf.rst). CO-RE
// cannot: the enum has no name. The BTF of a kernel has 6 MB; it is read in pieces, so that
// they do not stay in memory.
func enumerator(types io.ReaderAt, name string) (uint32, error) {
	var header struct {
		Magic                          uint16
		Version, Flags                 uint8
		Length                         uint32
		TypesAt, Types, NamesAt, Names uint32
	}
	if err := binary.Read(io.NewSectionReader(types, 0, 24), binary.LittleEndian, &header); err != nil || header.Magic != 0xeb9f {
		return 0, errMalformedBTF
	}
	section := func(at, size uint32) *bufio.Reader {
		return bufio.NewReaderSize(io.NewSectionReader(types, int64(header.Length)+int64(at), int64(size)), 1<<16)
	}
	at, err := nameAt(section(header.NamesAt, header.Names), name)
	if err != nil {
		return 0, err
	}
	return enumValue(section(header.TypesAt, header.Types), at, name)
}

// nameAt is the offset of a name.
func nameAt(names *bufio.Reader, name string) (uint32, error) {
	want := append([]byte(name), 0)
	for at := uint32(0); ; {
		have, err := names.ReadSlice(0)
		switch {
		case errors.Is(err, io.EOF) && len(have) == 0:
			return 0, fmt.Errorf("the kernel's BTF has no %s", name)
		case err != nil:
			return 0, errMalformedBTF
		case bytes.Equal(have, want):
			return at, nil
		}
		at += uint32(len(have))
	}
}

// enumValue is the value of the enumerator whose name is at this offset.
func enumValue(types *bufio.Reader, name uint32, word string) (uint32, error) {
	le := binary.LittleEndian
	var head [12]byte
	for {
		if _, err := io.ReadFull(types, head[:]); errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("the kernel's BTF has no enumerator %s", word)
		} else if err != nil {
			return 0, errMalformedBTF
		}
		info, size := le.Uint32(head[4:]), 0
		n := int(info & 0xffff)
		switch info >> 24 & 31 {
		case 1, 14, 17: // int, var, declaration tag
			size = 4
		case 3: // array
			size = 12
		case 4, 5, 15, 19: // struct, union, data section, enum of 64 bits
			size = 12 * n
		case 13: // prototype of a function
			size = 8 * n
		case 6: // enum
			for range n {
				var one [8]byte
				if _, err := io.ReadFull(types, one[:]); err != nil {
					return 0, errMalformedBTF
				}
				if le.Uint32(one[:]) == name {
					return le.Uint32(one[4:]), nil
				}
			}
		}
		if _, err := types.Discard(size); err != nil {
			return 0, errMalformedBTF
		}
	}
}
