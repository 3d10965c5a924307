//go:build linux

package live_test

import (
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/tracer"

	"golang.org/x/sys/unix"
)

// why is how a socket ended.
type why struct {
	path   string
	reason tracer.Reason
	detail tracer.Detail
	errno  unix.Errno
	ours   bool // this process is the closer
}

// resets is how many RSTs of this host's the transitions claim.
func resets(all []tracer.Transition) (n int) {
	for _, x := range all {
		switch {
		case x.To != tracer.Closed:
		case x.Reason == tracer.ReasonRSTSent:
			n++
		case x.Reason == tracer.ReasonAborted && x.Detail != tracer.DetailCheckpoint && x.Detail != tracer.DetailListenFailed:
			n++
		}
	}
	return n
}

func (w why) check(t *testing.T, ns *sandbox.NS, r *recorder, s *sandbox.Sock) {
	t.Helper()
	c := r.chain(s.Cookie)
	if claimed, sent := resets(r.snapshot()), ns.Counter("Tcp.OutRsts"); claimed > sent {
		t.Errorf("%d RSTs are claimed, the kernel sent %d", claimed, sent)
	}
	c.want(t, w.path, w.reason)
	last := c.last()
	if last.Detail != w.detail || last.Errno != tracer.Errno(w.errno) {
		t.Errorf("it ended %v %q, errno %q; want %q, %q", last.Reason, last.Detail, last.Errno, w.detail, tracer.Errno(w.errno))
	}
	if ours := last.Closer.PID == uint32(os.Getpid()); ours != w.ours {
		t.Errorf("closer %d/%v, this process: %v, want %v", last.Closer.PID, last.Closer.Comm, ours, w.ours)
	}
	counted(t, countersOf(ns), &last)
}

const givenUpPath = "CLOSED SYN_SENT CLOSED"

