//go:build linux

package live_test

import (
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/internal/test/testnet"
	"finwait/tracer"

	"golang.org/x/sys/unix"
)

// segments keeps those of a tracer.
type segments struct {
	mu  sync.Mutex
	all []tracer.Segment
}

func (s *segments) add(seg *tracer.Segment) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, *seg)
	return nil
}

// wait waits until there are n, and returns all.
func (s *segments) wait(t *testing.T, n int) []tracer.Segment {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		s.mu.Lock()
		all := append([]tracer.Segment(nil), s.all...)
		s.mu.Unlock()
		if len(all) >= n {
			return all
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d segments, want %d: %+v", len(all), n, all)
		}
	}
}

// traceSegments traces the RSTs and handshakes of a namespace.
func traceSegments(t *testing.T, ns *sandbox.NS) (*segments, *running) {
	t.Helper()
	kept := new(segments)
	return kept, start(t, tracer.Config{
		RST: true, Handshakes: true, Segment: kept.add, Filter: tracer.Filter{NetNS: []uint64{ns.Cookie}},
	}, newRecorder(t))
}

// seesNobody reports whether this kernel says of an RST to nobody that it sends it, and why.
func seesNobody(t *testing.T) bool {
	t.Helper()
	resets, err := feature("minisocks in tcp_send_reset")
	if err != nil {
		t.Fatal(err)
	}
	return resets.State != tracer.FeatureMissing
}

// A SYN to a port that nobody listens on is answered with an RST, which the client receives. No
// process has sent it.
func TestRST(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, _ *recorder, f sandbox.Family) {
		kept, tr := traceSegments(t, ns)
		client := ns.Socket(f)
		if err := client.TryConnect(sandbox.At(f, 9)); err != unix.ECONNREFUSED {
			t.Fatal(err)
		}
		want := []tracer.SegmentKind{tracer.SegmentRSTSent, tracer.SegmentRSTReceived}
		if !seesNobody(t) {
			want = want[1:]
		}
		all := kept.wait(t, len(want))
		nobody := netip.AddrPortFrom(f.Addr, 9)
		for i, s := range all {
			if i >= len(want) || s.Kind != want[i] {
				t.Fatalf("segments %+v, want %v", all, want)
			}
			ours, reason, cookie := nobody, "no_socket", uint64(0)
			if s.Kind == tracer.SegmentRSTReceived {
				ours, reason, cookie = s.Local, "", client.Cookie
			}
			if s.Local != ours || s.Local.Addr() != f.Addr || s.Remote.Addr() != f.Addr || s.Reason != reason || s.Cookie != cookie ||
				s.NetNS != ns.Inode || s.NetNSCookie != ns.Cookie {
				t.Errorf("%+v", s)
			}
		}
		if last := all[len(all)-1]; last.Remote != nobody {
			t.Errorf("received from %v, want %v", last.Remote, nobody)
		}
		tr.stop(t)
		checkSegments(t, tr)
	})
}

// The segment is for a connection that is gone, and its port still has a listener, which answers.
func TestRSTOfAListener(t *testing.T) {
	t.Parallel()
	ns := sandbox.New(t)
	kept, _ := traceSegments(t, ns)
	f := sandbox.Families[0]
	l := ns.Socket(f).Bind(0).Listen()
	from := netip.AddrPortFrom(f.Addr, 9)
	ns.Send(from, l.Local, 0x10, 1, 1) // an ACK
	s := kept.wait(t, 1)[0]
	if s.Kind != tracer.SegmentRSTSent || s.Local != l.Local || s.Remote != from {
		t.Errorf("%+v", s)
	}
}

// The client does not get the SYN-ACK, so the listener sends it again.
func TestHandshakes(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, _ *recorder, f sandbox.Family) {
		kept, tr := traceSegments(t, ns)
		l := ns.Socket(f).Bind(0).Listen()
		client := ns.Socket(f)
		client.DropIncoming(false)
		client.Connecting(l.Local)
		for _, s := range kept.wait(t, 2) {
			if s.Kind != tracer.SegmentSYNACKAgain || s.Local != l.Local || s.Remote.Addr() != f.Addr || s.Retransmits == 0 {
				t.Errorf("%+v, want a SYN-ACK of %v", s, l.Local)
			}
		}
		client.Close()
		tr.stop(t)
		checkSegments(t, tr)
	})
}

