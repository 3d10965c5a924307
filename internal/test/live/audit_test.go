//go:build linux

package live_test

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"finwait/internal/audit"
	"finwait/internal/sandbox"
	"finwait/internal/test/testnet"
	"finwait/tracer"

	"golang.org/x/sys/unix"
)

// waitAll waits for workers that must succeed.
func waitAll(t *testing.T, wait []func() error) {
	t.Helper()
	for _, w := range wait {
		if err := w(); err != nil {
			t.Fatal(err)
		}
	}
}

// The kernel's counters and the totals agree, for every counter that is compared, in three
// namespaces. One namespace is removed before the second snapshot.
func TestAudit(t *testing.T) {
	t.Parallel()
	testnet.Attempts(t, auditOnce)
}

// auditOnce returns what was lost, or "".
func auditOnce(t *testing.T) string {
	t.Helper()
	stays, changes, goes := sandbox.New(t), sandbox.New(t), sandbox.New(t)
	inhabit(t, stays)
	inhabit(t, changes)
	leave := inhabit(t, goes)
	// These connections begin before the first snapshot.
	old, half := stays.Pair(sandbox.Families[0]), stays.Pair(sandbox.Families[0])
	half.Client.ShutdownWrite()
	half.Client.WaitState(unix.BPF_TCP_FIN_WAIT2)

	tr, err := tracer.New(tracer.Config{TotalsOnly: true, Audit: true})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	before, err := audit.Take(tr)
	if err != nil {
		t.Fatal(err)
	}

	many := loadTotal
	var wait []func() error
	for _, ns := range []*sandbox.NS{stays, changes, goes} {
		wait = append(wait, startWorker(t, ns, strconv.Itoa(many)).Wait)
	}
	old.Client.Close()
	half.Server.Close()
	waitPort(t, stays, half.Client.Local.Port(), tracer.TimeWait)
	waitAll(t, wait)
	variety(t, changes)
	leave()
	goes.Remove()
	waitAll(t, []func() error{startWorker(t, stays, strconv.Itoa(many)).Wait})

	after, err := audit.Take(tr)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[uint32]map[string]audit.Row)
	for _, r := range audit.Compare(before, after, runtime.NumCPU()) {
		if seen[r.NetNS] == nil {
			seen[r.NetNS] = make(map[string]audit.Row)
		}
		seen[r.NetNS][r.Counter] = r
	}
	st, err := tr.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if n := st.Lost.Missed; n > 0 {
		return fmt.Sprintf("%d transitions were lost", n)
	}
	for name, ns := range map[string]*sandbox.NS{"stays": stays, "changes": changes} {
		for _, r := range seen[ns.Inode] {
			if r.Verdict != audit.Agrees {
				t.Errorf("%s: %+v", name, r)
			}
		}
	}
	for counter, want := range map[string]int64{"ActiveOpens": int64(2 * many), "PassiveOpens": int64(2 * many)} {
		if r := seen[stays.Inode][counter]; r.Kernel != want || r.Finwait != want {
			t.Errorf("%s: kernel %d, finwait %d, want %d", counter, r.Kernel, r.Finwait, want)
		}
	}
	for _, counter := range []string{"AttemptFails", "EstabResets", "TcpExtTWRecycled", "TcpExtTCPTimeWaitOverflow"} {
		if r := seen[changes.Inode][counter]; r.Kernel == 0 {
			t.Errorf("%s: none, so this tests nothing", counter)
		}
	}
	// The kernel may have given its inode number to another test's namespace, which has counters.
	if r := seen[goes.Inode][""]; r.Verdict != audit.Explained {
		t.Errorf("the namespace that was removed: %+v", seen[goes.Inode])
	}
	return ""
}

// The kernel counts a handshake that fails in a request_sock as one of AttemptFails, and of a fast-open
// child two. The audit explains so many, and no more.
func TestAuditRequestSockets(t *testing.T) {
	t.Parallel()
	testnet.Attempts(t, requestSocketsOnce)
}

