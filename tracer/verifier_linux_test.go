package tracer

import (
	"os"
	"testing"
)

// What the kernel's verifier makes of every program. Its limit is a million
// instructions; a program that nears it fails on the next kernel.
func TestVerifierCost(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("loading BPF programs needs root")
	}
	const most = 250_000
	if err := prepare(); err != nil {
		t.Fatal(err)
	}
	kernel, err := kernelTypes()
	if err != nil {
		t.Fatal(err)
	}
	coll, err := load(&Config{}, kernel)
	if err != nil {
		t.Fatal(err)
	}
	defer coll.Close()
	for name, prog := range coll.Programs {
		info, err := prog.Info()
		if err != nil {
			t.Fatal(err)
		}
		n, ok := info.VerifiedInstructions()
		if !ok {
			t.Logf("verified %s: this kernel does not say (5.16 does)", name)
			continue
		}
		t.Logf("verified %s: %d instructions", name, n)
		if n == 0 || n > most {
			t.Errorf("%s: %d instructions, want 1 to %d", name, n, most)
		}
	}
}
