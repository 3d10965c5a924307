package tracer

import (
	"bytes"
	"errors"
	"fmt"
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
	// Every list full, every filter on: the verifier has the most to look at.
	all := Filter{IPv4: true, MinDuration: 1, States: States(), From: States(), To: States(), Role: RoleServer, Reasons: Reasons()[1:]}
	for i := range FilterMax {
		all.Ports = append(all.Ports, Port(uint16(i+1)))
		all.LocalPorts = append(all.LocalPorts, Port(uint16(i+1)))
		all.RemotePorts = append(all.RemotePorts, Port(uint16(i+1)))
		all.Addrs = append(all.Addrs, AddrFilter{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i)}), 16), ScopeID: 1, NetNSCookie: 1})
		all.PIDs = append(all.PIDs, uint32(i+1))
		all.Comms = append(all.Comms, fmt.Sprint("name-", i))
		all.NetNS = append(all.NetNS, uint64(i+1))
		all.Cookies = append(all.Cookies, uint64(i+1))
		all.NotPorts = append(all.NotPorts, Port(uint16(i+100)))
		all.NotAddrs = append(all.NotAddrs, AddrFilter{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i)}), 16), ScopeID: 1, NetNSCookie: 1, Port: 1})
		all.NotPIDs = append(all.NotPIDs, uint32(i+100))
		all.NotComms = append(all.NotComms, fmt.Sprint("other-", i))
		all.Cgroups = append(all.Cgroups, Cgroup{ID: uint64(i + 1), Level: uint32(i)})
	}
	for _, c := range []struct {
		hooks HookSet
		name  string
		cfg   Config
		long  bool // it is like another one
	}{
		{HooksFentry, "stream", Config{}, false},
		{HooksTracepoint, "stream", Config{}, false},
		{HooksTracepoint, "no totals", Config{NoTotals: true}, true},
		{HooksTracepoint, "totals", Config{TotalsOnly: true, Audit: true, SplitBy: SplitRemote}, false},
		{HooksFentry, "filter", Config{Filter: all}, false},
		{HooksFentry, "raw", Config{Filter: all, Raw: true}, true},
		{HooksTracepoint, "filter", Config{Filter: all, SplitBy: SplitComm}, true},
		{HooksTracepoint, "raw", Config{Filter: all, Raw: true}, true},
	} {
		if testing.Short() && c.long {
			continue
		}
		coll, err := load(&c.cfg, c.hooks, types, nil)
		if refused := new(HooksError); c.hooks == HooksFentry && errors.As(err, &refused) && errors.Is(err, unix.EPERM) {
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
	const most = 100_000 // a tenth of what the verifier takes
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
