// Package bpfobj lists the BPF objects that a process holds, and those that the kernel still
// has.
package bpfobj

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// The kinds of an Object, as proc_pid_fdinfo(5) spells them.
const (
	Program = "prog_id"
	Map     = "map_id"
	Link    = "link_id"
)

// An Object is a program, a map or a link, by its id. The kernel reuses an id only after all
// others.
type Object struct {
	Kind string
	ID   uint32
}

func (o Object) String() string { return fmt.Sprintf("%s %d", o.Kind, o.ID) }

// Held lists the objects that a process has descriptors of, and the programs of its links.
// Descriptors that are closed meanwhile are skipped.
func Held(pid int) ([]Object, error) {
	dir := fmt.Sprintf("/proc/%d/fdinfo", pid)
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []Object
	for _, f := range files {
		info, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			continue
		}
		for line := range bytes.Lines(info) {
			key, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(":"))
			switch string(key) {
			case Program, Map, Link:
				id, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 32)
				if err != nil {
					return nil, fmt.Errorf("%s of process %d: %w", key, pid, err)
				}
				all = append(all, Object{string(key), uint32(id)})
			}
		}
	}
	slices.SortFunc(all, func(a, b Object) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID))
	})
	return slices.Compact(all), nil
}

// Exists asks the kernel whether it still has an object. It does not open programs and maps. On
// Linux 6.18, a map of programs for tail calls can be kept for ever if it is opened while its
// last user closes it, and then closed again: prog_array_map_clear() takes a reference each
// time, but schedules the work that drops it once.
func (o Object) Exists() (bool, error) {
	var (
		next uint32
		err  error
	)
	switch o.Kind {
	case Program:
		var id ebpf.ProgramID
		id, err = ebpf.ProgramGetNextID(ebpf.ProgramID(o.ID - 1))
		next = uint32(id)
	case Map:
		var id ebpf.MapID
		id, err = ebpf.MapGetNextID(ebpf.MapID(o.ID - 1))
		next = uint32(id)
	case Link:
		var l link.Link
		if l, err = link.NewFromID(link.ID(o.ID)); err == nil {
			next, err = o.ID, l.Close()
		}
	default:
		return false, fmt.Errorf("no kind of BPF object: %q", o.Kind)
	}
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for BPF object %v: %w", o, err)
	}
	return next == o.ID, nil
}

// Left returns the objects that the kernel still has. The kernel frees them some time after
// their last user has ended.
func Left(all []Object) (left []Object, err error) {
	for _, o := range all {
		there, err := o.Exists()
		if err != nil {
			return nil, err
		}
		if there {
			left = append(left, o)
		}
	}
	return left, nil
}