// Each cause of an end that shares its reason with others.
func TestDetail(t *testing.T) {
	type end = func(t *testing.T, ns *sandbox.NS, p *sandbox.Pair) *sandbox.Sock
	for _, c := range []struct {
		name string
		want why
		end  end
	}{
		{"unread data", why{clientOpen + " CLOSED", tracer.ReasonAborted, tracer.DetailUnreadData, 0, true},
			func(t *testing.T, ns *sandbox.NS, p *sandbox.Pair) *sandbox.Sock {
				p.Server.Write()
				p.Client.Wait("data", func(i *unix.TCPInfo) bool { return i.Rcv_space > 0 && i.Last_data_recv < 1000 && i.Segs_in > 1 })
				time.Sleep(20 * time.Millisecond)
				p.Client.Close()
				return p.Client
			}},
		{"unread data after the peer's FIN", why{clientOpen + " CLOSE_WAIT CLOSED", tracer.ReasonAborted, tracer.DetailUnreadData, 0, true},
			func(t *testing.T, ns *sandbox.NS, p *sandbox.Pair) *sandbox.Sock {
				p.Server.Write()
				p.Server.ShutdownWrite()
				p.Client.WaitState(unix.BPF_TCP_CLOSE_WAIT)
				p.Client.Close()
				return p.Client
			}},
		{"unread data in FIN_WAIT_2", why{clientOpen + " FIN_WAIT_1 FIN_WAIT_2 CLOSED", tracer.ReasonAborted, tracer.DetailUnreadData, 0, true},
			func(t *testing.T, ns *sandbox.NS, p *sandbox.Pair) *sandbox.Sock {
				p.Client.ShutdownWrite()
				p.Client.WaitState(unix.BPF_TCP_FIN_WAIT2)
				p.Server.Write()
				p.Client.Wait("data", func(i *unix.TCPInfo) bool { return i.Segs_in > 2 })
				time.Sleep(20 * time.Millisecond)
				p.Client.Close()
				return p.Client
			}},
		{"all read after the peer's FIN", why{clientOpen + " CLOSE_WAIT CLOSED", tracer.ReasonAborted, tracer.DetailLingerZero, 0, true},
			func(t *testing.T, ns *sandbox.NS, p *sandbox.Pair) *sandbox.Sock {
				p.Server.Write()
				p.Client.Read()
				p.Server.ShutdownWrite()
				p.Client.WaitState(unix.BPF_TCP_CLOSE_WAIT)
				p.Client.Reset()
				return p.Client
			}},
		{"linger zero", why{clientOpen + " CLOSED", tracer.ReasonAborted, tracer.DetailLingerZero, 0, true},
			func(t *testing.T, ns *sandbox.NS, p *sandbox.Pair) *sandbox.Sock {
				p.Client.Reset()
				return p.Client
			}},
		{"disconnected", why{clientOpen + " CLOSED", tracer.ReasonAborted, tracer.DetailDisconnected, 0, true},
			func(t *testing.T, ns *sandbox.NS, p *sandbox.Pair) *sandbox.Sock {
				p.Client.Disconnect()
				return p.Client
			}},
		{"disconnected after shutdown", why{clientOpen + " FIN_WAIT_1 FIN_WAIT_2 CLOSED", tracer.ReasonAborted, tracer.DetailDisconnected, 0, true},
			func(t *testing.T, ns *sandbox.NS, p *sandbox.Pair) *sandbox.Sock {
				if err := p.Client.TryShutdown(); err != nil {
					t.Fatal(err)
				}
				p.Client.WaitState(unix.BPF_TCP_FIN_WAIT2)
				p.Client.Disconnect()
				return p.Client
			}},
		{"linger2, held", why{clientOpen + " FIN_WAIT_1 FIN_WAIT_2 CLOSED", tracer.ReasonAborted, tracer.DetailLinger2, 0, true},
			func(t *testing.T, ns *sandbox.NS, p *sandbox.Pair) *sandbox.Sock {
				p.Client.Set(unix.IPPROTO_TCP, unix.TCP_LINGER2, -1)
				p.Client.Orphan()
				return p.Client
			}},
		{"checkpoint", why{clientOpen + " CLOSED", tracer.ReasonAborted, tracer.DetailCheckpoint, 0, true},
			func(t *testing.T, ns *sandbox.NS, p *sandbox.Pair) *sandbox.Sock {
				p.Client.Set(unix.IPPROTO_TCP, unix.TCP_REPAIR, 1)
				p.Client.Close()
				return p.Client
			}},
		{"reset while idle", why{clientOpen + " CLOSED", tracer.ReasonReset, tracer.DetailNone, unix.ECONNRESET, false},
			func(t *testing.T, ns *sandbox.NS, p *sandbox.Pair) *sandbox.Sock {
				p.Server.Reset()
				return p.Client
			}},
		{"reset with data on the way", why{clientOpen + " CLOSED", tracer.ReasonReset, tracer.DetailDataUnacked, unix.ECONNRESET, false},
			func(t *testing.T, ns *sandbox.NS, p *sandbox.Pair) *sandbox.Sock {
				p.Server.DropIncoming(false)
				p.Client.Write()
				p.Server.Reset()
				return p.Client
			}},
		{"reset with the FIN on the way", why{clientOpen + " FIN_WAIT_1 CLOSED", tracer.ReasonReset, tracer.DetailFINUnacked, unix.ECONNRESET, true},
			func(t *testing.T, ns *sandbox.NS, p *sandbox.Pair) *sandbox.Sock {
				p.Server.DropIncoming(false)
				p.Client.Close()
				p.Server.Reset()
				return p.Client
			}},
		{"data after close", why{clientOpen + " FIN_WAIT_1 CLOSED", tracer.ReasonRSTSent, tracer.DetailDataAfterClose, unix.ECONNRESET, true},
			func(t *testing.T, ns *sandbox.NS, p *sandbox.Pair) *sandbox.Sock {
				p.Server.DropIncoming(false)
				p.Client.Close()
				p.Server.Write()
				return p.Client
			}},
		{"keepalive", why{clientOpen + " CLOSED", tracer.ReasonTimedOut, tracer.DetailKeepalive, unix.ETIMEDOUT, false},
			func(t *testing.T, ns *sandbox.NS, p *sandbox.Pair) *sandbox.Sock {
				p.Server.DropIncoming(false)
				p.Client.Set(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 1).Set(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 1).Set(unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 1)
				p.Client.Set(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
				return p.Client
			}},
		{"user timeout", why{clientOpen + " CLOSED", tracer.ReasonTimedOut, tracer.DetailUserTimeout, unix.ETIMEDOUT, false},
			func(t *testing.T, ns *sandbox.NS, p *sandbox.Pair) *sandbox.Sock {
				p.Server.DropIncoming(false)
				p.Client.Set(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 500)
				p.Client.Write()
				return p.Client
			}},
		{"retransmissions", why{clientOpen + " CLOSED", tracer.ReasonTimedOut, tracer.DetailRetransmissions, unix.ETIMEDOUT, false},
			func(t *testing.T, ns *sandbox.NS, p *sandbox.Pair) *sandbox.Sock {
				ns.Sysctl("tcp_retries2", "2")
				p.Server.DropIncoming(false)
				p.Client.Set(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1) // is on, and is not what ends it
				p.Client.Write()
				return p.Client
			}},
		{"zero window", why{clientOpen + " CLOSED", tracer.ReasonTimedOut, tracer.DetailZeroWindow, unix.ETIMEDOUT, false},
			func(t *testing.T, ns *sandbox.NS, p *sandbox.Pair) *sandbox.Sock {
				ns.Sysctl("tcp_retries2", "3")
				p.Client.Fill()
				p.Server.DropIncoming(false)
				return p.Client
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
				c.want.check(t, ns, r, c.end(t, ns, ns.Pair(f)))
			})
		})
	}
}

