package tracer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"testing"
)

// A small BTF: an int, a struct of one member, and an enum of two.
func smallBTF() []byte {
	names := []byte("\x00int\x00ONE\x00ONES\x00TWO\x00")
	types := []uint32{
		1, 1 << 24, 4, 32, // int
		0, 4<<24 | 1, 4, 1, 1, 0, // struct
		0, 6<<24 | 2, 4, 5, 11, 14, 22, // enum: ONE is 11, TWO is 22
	}
	var b bytes.Buffer
	for _, part := range []any{uint16(0xeb9f), uint16(1), []uint32{24, 0, uint32(4 * len(types)), uint32(4 * len(types)), uint32(len(names))}, types, names} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}

func TestEnumerator(t *testing.T) {
	whole := smallBTF()
	for name, want := range map[string]uint32{"ONE": 11, "TWO": 22} {
		if got, err := enumerator(bytes.NewReader(whole), name); got != want || err != nil {
			t.Errorf("%s: %d, %v; want %d", name, got, err, want)
		}
	}
	for _, name := range []string{"int", "ONES", "ON", "THREE", ""} {
		if got, err := enumerator(bytes.NewReader(whole), name); err == nil {
			t.Errorf("%q is no enumerator: %d", name, got)
		}
	}
	for n := range whole {
		if got, err := enumerator(bytes.NewReader(whole[:n]), "TWO"); err == nil {
			t.Errorf("the first %d bytes: %d", n, got)
		}
	}
	if _, err := enumerator(bytes.NewReader([]byte("not BTF, but long enough for a header")), "TWO"); !errors.Is(err, errMalformedBTF) {
		t.Error(err)
	}
}

// The running kernel has the counter, and /proc/net/netstat counts it.
func TestOverflowCounter(t *testing.T) {
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		t.Skip("skipped: this kernel has no BTF")
	}
	if n, err := overflowCounter(); n == 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}
