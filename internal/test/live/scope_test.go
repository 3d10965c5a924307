//go:build linux

package live_test

import (
	"net/netip"
	"testing"

	"finwait/internal/sandbox"
	"finwait/tracer"
)

// The address fe80::1 says nothing without its interface. Every transition names it, those of the
// minisock too, and a filter can ask for it.
func TestLinkLocal(t *testing.T) {
	t.Parallel()
	ns, r := record(t)
	f := ns.LinkLocal()
	lo := tracer.Scope{ID: 1, Interface: "lo"}

	address := netip.MustParsePrefix("fe80::1/128")
	asked, other := newRecorder(t), newRecorder(t)
	for kept, filter := range map[*recorder]tracer.AddrFilter{
		asked: {Prefix: address, ScopeID: 1, NetNSCookie: ns.Cookie},
		other: {Prefix: address, ScopeID: 2},
	} {
		start(t, tracer.Config{Filter: tracer.Filter{NetNS: []uint64{ns.Cookie}, Addrs: []tracer.AddrFilter{filter}}}, kept)
	}

	p := ns.Pair(f)
	p.Client.ShutdownWrite()
	p.Server.Close()
	p.Client.Close()
	r.timeWait(ns, p.Client)
	ns.Remove()
	for _, s := range []*sandbox.Sock{p.Client, p.Server, p.Listener} {
		c := r.chain(s.Cookie)
		for _, x := range c {
			if x.Scope != lo {
				t.Errorf("interface %+v, want %+v", x.Scope, lo)
			}
			if x.Local.Addr() != address.Addr() {
				t.Errorf("local address %v, want %v", x.Local, address.Addr())
			}
		}
		if n := len(asked.chain(s.Cookie)); n != len(c) {
			t.Errorf("%d transitions with a filter on the interface, want %d", n, len(c))
		}
		if t.Failed() {
			t.Fatalf("\n%v", c)
		}
	}
	if n := len(other.snapshot()); n != 0 {
		t.Errorf("%d transitions of another interface", n)
	}
}