// The program gives a connect() up while SYNs are on the way.
func TestGivenUp(t *testing.T) {
	for _, c := range []struct {
		name   string
		detail tracer.Detail
		end    func(*sandbox.Sock)
	}{
		{"close", tracer.DetailClose, (*sandbox.Sock).Close},
		{"shutdown", tracer.DetailShutdown, func(s *sandbox.Sock) { _ = s.TryShutdown() }},
		{"disconnect", tracer.DetailDisconnect, (*sandbox.Sock).Disconnect},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
				deaf := ns.Socket(f).Bind(0).Listen()
				deaf.DropIncoming(false)
				s := ns.Socket(f).Connecting(deaf.Local)
				c.end(s)
				why{givenUpPath, tracer.ReasonGivenUp, c.detail, 0, true}.check(t, ns, r, s)
			})
		})
	}
	// A process that is killed in connect().
	t.Run("exit", func(t *testing.T) {
		eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
			deaf := ns.Socket(f).Bind(0).Listen()
			deaf.DropIncoming(false)
			cmd := startWorker(t, ns, connects+deaf.Local.String())
			x := r.find(t, func(x *tracer.Transition) bool { return x.To == tracer.SynSent && x.Remote == deaf.Local })
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			end := r.chain(x.Cookie)
			end.want(t, givenUpPath, tracer.ReasonGivenUp)
			if last := end.last(); last.Detail != tracer.DetailExit || last.Closer.PID != uint32(cmd.Process.Pid) {
				t.Errorf("detail %q, closer %d; want exit, %d", last.Detail, last.Closer.PID, cmd.Process.Pid)
			}
		})
	})
	// A firewall's answer ends a blocking connect() only; it is noted for any other.
	t.Run("behind an ICMP error", func(t *testing.T) {
		eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
			deaf := ns.Socket(f).Bind(0).Listen()
			deaf.DropIncoming(false)
			sniffer := ns.Sniff(f)
			s := ns.Socket(f)
			failed := make(chan error, 1)
			go func() { failed <- s.TryConnect(deaf.Local) }()
			syn := sniffer.SYN(deaf.Local.Port())
			for {
				ns.HostUnreachable(f.Addr, f.Addr, syn)
				select {
				case err := <-failed:
					isErrno(t, err, unix.EHOSTUNREACH)
				case <-time.After(20 * time.Millisecond):
					continue
				}
				break
			}
			why{givenUpPath, tracer.ReasonUnreachable, tracer.DetailNone, unix.EHOSTUNREACH, false}.check(t, ns, r, s)
		})
	})
}

