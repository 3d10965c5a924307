// Package kallsyms finds kernel functions in /proc/kallsyms.
package kallsyms

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// ErrHidden means that the kernel shows every address as 0. Reading the addresses needs
// CAP_SYSLOG or kernel.kptr_restrict=0.
var ErrHidden = errors.New("kernel addresses are hidden")

// A Range is the code of one function: the addresses from Start up to, but not including, End.
type Range struct {
	Start, End uint64
}

// Find reads a kallsyms listing and returns the code of the wanted functions, by name. A name
// may have several ranges, because the compiler splits and clones functions under names of its
// own (f.cold, f.isra.0). A function ends where the next symbol begins, because the listing
// has no sizes.
func Find(r io.Reader, want map[string]bool) (map[string][]Range, error) {
	type open struct {
		name string
		idx  int
	}
	var (
		found   = make(map[string][]Range, len(want))
		pending []open
		last    uint64
		hidden  = true
	)

	s := bufio.NewScanner(r)
	for s.Scan() {
		addr, typ, name, _, err := parse(s.Bytes())
		if err != nil {
			return nil, err
		}
		if name == nil {
			continue
		}
		hidden = hidden && addr == 0
		if len(want) == 0 && !hidden {
			return nil, nil // no function is wanted, only whether addresses are hidden
		}
		if addr > last {
			for _, o := range pending {
				found[o.name][o.idx].End = addr
			}
			pending = pending[:0]
		}
		last = addr

		if dot := bytes.IndexByte(name, '.'); dot > 0 {
			name = name[:dot]
		}
		if typ != 't' && typ != 'T' || !want[string(name)] {
			continue
		}
		n := string(name)
		found[n] = append(found[n], Range{Start: addr})
		pending = append(pending, open{n, len(found[n]) - 1})
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	if hidden {
		return nil, ErrHidden
	}
	for _, o := range pending {
		found[o.name][o.idx].End = found[o.name][o.idx].Start + 1
	}
	return found, nil
}
