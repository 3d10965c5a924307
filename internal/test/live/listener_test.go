//go:build linux

package live_test

import (
	"testing"

	"finwait/internal/sandbox"
	"finwait/tracer"

	"golang.org/x/sys/unix"
)

// The options of a listener are those that were set.
func TestListeners(t *testing.T) {
	t.Parallel()
	type options struct{ listens, addr, port bool }
	ns := sandbox.New(t)
	want := make(map[uint64]options)
	expect := func(s *sandbox.Sock, o options) {
		f := s.File()
		t.Cleanup(func() { f.Close() })
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			t.Fatal(err)
		}
		want[st.Ino] = o
	}
	for _, f := range sandbox.Families {
		for _, set := range []struct{ addr, port int }{{0, 0}, {1, 0}, {0, 1}, {1, 1}} {
			s := ns.Socket(f).Set(unix.SOL_SOCKET, unix.SO_REUSEADDR, set.addr).Set(unix.SOL_SOCKET, unix.SO_REUSEPORT, set.port)
			if err := s.TryBind(0); err != nil {
				t.Fatal(err)
			}
			s.Listen()
			expect(s, options{true, set.addr != 0, set.port != 0})
		}
	}
	p := ns.Pair(sandbox.Families[0])
	expect(p.Listener, options{true, true, false})
	expect(p.Server, options{false, true, false}) // it inherits them
	expect(p.Client, options{})
	got := make(map[uint64]options)
	if err := tracer.SocketHolders(func(h *tracer.SocketHolder) { got[h.Inode] = options{h.Listens, h.ReuseAddr, h.ReusePort} }); err != nil {
		t.Fatal(err)
	}
	for inode, w := range want {
		if o, found := got[inode]; !found || o != w {
			t.Errorf("socket %d: %+v, %v, want %+v", inode, o, found, w)
		}
	}
}