// connect() finds its addresses and ports in use before it sends a SYN.
func TestInUse(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
		l := ns.Socket(f).Bind(0).Listen()
		first := ns.Socket(f).Set(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1).Bind(0)
		second := ns.Socket(f).Set(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1).Bind(first.Local.Port())
		first.Connect(l.Local)
		isErrno(t, second.TryConnect(l.Local), unix.EADDRNOTAVAIL)
		why{givenUpPath, tracer.ReasonInUse, tracer.DetailNone, unix.EADDRNOTAVAIL, false}.check(t, ns, r, second)
	})
}

// Connections that nobody has accepted die with their listener.
func TestListenerClosed(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
		l := ns.Socket(f).Bind(0).Listen()
		c := ns.Socket(f).Connect(l.Local)
		x := r.find(t, func(x *tracer.Transition) bool { return x.To == tracer.Established && x.Role == tracer.RoleServer })
		l.Close()
		end := r.chain(x.Cookie)
		end.want(t, serverOpen+" CLOSED", tracer.ReasonAborted)
		if last := end.last(); last.Detail != tracer.DetailListenerClosed || last.Closer.PID != uint32(os.Getpid()) {
			t.Errorf("detail %q, closer %d", last.Detail, last.Closer.PID)
		}
		why{clientOpen + " CLOSED", tracer.ReasonReset, tracer.DetailNone, unix.ECONNRESET, false}.check(t, ns, r, c)
	})
}

// A socket is put back with TCP_REPAIR: no SYN is sent, and it is no client.
func TestRestored(t *testing.T) {
	t.Parallel()
	ns, r := record(t)
	f := sandbox.Families[0]
	p := ns.Pair(f)
	before := ns.Counter("Tcp.ActiveOpens")
	s := ns.Socket(f).Set(unix.IPPROTO_TCP, unix.TCP_REPAIR, 1).Bind(0)
	s.Connect(p.Listener.Local)
	if n := ns.Counter("Tcp.ActiveOpens") - before; n != 0 {
		t.Fatalf("the kernel counts %d SYNs: this tests something else", n)
	}
	s.Close()
	c := r.chain(s.Cookie)
	if got, want := c.path(), "CLOSED ESTABLISHED CLOSED"; got != want {
		t.Errorf("went %s, want %s", got, want)
	}
	if c[0].Role != tracer.RoleUnknown || c[0].Known() || c[0].Owner.PID == 0 {
		t.Errorf("restored as\n%v", c)
	}
}

// Of two lives of one socket, each has its own error.
func TestErrorsOfTwoLives(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
		bound := ns.Socket(f).Bind(0) // does not listen
		c := ns.Socket(f)
		for range 2 { // SO_ERROR is not read in between
			c.Connecting(bound.Local)
			c.WaitState(unix.BPF_TCP_CLOSE)
			c.Disconnect()
		}
		deaf := ns.Socket(f).Bind(0).Listen()
		deaf.DropIncoming(false)
		c.Connecting(deaf.Local)
		c.Close()
		r.find(t, func(x *tracer.Transition) bool { return x.Cookie == c.Cookie && x.Reason == tracer.ReasonGivenUp })
		var got []tracer.Reason
		for _, x := range r.snapshot() {
			if x.Cookie == c.Cookie && x.To == tracer.Closed {
				got = append(got, x.Reason)
			}
		}
		if want := []tracer.Reason{tracer.ReasonRefused, tracer.ReasonRefused, tracer.ReasonGivenUp}; !slices.Equal(got, want) {
			t.Errorf("ended %v, want %v", got, want)
		}
	})
}

