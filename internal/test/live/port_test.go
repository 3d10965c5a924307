//go:build linux

package live_test

import (
	"fmt"
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/tracer"

	"golang.org/x/sys/unix"
)

// aPort is the only local port that the kernel can choose in the namespaces of these tests.
const aPort = 4000

// byPort are filters that ask for a local port.
func byPort(ns *sandbox.NS, port uint16) map[string]tracer.Filter {
	return map[string]tracer.Filter{
		"port":       {NetNS: []uint64{ns.Cookie}, Ports: []tracer.PortRange{tracer.Port(port)}},
		"local port": {NetNS: []uint64{ns.Cookie}, LocalPorts: []tracer.PortRange{tracer.Port(port)}},
	}
}

// await waits until the totals have so many live sockets in a state.
func await(t *testing.T, tr *running, s tracer.State, n int64) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); totals(t, tr.Tracer).Live[s] != n; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("live: %v, want %d in %v", live(totals(t, tr.Tracer)), n, s)
		}
	}
}

// A connect() hangs. With a filter on its local port, which is chosen after SYN_SENT began, it is
// shown and live before it ends.
func TestConnectHangs(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, _ *recorder, f sandbox.Family) {
		ns.Sysctl("ip_local_port_range", fmt.Sprint(aPort, " ", aPort))
		l := ns.Socket(f).Bind(5000).Listen()
		l.DropIncoming(false)
		for name, filter := range byPort(ns, aPort) {
			kept, none := newRecorder(t), newRecorder(t)
			tr := start(t, tracer.Config{Filter: filter}, kept)
			other := start(t, tracer.Config{Filter: byPort(ns, aPort+1)[name]}, none)
			c := ns.Socket(f)
			began := now()
			hangs := make(chan error, 1)
			go func() { hangs <- c.TryConnect(l.Local) }()
			first := kept.until(c.Cookie, tracer.SynSent) // no reading of totals has asked for it
			asked := now()
			if len(first) != 1 || first[0].Ktime < began || first[0].Ktime > asked {
				t.Errorf("%s: went\n%v", name, first)
			}
			await(t, tr, tracer.SynSent, 1)
			c.Local = sandbox.At(f, aPort)
			destroy(t, ns, f, c, l.Local)
			if err := <-hangs; err == nil {
				t.Fatal("connect() did not hang")
			}
			whole := kept.chain(c.Cookie)
			whole.want(t, "CLOSED SYN_SENT CLOSED", whole.last().Reason)
			whole.check(t)
			await(t, tr, tracer.SynSent, 0)
			for _, r := range []*running{tr, other} {
				r.stop(t)
				r.stats(t)
			}
			if x := none.snapshot(); len(x) > 0 {
				t.Errorf("%s: shown for another port:\n%v", name, chain(x))
			}
			c.Close()
		}
	})
}

// listen() without bind() gets its port after LISTEN began. Filters and groups of that port have
// the listener, and no others.
func TestListenWithoutBind(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, _ *recorder, f sandbox.Family) {
		ns.Sysctl("ip_local_port_range", fmt.Sprint(aPort, " ", aPort))
		mine := tracer.Filter{NetNS: []uint64{ns.Cookie}}
		grouped := start(t, tracer.Config{Filter: mine, SplitBy: tracer.SplitPort}, newRecorder(t))
		for name, filter := range byPort(ns, aPort) {
			kept, none := newRecorder(t), newRecorder(t)
			tr := start(t, tracer.Config{Filter: filter}, kept)
			other := start(t, tracer.Config{Filter: byPort(ns, aPort+1)[name]}, none)
			l := ns.Socket(f).Listen()
			if c := kept.until(l.Cookie, tracer.Listen); c.last().Local.Port() != aPort {
				t.Errorf("%s: shown with another port:\n%v", name, c)
			}
			await(t, tr, tracer.Listen, 1)
			await(t, grouped, tracer.Listen, 1)
			portGroups(t, grouped, 1)
			// No port is left: the second one fails after it was in LISTEN, without a port.
			second := ns.Socket(f)
			isErrno(t, second.TryListen(), unix.EADDRINUSE)
			l.Close()
			kept.chain(l.Cookie).want(t, "CLOSED LISTEN CLOSED", tracer.ReasonClosed)
			await(t, grouped, tracer.Listen, 0)
			portGroups(t, grouped, 0)
			for _, r := range []*running{tr, other} {
				r.stop(t)
				r.stats(t)
			}
			for _, x := range append(none.snapshot(), kept.snapshot()...) {
				if x.Cookie != l.Cookie {
					t.Errorf("%s: shown, too: %v", name, x)
				}
			}
			second.Close()
		}
		grouped.stop(t)
	})
}

// portGroups checks that only the group of aPort has live listeners, and how many.
func portGroups(t *testing.T, tr *running, want int64) {
	t.Helper()
	groups, err := tr.Groups()
	if err != nil {
		t.Fatal(err)
	}
	for name, g := range groups {
		s := g.States[tracer.Listen]
		if s == nil {
			continue
		}
		if name == fmt.Sprint(aPort) && s.Live != want || name != fmt.Sprint(aPort) && s.Live != 0 {
			t.Errorf("group %q: %d live listeners, want %d of port %d", name, s.Live, want, aPort)
		}
		if s.Left > s.Entered {
			t.Errorf("group %q: entered LISTEN %d times, left it %d times", name, s.Entered, s.Left)
		}
	}
}
