//go:build linux

package live_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/tracer"

	"golang.org/x/sys/unix"
)

// Each filter passes the right transitions, unchanged, and counts the others.
func TestFilters(t *testing.T) {
	t.Parallel()
	v4, v6 := sandbox.Families[0], sandbox.Families[1]
	const wanted, other = 50001, 50002
	ns := sandbox.New(t)
	ns.Sysctl("ip_local_port_range", "40000 40003")
	elsewhere := sandbox.New(t)
	inhabit(t, ns)
	inhabit(t, elsewhere)

	// Every case has these connections: one to each port in the namespace, one of IPv6, and
	// one in another namespace. Each is reset at once.
	type conn struct {
		ns   *sandbox.NS
		f    sandbox.Family
		port uint16
	}
	conns := map[string]conn{
		"wanted":    {ns, v4, wanted},
		"other":     {ns, v4, other},
		"v6":        {ns, v6, wanted},
		"elsewhere": {elsewhere, v4, other},
	}
	listeners := make(map[string]*sandbox.Sock)
	for name, c := range conns {
		listeners[name] = c.ns.Socket(c.f).Bind(c.port).Listen()
	}
	both := func(name string) []string { return []string{name + " client", name + " server"} }
	mine := tracer.Filter{NetNS: []uint64{ns.Cookie, elsewhere.Cookie}}
	with := func(set func(*tracer.Filter)) tracer.Filter {
		f := mine
		set(&f)
		return f
	}

	cases := map[string]struct {
		filter tracer.Filter
		want   [][]string
	}{
		"none":        {mine, [][]string{both("wanted"), both("other"), both("v6"), both("elsewhere")}},
		"netns":       {tracer.Filter{NetNS: []uint64{elsewhere.Cookie}}, [][]string{both("elsewhere")}},
		"port":        {with(func(f *tracer.Filter) { f.Ports = []tracer.PortRange{tracer.Port(wanted)} }), [][]string{both("wanted"), both("v6")}},
		"local port":  {with(func(f *tracer.Filter) { f.LocalPorts = []tracer.PortRange{tracer.Port(wanted)} }), [][]string{{"wanted server"}, {"v6 server"}}},
		"remote port": {with(func(f *tracer.Filter) { f.RemotePorts = []tracer.PortRange{tracer.Port(wanted)} }), [][]string{{"wanted client"}, {"v6 client"}}},
		"ports":       {with(func(f *tracer.Filter) { f.Ports = []tracer.PortRange{{First: wanted - 1, Last: wanted}} }), [][]string{both("wanted"), both("v6")}},
		"not port":    {with(func(f *tracer.Filter) { f.NotPorts = []tracer.PortRange{tracer.Port(wanted)} }), [][]string{both("other"), both("elsewhere")}},
		"not local":   {with(func(f *tracer.Filter) { f.NotPorts = []tracer.PortRange{{First: 40000, Last: 40003}} }), [][]string{both("elsewhere")}},
		"role":        {with(func(f *tracer.Filter) { f.Role = tracer.RoleServer }), [][]string{{"wanted server"}, {"other server"}, {"v6 server"}, {"elsewhere server"}}},
		"endpoint":    {with(func(f *tracer.Filter) { f.Addrs = endpoint("127.0.0.1", wanted) }), [][]string{both("wanted")}},
		"no endpoint": {with(func(f *tracer.Filter) { f.Addrs = endpoint("127.0.0.2", wanted) }), nil},
		"not address": {with(func(f *tracer.Filter) { f.NotAddrs = addrs("::/0") }), [][]string{both("wanted"), both("other"), both("elsewhere")}},
		"not pid":     {with(func(f *tracer.Filter) { f.NotPIDs = []uint32{uint32(os.Getpid())} }), nil},
		"not comm":    {with(func(f *tracer.Filter) { f.NotComms = []string{processName(t)} }), nil},
		"no such one": {with(func(f *tracer.Filter) { f.NotComms, f.NotPIDs = []string{processName(t) + "x"}, []uint32{1} }), [][]string{both("wanted"), both("other"), both("v6"), both("elsewhere")}},
		"v6":          {with(func(f *tracer.Filter) { f.IPv6 = true }), [][]string{both("v6")}},
		"v4":          {with(func(f *tracer.Filter) { f.IPv4 = true }), [][]string{both("wanted"), both("other"), both("elsewhere")}},
		"cidr v6":     {with(func(f *tracer.Filter) { f.Addrs = addrs("::/64") }), [][]string{both("v6")}},
		"cidr v4":     {with(func(f *tracer.Filter) { f.Addrs = addrs("127.0.0.0/9") }), [][]string{both("wanted"), both("other"), both("elsewhere")}},
		"cidr none":   {with(func(f *tracer.Filter) { f.Addrs = addrs("127.128.0.0/9") }), nil},
		"pid":         {with(func(f *tracer.Filter) { f.PIDs = []uint32{uint32(os.Getpid())} }), [][]string{both("wanted"), both("other"), both("v6"), both("elsewhere")}},
		"other pid":   {with(func(f *tracer.Filter) { f.PIDs = []uint32{1} }), nil},
		"comm":        {with(func(f *tracer.Filter) { f.Comms = []string{processName(t)} }), [][]string{both("wanted"), both("other"), both("v6"), both("elsewhere")}},
		"other comm":  {with(func(f *tracer.Filter) { f.Comms = []string{processName(t) + "x"} }), nil},
	}
	for name, c := range cases {
		if testing.Short() && name != "comm" {
			continue // loading is slow on an emulated machine, and these cases do not depend on the kernel
		}
		kept := newRecorder(t)
		tr := start(t, tracer.Config{Filter: c.filter}, kept)
		ends := make(map[uint64]string)
		for name, cn := range conns {
			client := cn.ns.Socket(cn.f).Connect(sandbox.At(cn.f, cn.port))
			server := listeners[name].Accept()
			ends[client.Cookie], ends[server.Cookie] = name+" client", name+" server"
			client.Reset()
			server.WaitState(unix.BPF_TCP_CLOSE)
			server.Close()
		}
		tr.stop(t)
		tr.stats(t)
		got := make(map[string]chain)
		for _, x := range kept.snapshot() {
			got[ends[x.Cookie]] = append(got[ends[x.Cookie]], x)
		}
		n := 0
		for _, names := range c.want {
			for _, end := range names {
				n++
				want := serverOpen + " CLOSED"
				if end[len(end)-6:] == "client" {
					want = clientOpen + " CLOSED"
				}
				if p := got[end].path(); p != want {
					t.Errorf("%s: %s went %q, want %q", name, end, p, want)
				}
				got[end].check(t)
			}
		}
		if len(got) != n {
			t.Errorf("%s: %d sockets passed, want %d: %v", name, len(got), n, got)
		}
		tr.Close()
	}
}

