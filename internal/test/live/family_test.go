//go:build linux

package live_test

import (
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/tracer"
)

// A dual-stack socket that speaks IPv4 is shown as IPv4.
func TestV4Mapped(t *testing.T) {
	t.Parallel()
	ns, r := record(t)
	v4, v6 := sandbox.Families[0], sandbox.Families[1]
	l := ns.Socket(v6).BindAny()
	l.Listen()
	c := ns.Socket(v4).Connect(sandbox.At(v4, l.Local.Port()))
	s := l.Accept()

	for _, tr := range r.until(s.Cookie, tracer.Established) {
		if tr.Local != sandbox.At(v4, l.Local.Port()) || tr.Remote != c.Local {
			t.Errorf("%v -> %v: %v > %v, want %v > %v", tr.From, tr.To, tr.Local, tr.Remote, sandbox.At(v4, l.Local.Port()), c.Local)
		}
	}
}

// The TCP subflows of a multipath TCP connection are shown. The connection itself is of another
// protocol, and counted as filtered.
func TestMPTCPSubflows(t *testing.T) {
	t.Parallel()
	ns, r := record(t)
	v4 := sandbox.Families[0]
	l := ns.MPTCP(v4).Bind(0).Listen()
	c := ns.MPTCP(v4).Connect(l.Local)
	s := l.Accept()
	c.Close()
	s.Close()

	// A subflow has a cookie of its own, so it is found by its port. Kernel workers close both
	// ends, and the first of them gets the TIME_WAIT.
	deadline := time.Now().Add(30 * time.Second)
	for {
		paths := make(map[uint64]chain)
		for _, tr := range r.snapshot() {
			if tr.Local == c.Local || tr.Remote == c.Local {
				paths[tr.Cookie] = append(paths[tr.Cookie], tr)
			}
		}
		for _, p := range paths {
			if to := p.last().To; to == tracer.TimeWait || late && to == tracer.FinWait2 {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("no subflow of %v reached TIME_WAIT", c.Local)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// The kernel opens the later subflows of a multipath TCP connection, here in the context of ip(8),
// which is nobody's owner. The end that accepts one has its listener's owner.
func TestMPTCPLaterSubflow(t *testing.T) {
	t.Parallel()
	ip, err := exec.LookPath("ip")
	if err == nil {
		err = exec.Command(ip, "-Version").Run() // that of busybox cannot
	}
	if err != nil {
		t.Skip("skipped: there is no ip here to add an endpoint with (iproute2)")
	}
	ns, r := record(t)
	v4 := sandbox.Families[0]
	l := ns.MPTCP(v4).Bind(0).Listen()
	c := ns.MPTCP(v4).Connect(l.Local)
	s := l.Accept()
	c.Write()
	s.Read()
	s.Write()
	c.Read() // now both ends know that the other speaks MPTCP
	added := netip.MustParseAddr("127.0.0.2")
	for _, args := range []string{"mptcp limits set subflows 2 add_addr_accepted 2", "mptcp endpoint add " + added.String() + " dev lo subflow"} {
		cmd := exec.Command(ip, strings.Fields(args)...)
		ns.Start(cmd)
		if err := cmd.Wait(); err != nil {
			t.Fatalf("ip %s: %v", args, err)
		}
	}
	self := uint32(os.Getpid())
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		var opened, accepted bool
		for _, tr := range r.snapshot() {
			if tr.Local.Addr() == added {
				opened = opened || tr.To == tracer.Established
				if tr.Role != tracer.RoleClient || tr.Owner.PID != 0 {
					t.Fatalf("a later subflow has an owner:\n%v", chain{tr})
				}
			}
			if tr.Remote.Addr() == added {
				accepted = accepted || tr.To == tracer.Established
				if tr.Role != tracer.RoleServer || tr.Owner.PID != self {
					t.Fatalf("an accepted subflow has not its listener's owner, %d:\n%v", self, chain{tr})
				}
			}
			if tr.Local == c.Local && tr.Owner.PID != self {
				t.Fatalf("the first subflow is not owned by %d:\n%v", self, chain{tr})
			}
		}
		if opened && accepted {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no second subflow was seen:\n%v", r.dump())
		}
	}
}
