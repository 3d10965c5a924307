package tracer

import (
	"math/bits"
	"net/netip"
	"os"
	"testing"
	"time"
)

// One flag stands for all that is asked of a connection: without it no list is looked at.
func TestConstants(t *testing.T) {
	type want struct{ connections, totals uint8 }
	for name, c := range map[string]struct {
		cfg Config
		want
	}{
		"nothing":         {Config{}, want{0, 1}},
		"no totals":       {Config{NoTotals: true}, want{0, 0}},
		"raw":             {Config{Raw: true}, want{0, 0}},
		"a port":          {Config{Filter: Filter{Ports: []PortRange{Port(1)}}}, want{1, 1}},
		"a local port":    {Config{Filter: Filter{LocalPorts: []PortRange{Port(1)}}}, want{1, 1}},
		"a remote port":   {Config{Filter: Filter{RemotePorts: []PortRange{Port(1)}}}, want{1, 1}},
		"an address":      {Config{Filter: Filter{Addrs: addrs(netip.MustParsePrefix("::/0"))}}, want{1, 1}},
		"a process":       {Config{Filter: Filter{PIDs: []uint32{1}}}, want{1, 1}},
		"a name":          {Config{Filter: Filter{Comms: []string{"a"}}}, want{1, 1}},
		"a namespace":     {Config{Filter: Filter{NetNS: []uint64{1}}}, want{1, 1}},
		"a cgroup":        {Config{Filter: Filter{Cgroups: []Cgroup{{ID: 1}}}}, want{1, 1}},
		"IPv4":            {Config{Filter: Filter{IPv4: true}}, want{1, 1}},
		"IPv6":            {Config{Filter: Filter{IPv6: true}}, want{1, 1}},
		"a transition":    {Config{Filter: Filter{From: []State{Closed}}}, want{0, 1}},
		"a long duration": {Config{Filter: Filter{MinDuration: time.Second}}, want{0, 1}},
	} {
		spec, err := loadBpf()
		if err != nil {
			t.Fatal(err)
		}
		if err := setConstants(spec, &c.cfg, &symbols{}, 250); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var got want
		for variable, to := range map[string]*uint8{bpfVarFiltersConnections: &got.connections, bpfVarTotalsOn: &got.totals} {
			if err := spec.Variables[variable].Get(to); err != nil {
				t.Fatal(err)
			}
		}
		if got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
		if c.cfg.Filter.Picks() != (c.connections == 1 || len(c.cfg.Filter.From) > 0 || c.cfg.Filter.MinDuration > 0) {
			t.Errorf("%s: Picks says %v", name, c.cfg.Filter.Picks())
		}
	}
}

// There is a power of two of rings, 64 at most, and each has a power of two of bytes.
func TestRingSizes(t *testing.T) {
	page := uint32(os.Getpagesize())
	for _, cfg := range []Config{{}, {RingBytes: page}, {RingBytes: 64 << 20}, {TotalsOnly: true}} {
		n, size, err := ringSizes(&cfg)
		if err != nil {
			t.Fatal(err)
		}
		if bits.OnesCount32(n) != 1 || n > 64 || bits.OnesCount32(size) != 1 || size < page {
			t.Errorf("%d bytes: %d rings of %d bytes", cfg.RingBytes, n, size)
		}
		if all := max(cfg.RingBytes, n*page); cfg.RingBytes > 0 && n*size != all {
			t.Errorf("%d rings of %d bytes, want %d bytes together", n, size, all)
		}
	}
	if _, _, err := ringSizes(&Config{RingBytes: 3 * page}); err == nil {
		t.Error("rings of three pages were accepted")
	}
}