func endpoint(addr string, port uint16) []tracer.AddrFilter {
	a := netip.MustParseAddr(addr)
	return []tracer.AddrFilter{{Prefix: netip.PrefixFrom(a, a.BitLen()), Port: port}}
}

// A cookie picks one end of one connection. A reason picks the transition that has it.
func TestCookieAndReasonFilters(t *testing.T) {
	t.Parallel()
	f := sandbox.Families[0]
	ns := sandbox.New(t)
	l := ns.Socket(f).Bind(0).Listen()
	c := ns.Socket(f)
	for name, of := range map[string]struct {
		filter tracer.Filter
		want   []string
	}{
		"cookie":  {tracer.Filter{Cookies: []uint64{c.Cookie}}, []string{"CLOSED -> SYN_SENT", "SYN_SENT -> ESTABLISHED", "ESTABLISHED -> CLOSED aborted"}},
		"reason":  {tracer.Filter{Reasons: []tracer.Reason{tracer.ReasonReset}}, []string{"ESTABLISHED -> CLOSED reset"}},
		"reasons": {tracer.Filter{Reasons: []tracer.Reason{tracer.ReasonReset, tracer.ReasonAborted}}, []string{"ESTABLISHED -> CLOSED aborted", "ESTABLISHED -> CLOSED reset"}},
	} {
		if testing.Short() && name != "reason" {
			continue // loading is slow on an emulated machine
		}
		of.filter.NetNS = []uint64{ns.Cookie}
		kept := newRecorder(t)
		tr := start(t, tracer.Config{Filter: of.filter}, kept)
		c.Connect(l.Local)
		s := l.Accept()
		c.Disconnect() // sends an RST, and keeps the socket and its cookie
		s.WaitState(unix.BPF_TCP_CLOSE)
		s.Close()
		tr.stop(t)
		tr.stats(t)
		tr.Close()
		var got []string
		for _, x := range kept.snapshot() {
			got = append(got, strings.TrimSpace(fmt.Sprint(x.From, " -> ", x.To, " ", x.Reason)))
		}
		slices.Sort(got)
		slices.Sort(of.want)
		if !slices.Equal(got, of.want) {
			t.Errorf("%s: %q, want %q", name, got, of.want)
		}
	}
}

