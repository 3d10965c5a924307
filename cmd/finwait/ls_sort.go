package main

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
	known   func(*socketRow) bool
	compare func(a, b *socketRow) int
}

func sortKeys() []sortKey {
	always := func(*socketRow) bool { return true }
	owned := func(r *socketRow) bool { return r.owner.PID != 0 }
	return []sortKey{
		{"netns", always, func(a, b *socketRow) int { return cmp.Compare(a.netNS, b.netNS) }},
		{"state", always, func(a, b *socketRow) int { return cmp.Compare(a.State, b.State) }},
		{"local", always, func(a, b *socketRow) int { return a.Local.Compare(b.Local) }},
		{"remote", always, func(a, b *socketRow) int { return a.Remote.Compare(b.Remote) }},
		{"pid", owned, func(a, b *socketRow) int { return cmp.Compare(a.owner.PID, b.owner.PID) }},
		{"comm", owned, func(a, b *socketRow) int { return bytes.Compare(a.owner.Comm.Bytes(), b.owner.Comm.Bytes()) }},
		{"uid", func(r *socketRow) bool { return r.UIDKnown },
			func(a, b *socketRow) int { return cmp.Compare(a.UID, b.UID) }},
		{"cgroup", func(r *socketRow) bool { return r.CgroupID != 0 },
			func(a, b *socketRow) int { return cmp.Compare(a.CgroupID, b.CgroupID) }},
		{"timer", func(r *socketRow) bool { return r.Timer != 0 },
			func(a, b *socketRow) int { return cmp.Compare(a.TimerLeft, b.TimerLeft) }},
		{"age", func(r *socketRow) bool { _, known := r.age(); return known },
			func(a, b *socketRow) int { return cmp.Compare(b.TimerLeft, a.TimerLeft) }},
	}
}

func sortFields() []string {
	var names []string
	for _, k := range sortKeys() {
		names = append(names, k.name)
	}
	return names
}

// sortOrder compares by the field that --sort names; nil: by none.
func sortOrder(field string) (func(a, b *socketRow) int, error) {
	if field == "" {
		return nil, nil
	}
	name, backwards := strings.CutPrefix(field, "-")
	for _, k := range sortKeys() {
		if k.name != name {
			continue
		}
		return func(a, b *socketRow) int {
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
	return nil, fmt.Errorf("nothing to sort by is called %q; there are %s", name, strings.Join(sortFields(), ", "))
}