// Without a stream, segments are counted by the peer and the server's port.
func TestSegmentCounts(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, _ *recorder, f sandbox.Family) {
		tr, err := tracer.New(tracer.Config{
			Hooks: hooks, TotalsOnly: true, RST: true, Handshakes: true, Filter: tracer.Filter{NetNS: []uint64{ns.Cookie}},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer tr.Close()
		const connects = 5
		for range connects {
			s := ns.Socket(f)
			_ = s.TryConnect(sandbox.At(f, 9))
			s.Close()
		}
		all, err := tr.SegmentCounts()
		if err != nil {
			t.Fatal(err)
		}
		var sent, received uint64
		for _, c := range all {
			switch {
			case c.Kind == tracer.SegmentRSTSent && c.Local == 9 && c.Remote == netip.AddrPortFrom(f.Addr, 0) && c.Reason == "no_socket":
				sent += c.Count
			case c.Kind == tracer.SegmentRSTReceived && c.Local == 0 && c.Remote == netip.AddrPortFrom(f.Addr, 9) && c.Reason == "":
				received += c.Count
			default:
				t.Errorf("%+v", c)
			}
		}
		if received != connects || sent != connects && (sent != 0 || seesNobody(t)) {
			t.Errorf("%d RSTs sent and %d received, want %d of each: %+v", sent, received, connects, all)
		}
		st, err := tr.Stats()
		if err != nil {
			t.Fatal(err)
		}
		if g := st.Segments; g.Seen != g.Filtered+g.Delivered || g.Delivered != sent+received || g.Uncounted != 0 {
			t.Errorf("accounts %+v", g)
		}
	})
}

// Who floods a closed port with SYNs does not flood the reader: at most 1000 a second are handed
// over, and the rest is counted.
func TestRSTFlood(t *testing.T) {
	t.Parallel()
	ns := sandbox.New(t)
	kept, tr := traceSegments(t, ns)
	f := sandbox.Families[0]
	begun := time.Now()
	connects := 3000
	if testing.Short() {
		connects = 200 // an emulated machine is slow: no flood
	}
	for range connects {
		s := ns.Socket(f)
		if err := s.TryConnect(sandbox.At(f, 9)); err != unix.ECONNREFUSED {
			t.Fatal(err)
		}
		s.Close()
	}
	seconds := int(time.Since(begun)/time.Second) + 2 // of the clock, at the most
	tr.stop(t)
	st := checkSegments(t, tr)
	if least := uint64(connects); st.Seen < least {
		t.Errorf("%d segments seen, want %d at least", st.Seen, least)
	}
	if n := len(kept.wait(t, 0)); n > 1000*seconds+100 || // CPUs can begin a second at the same time
		uint64(n) != st.Delivered || n == 0 {
		t.Errorf("%d segments handed over in %d s, %d delivered", n, seconds, st.Delivered)
	}
	if seconds == 2 && !testing.Short() && st.Limited == 0 {
		t.Errorf("nothing was left out: %+v", st)
	}
}

// checkSegments checks that every segment is accounted for.
func checkSegments(t *testing.T, tr *running) tracer.SegmentAccounts {
	t.Helper()
	s := tr.stats(t).Segments
	if s.Seen != s.Filtered+s.Delivered+s.Limited+s.RingFull {
		t.Errorf("seen is not filtered + delivered + limited + ring_full: %+v", s)
	}
	return s
}