// A child of TCP Fast Open is closed before its handshake is over, and then gets an RST. That is
// no RST of ours (tcp_check_req()).
func TestFastOpenReset(t *testing.T) {
	t.Parallel()
	ns, r := record(t)
	f := sandbox.Families[0]
	ns.Sysctl("tcp_fastopen", "519") // client and server, without Fast Open cookies
	l := ns.Socket(f).Bind(0)
	l.Set(unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 5)
	l.Listen()
	l.OnlySYN() // the child inherits the filter, and does not receive the ACK
	c := ns.Socket(f)
	c.FastOpen(l.Local)
	s := l.Accept()
	s.Read()
	seq := c.Sequence()
	c.DropIncoming(false) // it acknowledges nothing any more
	s.LetIncoming()
	s.Close()
	x := r.find(t, func(x *tracer.Transition) bool { return x.Cookie == s.Cookie && x.To == tracer.FinWait1 })
	ns.Send(c.Local, l.Local, sandbox.RST, seq, 0)

	end := r.chain(x.Cookie).last()
	if end.Reason != tracer.ReasonReset || end.From != tracer.FinWait1 {
		t.Errorf("ended as\n%v, want reset in FIN_WAIT_1", chain{end})
	}
	if n := ns.Counter("Tcp.OutRsts"); n != 0 {
		t.Errorf("the kernel sent %d RSTs: this tests something else", n)
	}
}

// Sockets close in random ways where there is room for few TIME_WAITs. An overflow is said as
// often as the kernel counts one, and no more RSTs are claimed than it sends.
func TestRandomClosesAtTheLimit(t *testing.T) {
	t.Parallel()
	ns, r := record(t)
	f := sandbox.Families[0]
	const workers, each = 4, 250
	ns.Sysctl("tcp_max_tw_buckets", "60")
	ns.Sysctl("tcp_fin_timeout", "1")
	ns.Sysctl("ip_local_port_range", "1024 65535")
	before, err := shared.tracer.Stats()
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	for w := range workers {
		wait.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 14))
			l := ns.Socket(f).Bind(0).Listen()
			for range each {
				c := ns.Socket(f).Connect(l.Local)
				closeRandomly(rnd, c, l.Accept())
			}
		})
	}
	wait.Wait()
	ns.Sysctl("tcp_max_tw_buckets", "60")
	var said int
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		said = 0
		all := r.snapshot()
		for _, x := range all {
			if x.Reason == tracer.ReasonTimeWaitOverflow {
				said++
			}
		}
		counted := ns.Counter("TcpExt.TCPTimeWaitOverflow")
		after, err := shared.tracer.Stats()
		if err != nil {
			t.Fatal(err)
		}
		lost := int(after.Lost.Total() - before.Lost.Total())
		claimed, sent := resets(all), ns.Counter("Tcp.OutRsts")
		if said >= counted-lost && said <= counted && claimed <= sent && counted > 0 {
			t.Logf("%d overflows, the kernel counts %d; %d RSTs claimed of %d; %d lost", said, counted, claimed, sent, lost)
			return
		}
		if said > counted || claimed > sent || time.Now().After(deadline) {
			t.Fatalf("%d overflows, the kernel counts %d; %d RSTs claimed of %d; %d lost", said, counted, claimed, sent, lost)
		}
	}
}

// closeRandomly closes both ends of a connection.
func closeRandomly(rnd *rand.Rand, a, b *sandbox.Sock) {
	if rnd.IntN(2) == 0 {
		a, b = b, a
	}
	for range rnd.IntN(3) {
		switch rnd.IntN(5) {
		case 0:
			a.Write()
		case 1:
			a.ShutdownWrite()
			if rnd.IntN(2) == 0 {
				b.ShutdownWrite()
			}
			b.Close()
			a.Close()
			return
		case 2:
			_ = a.TrySet(unix.IPPROTO_TCP, unix.TCP_LINGER2, -1)
		case 3:
			a.ShutdownWrite()
			b.Write()
			a.Close()
			b.Close()
			return
		case 4:
			time.Sleep(time.Duration(rnd.IntN(1000)) * time.Microsecond)
		}
	}
	if rnd.IntN(5) == 0 {
		a.Reset()
	}
	a.Close()
	if rnd.IntN(3) == 0 {
		time.Sleep(time.Duration(rnd.IntN(1000)) * time.Microsecond)
	}
	b.Close()
}