// CLOSED -> SYN_SENT happens before connect() has chosen a port. A filter of that port still
// shows the transition, with its right time.
func TestLocalPortFilterShowsSYNSent(t *testing.T) {
	t.Parallel()
	f := sandbox.Families[0]
	ns := sandbox.New(t)
	ns.Sysctl("ip_local_port_range", "40000 40000")
	listener := ns.Socket(f).Bind(50000).Listen()
	for port, want := range map[uint16]string{40000: clientOpen + " CLOSED", 40001: ""} {
		if testing.Short() && want == "" {
			continue
		}
		kept := newRecorder(t)
		tr := start(t, tracer.Config{Filter: tracer.Filter{NetNS: []uint64{ns.Cookie}, LocalPorts: []tracer.PortRange{tracer.Port(port)}}}, kept)
		began := now()
		c := ns.Socket(f).Connect(listener.Local)
		connected := now()
		c.Reset()
		tr.stop(t)
		st := tr.stats(t)

		got := chain(kept.snapshot())
		if got.path() != want && !(want == "" && len(got) == 0) {
			t.Errorf("port %d: went %q, want %q", port, got.path(), want)
		}
		if st.Seen == 0 || want == "" && st.Delivered != 0 {
			t.Errorf("port %d: %+v", port, st)
		}
		if len(got) > 0 {
			got.check(t)
			if at := got[0].Ktime; at < began || at > connected || got[0].Local.Port() != 0 {
				t.Errorf("CLOSED -> SYN_SENT at %v from port %d; connect() ran from %v to %v", at, got[0].Local.Port(), began, connected)
			}
		}
		tr.Close()
	}
}

