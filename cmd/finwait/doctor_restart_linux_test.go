package main

import (
	"testing"

	"finwait/internal/sandbox"

	"golang.org/x/sys/unix"
)

// What the doctor says of a restart is what bind() does.
func TestDoctorRestart(t *testing.T) {
	t.Parallel()
	const port = 5000
	serve := func(ns *sandbox.NS, options ...int) *sandbox.Sock {
		l := ns.Socket(ipv4)
		for _, o := range options {
			l.Set(unix.SOL_SOCKET, o, 1)
		}
		if err := l.TryBind(port); err != nil {
			t.Fatal(err)
		}
		l.Local = sandbox.At(ipv4, port)
		return l.Listen()
	}
	// closedFirst leaves a TIME_WAIT of the server.
	closedFirst := func(ns *sandbox.NS, l *sandbox.Sock, f sandbox.Family) {
		c := ns.Socket(f).Connect(l.Local)
		l.Accept().Orphan()
		c.Close()
	}
	for name, c := range map[string]struct {
		set      func(ns *sandbox.NS) (listener *sandbox.Sock)
		evidence map[string]any // nil: no finding
		again    []int          // options of the next listener
		bind     error
	}{
		"TIME_WAIT": {func(ns *sandbox.NS) *sandbox.Sock {
			l := serve(ns)
			closedFirst(ns, l, ipv4)
			return l
		}, map[string]any{"sockets": 1.0, "open": 0.0, "minisocks": 1.0}, []int{unix.SO_REUSEADDR}, unix.EADDRINUSE},
		"both": {func(ns *sandbox.NS) *sandbox.Sock {
			l := serve(ns)
			closedFirst(ns, l, ipv4)
			ns.Socket(ipv4).Connect(l.Local)
			l.Accept()
			return l
		}, map[string]any{"sockets": 2.0, "open": 1.0, "minisocks": 1.0}, []int{unix.SO_REUSEADDR}, unix.EADDRINUSE},
		"SO_REUSEADDR": {func(ns *sandbox.NS) *sandbox.Sock {
			l := serve(ns, unix.SO_REUSEADDR)
			closedFirst(ns, l, ipv4)
			return l
		}, nil, []int{unix.SO_REUSEADDR}, nil},
		"SO_REUSEPORT": {func(ns *sandbox.NS) *sandbox.Sock {
			l := serve(ns, unix.SO_REUSEPORT)
			closedFirst(ns, l, ipv4)
			return l
		}, nil, []int{unix.SO_REUSEPORT}, nil},
		"a connection that was not accepted": {func(ns *sandbox.NS) *sandbox.Sock {
			l := serve(ns)
			ns.Socket(ipv4).Connect(l.Local)
			return l
		}, nil, nil, nil},
		"connections of another address": {func(ns *sandbox.NS) *sandbox.Sock {
			l := serve(ns)
			closedFirst(ns, ns.Socket(sandbox.Families[1]).Bind(port).Listen(), sandbox.Families[1])
			return l
		}, nil, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := sandbox.New(t)
			l := c.set(ns)
			ids, findings := doctorsView(t, ns, "--snapshot")
			var want []wantFinding
			if c.evidence != nil {
				want = append(want, wantFinding{"restart-needs-reuseaddr risk", c.evidence})
			}
			checkFindings(t, ids, findings, want...)
			l.Close()
			next := ns.Socket(ipv4)
			for _, o := range c.again {
				next.Set(unix.SOL_SOCKET, o, 1)
			}
			if err := next.TryBind(port); err != c.bind {
				t.Errorf("bind again: %v, want %v", err, c.bind)
			}
		})
	}
}
