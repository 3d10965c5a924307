//go:build linux

package live_test

import (
	"testing"

	"finwait/internal/sandbox"
	"finwait/tracer"

	"golang.org/x/sys/unix"
)

// The options are those that were set, of listeners only, and of those of the namespaces that are asked.
func TestListeners(t *testing.T) {
	t.Parallel()
	ns, other := sandbox.New(t), sandbox.New(t)
	inhabit(t, ns)
	want := make(map[uint64]tracer.Listener)
	for _, f := range sandbox.Families {
		for _, set := range []struct{ addr, port int }{{0, 0}, {1, 0}, {0, 1}, {1, 1}} {
			s := ns.Socket(f).Set(unix.SOL_SOCKET, unix.SO_REUSEADDR, set.addr).Set(unix.SOL_SOCKET, unix.SO_REUSEPORT, set.port)
			if err := s.TryBind(0); err != nil {
				t.Fatal(err)
			}
			s.Listen()
			want[s.Cookie] = tracer.Listener{Cookie: s.Cookie, ReuseAddr: set.addr != 0, ReusePort: set.port != 0}
		}
	}
	p, elsewhere := ns.Pair(sandbox.Families[0]), other.Pair(sandbox.Families[0])
	want[p.Listener.Cookie] = tracer.Listener{Cookie: p.Listener.Cookie, ReuseAddr: true}
	got := make(map[uint64]tracer.Listener)
	if err := tracer.Listeners([]string{"/proc/0/ns/net", ns.Path()}, func(l *tracer.Listener) { got[l.Cookie] = *l }); err != nil {
		t.Fatal(err)
	}
	for cookie, w := range want {
		if got[cookie] != w {
			t.Errorf("%+v, want %+v", got[cookie], w)
		}
	}
	for _, s := range []*sandbox.Sock{p.Client, p.Server, elsewhere.Listener} {
		if l, ok := got[s.Cookie]; ok {
			t.Errorf("%+v is no listener of the namespace", l)
		}
	}
}