// Filters of states and durations pass single transitions.
func TestTransitionFilters(t *testing.T) {
	t.Parallel()
	f := sandbox.Families[0]
	ns := sandbox.New(t)
	run := func(filter tracer.Filter) chain {
		filter.NetNS = []uint64{ns.Cookie}
		kept := newRecorder(t)
		tr := start(t, tracer.Config{Filter: filter}, kept)
		p := ns.Pair(f)
		time.Sleep(30 * time.Millisecond)
		p.Client.Reset()
		p.Server.WaitState(unix.BPF_TCP_CLOSE)
		p.Server.Close()
		p.Listener.Close()
		tr.stop(t)
		tr.stats(t)
		tr.Close()
		for _, x := range kept.snapshot() {
			if !filter.PassesTransition(&x) {
				t.Errorf("the kernel side passes what PassesTransition does not: %+v\n%v", filter, chain{x})
			}
		}
		return kept.snapshot()
	}
	if !testing.Short() {
		from := run(tracer.Filter{From: []tracer.State{tracer.SynSent}})
		if len(from) != 1 || from[0].From != tracer.SynSent {
			t.Errorf("--from SYN_SENT showed %d transitions, want the client's one:\n%v", len(from), from)
		}
		if c := run(tracer.Filter{To: []tracer.State{tracer.Closed}}); len(c) != 3 {
			t.Errorf("--to CLOSED showed %d transitions, want those of client, server and listener:\n%v", len(c), c)
		}
		if c := run(tracer.Filter{States: []tracer.State{tracer.Listen}}); len(c) != 3 {
			t.Errorf("--state LISTEN showed %d transitions, want the listener's two and the child's first:\n%v", len(c), c)
		}
	}
	long := run(tracer.Filter{MinDuration: 30 * time.Millisecond})
	if len(long) == 0 {
		t.Error("--min-duration 30ms showed nothing")
	}
	for _, x := range long {
		if !x.Known() || x.Duration < 30*time.Millisecond {
			t.Errorf("--min-duration 30ms showed\n%v", chain{x})
		}
	}
}

// A cgroup filter passes the processes in the cgroup and below it, and no others.
func TestCgroupFilter(t *testing.T) {
	t.Parallel()
	root := cgroupMount(t)
	parent := filepath.Join(root, fmt.Sprintf("finwait-test-%d", os.Getpid()))
	child := filepath.Join(parent, "child")
	for _, dir := range []string{parent, child} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Remove(dir) })
	}
	ns := sandbox.New(t)
	const connections = 3
	run := func(filter tracer.Cgroup, from string) (uint64, []tracer.Transition) {
		kept := newRecorder(t)
		tr := start(t, tracer.Config{Filter: tracer.Filter{NetNS: []uint64{ns.Cookie}, Cgroups: []tracer.Cgroup{filter}}}, kept)
		dir, err := os.Open(from)
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		cmd := worker(strconv.Itoa(connections))
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
		ns.Start(cmd)
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		tr.stop(t)
		st := tr.stats(t)
		tr.Close()
		return st.Delivered, kept.snapshot()
	}
	cgroupAt := func(dir string, level uint32) tracer.Cgroup {
		st, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		return tracer.Cgroup{ID: st.Sys().(*syscall.Stat_t).Ino, Level: level}
	}
	whole := uint64(connections * 10)
	for _, c := range []struct {
		name   string
		filter tracer.Cgroup
		from   string
		passes bool
		short  bool // in short mode too
	}{
		{"itself", cgroupAt(child, 2), child, true, false},
		{"its parent", cgroupAt(parent, 1), child, true, true},
		{"the root", cgroupAt(root, 0), child, true, false},
		{"its child", cgroupAt(child, 2), parent, false, true},
		{"elsewhere", cgroupAt(parent, 1), root, false, false},
	} {
		if testing.Short() && !c.short {
			continue
		}
		n, got := run(c.filter, c.from)
		if c.passes != (n >= whole) || !c.passes && n != 0 {
			t.Errorf("%s: %d transitions passed, %d were made", c.name, n, whole)
		}
		for _, x := range got {
			if id := cgroupAt(c.from, 0).ID; x.Owner.CgroupID != id {
				t.Errorf("%s: owner in cgroup %d, want %d", c.name, x.Owner.CgroupID, id)
			}
		}
	}
}

// cgroupMount is where cgroup v2 is mounted.
func cgroupMount(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			return f[1]
		}
	}
	t.Fatal("cgroup v2 is not mounted: mount -t cgroup2 none /sys/fs/cgroup")
	return ""
}

func addrs(cidr string) []tracer.AddrFilter {
	return []tracer.AddrFilter{{Prefix: netip.MustParsePrefix(cidr)}}
}
