//go:build linux

package live_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/internal/test/testnet"
	"finwait/tracer"
)

// The handler is the process that reads from a connection or writes to it, whoever listened,
// accepted or connected. It is named from then on, also of the minisock. This process only writes, to the other end.
func TestHandler(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		job  string
		role tracer.Role // of the end that the worker uses
	}{
		// A service manager listens, as systemd with Accept=no, or a server did before it forked.
		"accepts": {accepts, tracer.RoleServer},
		// Another process accepts, as inetd, systemd with Accept=yes, sshd and postgres do.
		"reads":                {reads, tracer.RoleServer},
		"writes":               {writes, tracer.RoleServer},
		"reads what we asked":  {reads, tracer.RoleClient},
		"writes to our server": {writes, tracer.RoleClient},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			send, err := feature("tracepoint sock_send_length")
			if err != nil {
				t.Fatal(err)
			}
			if c.job == writes && send.State == tracer.FeatureMissing {
				t.Skip("before 6.3 no tracepoint shows who only writes")
			}
			testnet.Attempts(t, func(t *testing.T) string { return handleOnce(t, c.job, c.role) })
		})
	}
}

// handleOnce returns what was missing, or "".
func handleOnce(t *testing.T, job string, by tracer.Role) string {
	ns := sandbox.New(t)
	kept := newRecorder(t)
	tr := start(t, tracer.Config{Handlers: true, Filter: tracer.Filter{NetNS: []uint64{ns.Cookie}}}, kept)
	listener := ns.Socket(sandbox.Families[0]).Bind(0).Listen()
	client := ns.Socket(sandbox.Families[0]).Connect(listener.Local)
	used, other := listener, client
	if job != accepts {
		used = listener.Accept()
	}
	if by == tracer.RoleClient {
		used, other = client, used
	}

	cmd := worker(job)
	f := used.File()
	cmd.ExtraFiles = []*os.File{f}
	ns.Start(cmd)
	f.Close()
	other.Write() // before 6.3 it takes data to see who reads
	other.ShutdownWrite()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	used.Close()
	other.Close()
	ns.Remove()

	ended := make(map[tracer.Role]chain)
	for deadline := time.Now().Add(20 * time.Second); len(ended) < 2; time.Sleep(10 * time.Millisecond) {
		for _, all := range kept.byCookie() {
			if role := all.last().Role; all.last().To == tracer.Closed && role != tracer.RoleListener {
				ended[role] = all
			}
		}
		if time.Now().After(deadline) {
			if st := tr.stats(t); st.Lost.Missed > 0 {
				return fmt.Sprintf("lost: %+v", st.Lost)
			}
			t.Fatal("a socket was not seen to the end")
		}
	}
	for role, c := range ended {
		first, last := c[0].Handler, c.last().Handler
		if first.PID != 0 {
			t.Errorf("a handler from the start: %+v", first)
		}
		switch {
		case role == by && (last.PID != uint32(cmd.Process.Pid)):
			t.Errorf("handler %v %v, want %v", last.PID, last.Comm, cmd.Process.Pid)
		case role != by && last.PID != 0 && last.PID != uint32(os.Getpid()):
			t.Errorf("the %v has handler %v %v, and only this process used it", role, last.PID, last.Comm)
		}
		if owner := c.last().Owner; owner.PID != uint32(os.Getpid()) {
			t.Errorf("owner %d, want %d", owner.PID, os.Getpid())
		}
		if t.Failed() {
			t.Fatalf("\n%v", c)
		}
	}
	return ""
}

// Where functions can be hooked, the process that accepts is the handler until one uses the
// connection.
func TestHandlerAccepted(t *testing.T) {
	t.Parallel()
	if shared.tracer.Hooks() != tracer.HooksFentry {
		t.Skip("this kernel lets nothing see who accepts, with these hooks")
	}
	ns := sandbox.New(t)
	kept := newRecorder(t)
	start(t, tracer.Config{Handlers: true, Filter: tracer.Filter{NetNS: []uint64{ns.Cookie}}}, kept)
	p := ns.Pair(sandbox.Families[0])
	p.Client.Close()
	p.Server.WaitState(uint8(tracer.CloseWait))
	p.Server.Close()
	if h := kept.chain(p.Server.Cookie).last().Handler; h.PID != uint32(os.Getpid()) {
		t.Errorf("handler %+v, want %d", h, os.Getpid())
	}
}

// A filter on the handler picks the transitions from when it is known.
func TestHandlerFilter(t *testing.T) {
	t.Parallel()
	ns := sandbox.New(t)
	us, others := newRecorder(t), newRecorder(t)
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	for kept, name := range map[*recorder]string{us: string(comm[:len(comm)-1]), others: "nobody"} {
		start(t, tracer.Config{NoTotals: true, Filter: tracer.Filter{
			NetNS: []uint64{ns.Cookie}, HandlerComms: []string{"x", name},
		}}, kept)
	}
	all := follow(t, ns.Cookie)
	p := ns.Pair(sandbox.Families[0])
	p.Client.Write()
	p.Server.Read()
	p.Client.Close()
	p.Server.Close()
	all.timeWait(ns, p.Client)
	all.chain(p.Server.Cookie)
	ns.Remove()
	all.chain(p.Client.Cookie)
	c := us.chain(p.Server.Cookie)
	if want := "CLOSE_WAIT LAST_ACK CLOSED"; c.path() != "ESTABLISHED "+want && c.path() != want {
		t.Errorf("path %q, want from ESTABLISHED on: %s", c.path(), want)
	}
	if n := len(others.snapshot()); n != 0 {
		t.Errorf("%d transitions of another handler", n)
	}
	if first := us.snapshot()[0]; first.From != tracer.Established {
		t.Errorf("the first is %v -> %v, want from ESTABLISHED", first.From, first.To)
	}
}
