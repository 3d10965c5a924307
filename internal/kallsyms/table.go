package kallsyms

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"sort"
	"strconv"
)

// A Table names the addresses of kernel code.
type Table struct {
	symbols []symbol // by address
	names   []byte
}

type symbol struct {
	addr uint64
	name uint32 // where in names it begins
	size uint16 // of the name
	home uint16 // 0: the kernel, otherwise a module
}

// Load reads a kallsyms listing. It gives ErrHidden if the kernel hides the addresses.
func Load(r io.Reader) (*Table, error) {
	var (
		t      Table
		homes  = map[string]uint16{"": 0}
		hidden = true
	)
	for s := bufio.NewScanner(r); ; {
		if !s.Scan() {
			if err := s.Err(); err != nil {
				return nil, err
			}
			break
		}
		addr, typ, name, home, err := parse(s.Bytes())
		if err != nil {
			return nil, err
		}
		hidden = hidden && addr == 0
		switch typ {
		case 't', 'T', 'w', 'W':
		default:
			continue
		}
		id, known := homes[string(home)]
		if !known {
			id = uint16(len(homes))
			homes[string(home)] = id
		}
		t.symbols = append(t.symbols, symbol{addr, uint32(len(t.names)), uint16(len(name)), id})
		t.names = append(t.names, name...)
	}
	if hidden {
		return nil, ErrHidden
	}
	sort.SliceStable(t.symbols, func(i, j int) bool { return t.symbols[i].addr < t.symbols[j].addr })
	return &t, nil
}

// Name gives the function that an address belongs to, and how far into it the address is.
// The listing has no sizes: a function ends where the next one of the kernel, or of the
// same module, begins. What follows the last one has no name.
func (t *Table) Name(addr uint64) (name string, offset uint64, ok bool) {
	next := sort.Search(len(t.symbols), func(i int) bool { return t.symbols[i].addr > addr })
	if next == 0 || next == len(t.symbols) {
		return "", 0, false
	}
	s := t.symbols[next-1]
	if t.symbols[next].home != s.home {
		return "", 0, false
	}
	first := next - 1
	for first > 0 && t.symbols[first-1].addr == s.addr {
		first--
	}
	s = t.symbols[first]
	return string(t.names[s.name : s.name+uint32(s.size)]), addr - s.addr, true
}

// parse takes a line apart: "ffffffffc0001000 t tcp_v6_rcv	[ipv6]".
func parse(line []byte) (addr uint64, typ byte, name, module []byte, err error) {
	at := bytes.IndexByte(line, ' ')
	if at < 0 || len(line) < at+4 {
		return 0, 0, nil, nil, nil
	}
	if addr, err = strconv.ParseUint(string(line[:at]), 16, 64); err != nil {
		return 0, 0, nil, nil, fmt.Errorf("parse %q: %w", line, err)
	}
	name, module, _ = bytes.Cut(line[at+3:], []byte{'\t'})
	return addr, line[at+1], name, module, nil
}