// requestSocketsOnce returns what was lost, or "".
func requestSocketsOnce(t *testing.T) string {
	t.Helper()
	const requests, refused, children = 7, 5, 3
	f := sandbox.Families[0]
	ns := sandbox.New(t)
	inhabit(t, ns)
	ns.Sysctl("tcp_fastopen", "519") // client and server, without Fast Open cookies
	listener := ns.Socket(f).Bind(5000)
	listener.Set(unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 16)
	listener.Listen()

	tr, err := tracer.New(tracer.Config{TotalsOnly: true, Audit: true})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	before, err := audit.Take(tr)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint16(requests) { // nobody is at these ports: the SYN-ACK is answered with an RST
		ns.Send(sandbox.At(f, 6000+i), listener.Local, sandbox.SYN, 1, 0)
	}
	for deadline := time.Now().Add(10 * time.Second); ns.Counter("TcpExt.EmbryonicRsts") < requests; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the RSTs do not come")
		}
	}
	for range refused {
		isErrno(t, ns.Socket(f).TryConnect(sandbox.At(f, 9)), unix.ECONNREFUSED)
	}
	listener.OnlySYN() // a child inherits it, and stays in its handshake
	resets := ns.Counter("Tcp.EstabResets")
	for range children {
		c := ns.Socket(f)
		c.FastOpen(listener.Local)
		s := listener.Accept()
		s.LetIncoming()
		c.Reset()
		s.WaitState(unix.BPF_TCP_CLOSE)
	}
	// On a busy machine the client may acknowledge once more between LetIncoming and Reset.
	if n := ns.Counter("Tcp.EstabResets") - resets; n > children { // of the clients
		return fmt.Sprintf("%d children were ESTABLISHED when the RST came", n-children)
	}
	for range children { // close() and disconnect() count nothing
		c := ns.Socket(f)
		c.FastOpen(listener.Local)
		listener.Accept().Reset()
	}
	after, err := audit.Take(tr)
	if err != nil {
		t.Fatal(err)
	}
	st, err := tr.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if n := st.Lost.Missed; n > 0 {
		return fmt.Sprintf("%d transitions were lost", n)
	}
	rows := audit.Compare(before, after, runtime.NumCPU())
	i := slices.IndexFunc(rows, func(r audit.Row) bool { return r.NetNS == ns.Inode && r.Counter == "AttemptFails" })
	if r := rows[i]; r.Verdict != audit.Explained || r.Kernel != requests+refused+2*children || r.Finwait != refused+children {
		t.Errorf("%+v", r)
	}
	return ""
}

// waitPort waits until the kernel has a socket of a local port in a state.
func waitPort(t *testing.T, ns *sandbox.NS, port uint16, s tracer.State) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ns.PortStates(port)[uint8(s)] == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("port %d is not in %v: %v", port, s, ns.PortStates(port))
		}
	}
}

// variety makes connections that change every counter.
func variety(t *testing.T, ns *sandbox.NS) {
	t.Helper()
	for _, f := range sandbox.Families {
		refused := ns.Socket(f).TryConnect(sandbox.At(f, 9))
		isErrno(t, refused, unix.ECONNREFUSED)

		reset := ns.Pair(f)
		reset.Client.Reset()
		reset.Server.WaitState(unix.BPF_TCP_CLOSE)

		pending := ns.Pair(f)
		pending.Server.Close()
		pending.Client.WaitState(unix.BPF_TCP_CLOSE_WAIT)

		reused := ns.Pair(f)
		reused.Client.Close()
		reused.Server.WaitState(unix.BPF_TCP_CLOSE_WAIT)
		reused.Server.Close()
	}
	// connect() reuses a TIME_WAIT whose last timestamp is more than a second old.
	f := sandbox.Families[0]
	listener := ns.Socket(f).Bind(5000).Listen() // a port that no worker has
	ns.Sysctl("tcp_tw_reuse", "1")
	ns.Sysctl("ip_local_port_range", "4000 4000")
	client := ns.Socket(f).Connect(listener.Local)
	server := listener.Accept()
	client.Close()
	server.WaitState(unix.BPF_TCP_CLOSE_WAIT)
	server.Close()
	waitPort(t, ns, 4000, tracer.TimeWait)
	time.Sleep(2200 * time.Millisecond)
	ns.Socket(f).Connect(listener.Local)
	ns.Sysctl("ip_local_port_range", "4100 4200")

	// An abort needs no TIME_WAIT, so it is not counted as an overflow.
	ns.Sysctl("tcp_max_tw_buckets", "1")
	aborted := ns.Pair(f)
	aborted.Client.ShutdownWrite()
	aborted.Client.WaitState(unix.BPF_TCP_FIN_WAIT2)
	aborted.Client.Reset()

	// There is no room for another TIME_WAIT.
	q := ns.Pair(f)
	q.Client.Close()
	q.Server.WaitState(unix.BPF_TCP_CLOSE_WAIT)
	q.Server.Close()
	waitStates(t, ns, tracer.LastAck, 0)
}
