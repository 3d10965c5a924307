package tracer

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// What the kernel's verifier makes of every program, with all options that make
// it longer. Its limit is a million instructions; a program that nears it fails
// on the next kernel.
func TestVerifierCost(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("loading BPF programs needs root")
	}
	if err := prepare(); err != nil {
		t.Fatal(err)
	}
	types := btf.NewCache()
	all := Filter{
		Ports: []uint16{1}, LocalPorts: []uint16{1}, RemotePorts: []uint16{1}, PIDs: []uint32{1}, Comms: []string{"a"},
		NetNS: []uint32{1}, Cgroups: []Cgroup{{1, 1}}, Addrs: []netip.Prefix{netip.MustParsePrefix("::/0")}, IPv6: true,
		To: []State{TimeWait}, MinDuration: 1,
	}
	for _, c := range []struct {
		hooks Hooks
		name  string
		cfg   Config
	}{
		{Fentry, "stream", Config{}},
		{Tracepoint, "stream", Config{}},
		{Tracepoint, "totals", Config{TotalsOnly: true, Audit: true, SplitBy: ByRemote}},
		{Tracepoint, "filter", Config{Filter: all, SplitBy: ByComm}},
		{Tracepoint, "raw", Config{Raw: true}},
	} {
		coll, err := load(&c.cfg, c.hooks, types)
		if refused := new(HooksError); c.hooks == Fentry && errors.As(err, &refused) && errors.Is(err, unix.EPERM) {
			t.Logf("not verified: %v", err) // some machines forbid it, whatever the kernel can do
			continue
		}
		if err != nil {
			t.Fatalf("%v, %s: %v", c.hooks, c.name, err)
		}
		verifierCost(t, coll, c.name)
		noPrivateStack(t, coll.Programs[bpfProgSetState])
		coll.Close()
	}
}

// set_state may run inside a run of its own, so it must not be given one stack
// per CPU (Linux 6.13). On x86 such a program adds the CPU's base to r9.
func noPrivateStack(t *testing.T, prog *ebpf.Program) {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		return
	}
	info, err := prog.Info()
	if err != nil {
		t.Fatal(err)
	}
	code, ok := info.JitedInsns()
	if !ok || len(code) == 0 {
		t.Log("the kernel does not show the compiled programs")
		return
	}
	addPerCPU := []byte{0x65, 0x4c, 0x03, 0x0c, 0x25} // add r9, gs:[...]
	if bytes.Contains(code, addPerCPU) {
		t.Error("set_state has a stack of its own per CPU, which a run inside a run overwrites")
	}
}

func verifierCost(t *testing.T, coll *ebpf.Collection, name string) {
	t.Helper()
	const most = 250_000
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
