package tracer

import (
	"net/netip"
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
	all := Filter{
		Ports: []uint16{1}, LocalPorts: []uint16{1}, RemotePorts: []uint16{1}, PIDs: []uint32{1}, Comms: []string{"a"},
		NetNS: []uint32{1}, Cgroups: []Cgroup{{1, 1}}, Addrs: []netip.Prefix{netip.MustParsePrefix("::/0")}, IPv6: true,
		To: []State{TimeWait}, MinDuration: 1,
	}
	for name, cfg := range map[string]*Config{
		"stream": {},
		"totals": {TotalsOnly: true, Audit: true, SplitBy: ByRemote},
		"filter": {Filter: all, SplitBy: ByComm},
		"raw":    {Raw: true},
	} {
		coll, err := load(cfg, kernel)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer coll.Close()
		for program, prog := range coll.Programs {
			info, err := prog.Info()
			if err != nil {
				t.Fatal(err)
			}
			n, ok := info.VerifiedInstructions()
			if !ok {
				t.Logf("%s: %s: this kernel does not say how many instructions were verified (5.16 does)", name, program)
				continue
			}
			if name == "stream" { // what docs/kernels.md shows
				t.Logf("verified %s: %d instructions", program, n)
			}
			if n == 0 || n > most {
				t.Errorf("%s: %s: %d instructions, want 1 to %d", name, program, n, most)
			}
		}
	}
}
