package sockets

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"
)

// A sortKey orders sockets by one field. Those of which the field is not known
// come last, whichever way the others are sorted.
type sortKey struct {
	name    string
	known   func(*Row) bool
	compare func(a, b *Row) int
}

func sortKeys() []sortKey {
	always := func(*Row) bool { return true }
	owned := func(r *Row) bool { return r.Owner.PID != 0 }
	return []sortKey{
		{"netns", always, func(a, b *Row) int { return cmp.Compare(a.NetNS, b.NetNS) }},
		{"state", always, func(a, b *Row) int { return cmp.Compare(a.State, b.State) }},
		{"local", always, func(a, b *Row) int { return a.Local.Compare(b.Local) }},
		{"remote", always, func(a, b *Row) int { return a.Remote.Compare(b.Remote) }},
		{"pid", owned, func(a, b *Row) int { return cmp.Compare(a.Owner.PID, b.Owner.PID) }},
		{"comm", owned, func(a, b *Row) int { return bytes.Compare(a.Owner.Comm.Bytes(), b.Owner.Comm.Bytes()) }},
		{"uid", func(r *Row) bool { return r.UIDKnown },
			func(a, b *Row) int { return cmp.Compare(a.UID, b.UID) }},
		{"cgroup", func(r *Row) bool { return r.CgroupID != 0 },
			func(a, b *Row) int { return cmp.Compare(a.CgroupID, b.CgroupID) }},
		{"timer", func(r *Row) bool { return r.Timer != 0 },
			func(a, b *Row) int { return cmp.Compare(a.TimerLeft, b.TimerLeft) }},
		{"age", func(r *Row) bool { _, known := r.Age(); return known },
			func(a, b *Row) int { return cmp.Compare(b.TimerLeft, a.TimerLeft) }},
	}
}

// SortFields are what Order knows.
func SortFields() []string {
	var names []string
	for _, k := range sortKeys() {
		names = append(names, k.name)
	}
	return names
}

// Order compares by a field, backwards if it begins with "-"; "" gives nil.
func Order(field string) (func(a, b *Row) int, error) {
	if field == "" {
		return nil, nil
	}
	name, backwards := strings.CutPrefix(field, "-")
	for _, k := range sortKeys() {
		if k.name != name {
			continue
		}
		return func(a, b *Row) int {
			switch ka, kb := k.known(a), k.known(b); {
			case !ka && !kb:
				return 0
			case !ka:
				return 1
			case !kb:
				return -1
			case backwards:
				return k.compare(b, a)
			}
			return k.compare(a, b)
		}, nil
	}
	return nil, fmt.Errorf("nothing to sort by is called %q; there are %s", name, strings.Join(SortFields(), ", "))
}
