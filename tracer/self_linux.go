package tracer

import (
	"fmt"
	"reflect"
	"slices"
)

// Programs says of each program that follows sockets whether it is attached, and what it has
// cost. It needs no capability.
func (t *Tracer) Programs() (all []ProgramStats, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.final != nil {
		return nil, errClosed
	}
	for _, p := range slices.Concat(setState, t.hooks.set().programs, detailPrograms) {
		st := ProgramStats{Name: p.name}
		if prog := t.coll.Programs[p.name]; prog != nil {
			ran, err := prog.Stats()
			if err != nil {
				return nil, fmt.Errorf("read what %s has cost: %w", p.name, err)
			}
			st.Attached = t.links != nil // start() attaches all that are loaded
			st.Skipped, st.Runs, st.RunTime = ran.RecursionMisses, ran.RunCount, ran.Runtime
		}
		all = append(all, st)
	}
	return all, nil
}

// fillBatch is how many keys of a map are read with one system call.
const fillBatch = 4096

// MapFill says how full the hashes are that have a bound. It reads all their keys, which takes
// some 0.2 s for a million.
func (t *Tracer) MapFill() (all []MapFill, err error) {
	names := []struct {
		name, word string
		used       bool
	}{
		{bpfMapSockets, "sockets", true},
		{bpfMapMinisocks, "minisocks", true},
		{bpfMapGroups, "groups", t.cfg.SplitBy != SplitNone},
		{bpfMapNamespaces, "namespaces", t.cfg.Audit},
	}
	for _, m := range names {
		if !m.used {
			continue
		}
		fill := MapFill{Name: m.word}
		if fill.Entries, fill.Capacity, err = t.fill(m.name); err != nil {
			return nil, fmt.Errorf("count the entries of %s: %w", m.name, err)
		}
		all = append(all, fill)
	}
	return all, nil
}

// fill counts the entries of a map.
func (t *Tracer) fill(name string) (entries, capacity uint64, err error) {
	m := t.coll.Maps[name]
	keys, values := blocks(m.KeySize()), blocks(m.ValueSize())
	err = t.batches(name, keys, values, func(n int) { entries += uint64(n) })
	return entries, uint64(m.MaxEntries()), err
}

// blocks has room for fillBatch keys or values of a size that is known only now.
func blocks(size uint32) any {
	of := reflect.SliceOf(reflect.ArrayOf(int(size), reflect.TypeFor[byte]()))
	return reflect.MakeSlice(of, fillBatch, fillBatch).Interface()
}