// A connection that an RST has ended says who sent that: the process that closed the other end,
// its minisock, or nobody, because there is no socket.
func TestRSTBy(t *testing.T) {
	t.Parallel()
	us := uint32(os.Getpid())
	for name, c := range map[string]struct {
		end tracer.RSTEnd
		// reset makes the connection that meets an RST, and says who has closed the other end.
		reset func(t *testing.T, ns *sandbox.NS, f sandbox.Family) (cookie uint64, pid uint32)
	}{
		"a socket": {tracer.RSTEndSocket, func(_ *testing.T, ns *sandbox.NS, f sandbox.Family) (uint64, uint32) {
			p := ns.Pair(f)
			p.Server.Reset()
			return p.Client.Cookie, us
		}},
		"another process": {tracer.RSTEndSocket, func(t *testing.T, ns *sandbox.NS, f sandbox.Family) (uint64, uint32) {
			p := ns.Pair(f)
			p.Client.Write()
			file := p.Server.File()
			cmd := worker(leaves)
			cmd.ExtraFiles = []*os.File{file}
			say := startTalking(t, ns, cmd)
			file.Close()
			p.Server.Close() // the worker has it still, and does not read
			say()
			if err := cmd.Wait(); err != nil {
				t.Fatal(err)
			}
			return p.Client.Cookie, uint32(cmd.Process.Pid)
		}},
		"a minisock": {tracer.RSTEndMinisock, func(_ *testing.T, ns *sandbox.NS, f sandbox.Family) (uint64, uint32) {
			p := ns.Pair(f)
			p.Client.Orphan()
			p.Server.WaitState(uint8(tracer.CloseWait))
			p.Server.Write()
			return p.Server.Cookie, us
		}},
		// The other end is gone without a word, and its listener answers what comes for it.
		"a listener": {tracer.RSTEndListener, func(_ *testing.T, ns *sandbox.NS, f sandbox.Family) (uint64, uint32) {
			p := ns.Pair(f)
			p.Server.Set(unix.IPPROTO_TCP, unix.TCP_REPAIR, 1)
			p.Server.Close()
			p.Client.Write()
			return p.Client.Cookie, 0
		}},
		"nobody": {tracer.RSTEndNoSocket, func(t *testing.T, ns *sandbox.NS, f sandbox.Family) (uint64, uint32) {
			client := ns.Socket(f)
			if err := client.TryConnect(sandbox.At(f, 9)); err != unix.ECONNREFUSED {
				t.Fatal(err)
			}
			return client.Cookie, 0
		}},
	} {
		for _, f := range sandbox.Families {
			if testing.Short() && f != sandbox.Families[0] {
				continue // loading a tracer takes seconds on an emulated machine
			}
			t.Run(name+" "+f.Name, func(t *testing.T) {
				t.Parallel()
				if c.end != tracer.RSTEndSocket && !seesNobody(t) {
					t.Skip("before 6.11 no tracepoint shows RSTs without a full socket")
				}
				testnet.Attempts(t, func(t *testing.T) string {
					ns := sandbox.New(t)
					kept, none := newRecorder(t), newRecorder(t)
					filter := tracer.Filter{NetNS: []uint64{ns.Cookie}}
					tr := start(t, tracer.Config{RST: true, Segment: new(segments).add, Filter: filter}, kept)
					if !testing.Short() {
						start(t, tracer.Config{Filter: filter}, none)
					}
					cookie, pid := c.reset(t, ns, f)
					last := kept.chain(cookie).last()
					if st := tr.stats(t); st.Lost.Missed > 0 {
						return "a transition was lost"
					}
					if by := last.RSTBy; by.End != c.end || by.PID != pid || (by.Comm == tracer.Comm{}) != (pid == 0) {
						t.Errorf("%v: an RST of %v %d %v, want %v %d", last.Reason, by.End, by.PID, by.Comm, c.end, pid)
					}
					if !testing.Short() {
						if by := none.chain(cookie).last().RSTBy; by != (tracer.RSTSender{}) {
							t.Errorf("nobody asked: %+v", by)
						}
					}
					for _, x := range kept.snapshot() {
						if x.Cookie != cookie && x.RSTBy.End != tracer.RSTEndUnknown {
							t.Errorf("the other end says so, too: %+v", x)
						}
					}
					return ""
				})
			})
		}
	}
}

// Another namespace has the same addresses and ports. An RST that was sent there is not the one
// that comes here, and an ICMP error is none at all.
func TestRSTByAStranger(t *testing.T) {
	t.Parallel()
	f := sandbox.Families[0]
	const port, clientPort = 7100, 41000
	there, here := sandbox.New(t), sandbox.New(t)
	kept := newRecorder(t)
	start(t, tracer.Config{
		RST: true, Segment: new(segments).add, Filter: tracer.Filter{NetNS: []uint64{there.Cookie, here.Cookie}},
	}, kept)
	connect := func(ns *sandbox.NS) (client, server *sandbox.Sock) {
		l := ns.Socket(f).Bind(port).Listen()
		client = ns.Socket(f).Bind(clientPort).Connect(l.Local)
		return client, l.Accept()
	}
	client, server := connect(there)
	client.DropIncoming(false)
	server.Reset()
	kept.chain(server.Cookie)

	client, server = connect(here)
	server.DropIncoming(false)
	here.Send(server.Local, client.Local, 0x14, server.Sequence(), 0) // RST, ACK
	last := kept.chain(client.Cookie).last()
	if last.Reason != tracer.ReasonReset || last.RSTBy != (tracer.RSTSender{}) {
		t.Errorf("%v, by %v %v; a stranger's RST was forged", last.Reason, last.RSTBy.End, last.RSTBy.PID)
	}
}
