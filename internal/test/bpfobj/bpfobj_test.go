//go:build linux

package bpfobj

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

// A map is held while it is open, and freed some time after it was closed.
func TestHeld(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test makes a BPF map: run it as root")
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	info, err := m.Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := info.ID()
	mine := Object{Map, uint32(id)}
	held, err := Held(os.Getpid())
	if err != nil || !slices.Contains(held, mine) {
		t.Fatalf("held are %v, %v; want %v", held, err, mine)
	}
	if left, err := Left([]Object{mine}); err != nil || len(left) != 1 {
		t.Errorf("of an open map is left: %v, %v", left, err)
	}
	m.Close()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		left, err := Left([]Object{mine})
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("30s after it was closed, the map is still there")
		}
	}
	if held, err := Held(os.Getpid()); err != nil || slices.Contains(held, mine) {
		t.Errorf("held are %v, %v, after the map was closed", held, err)
	}
}
