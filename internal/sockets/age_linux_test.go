package sockets

import (
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/tracer"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// read lists the sockets of a namespace by cookie.
func read(t *testing.T, n *sandbox.NS, need Need) map[uint64]Row {
	t.Helper()
	sel, err := Select(tracer.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	log := zerolog.Nop()
	r := &Reader{sel: sel, log: &log, need: need, paths: map[uint32]string{n.Inode: n.Path()}}
	r.findOwners(&Options{Need: need})
	all := make(map[uint64]Row)
	if err := r.Each(func(row *Row) error { all[row.Cookie] = *row; return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

// A span is when something happened: not before from, and not after to.
type span struct{ from, to time.Time }

func during(do func()) span {
	from := time.Now()
	do()
	return span{from, time.Now()}
}

// The state began during began, and what dates it happened last during dated. The age that is read
// is never more than the true one, and less only by what the kernel's ticks hide.
func checkAge(t *testing.T, what string, n *sandbox.NS, s *sandbox.Sock, state tracer.State, began, dated span) {
	t.Helper()
	var row Row
	reading := during(func() { row = read(t, n, NeedInfo)[s.Cookie] })
	age, p := row.Age()
	known := p != tracer.PrecisionUnknown
	if row.TCPState() != state || !known {
		t.Errorf("%s: in %v, age %v, known %v", what, row.TCPState(), age, known)
		return
	}
	if most := reading.to.Sub(began.from); age > most {
		t.Errorf("%s: %v old at least, but it is only %v old", what, age, most)
	}
	ticks := 2*time.Second/time.Duration(tick()) + 2*time.Millisecond
	if least := reading.from.Sub(dated.to) - ticks; age < least {
		t.Errorf("%s: %v old at least, and it could be known that it is %v old", what, age, least)
	}
}

const while = 150 * time.Millisecond // many ticks

// What tcp_info says of the age is never too much, whatever was sent and received before and since.
func TestAgesAreAtLeast(t *testing.T) {
	for _, f := range sandbox.Families {
		n := sandbox.New(t)
		var p *sandbox.Pair
		opened := during(func() { p = n.Pair(f) })
		time.Sleep(while)
		checkAge(t, "an idle client", n, p.Client, tracer.Established, opened, opened)
		checkAge(t, "an idle server", n, p.Server, tracer.Established, opened, opened)
		sent := during(func() { p.Server.Write(); p.Client.Read() })
		time.Sleep(while)
		checkAge(t, "a client that has received", n, p.Client, tracer.Established, opened, opened)
		checkAge(t, "a server that has sent", n, p.Server, tracer.Established, opened, sent)

		closed := during(func() {
			p.Client.ShutdownWrite()
			p.Client.WaitState(unix.BPF_TCP_FIN_WAIT2)
			p.Server.WaitState(unix.BPF_TCP_CLOSE_WAIT)
		})
		time.Sleep(while)
		checkAge(t, "a FIN was sent", n, p.Client, tracer.FinWait2, closed, closed)
		checkAge(t, "a FIN was received", n, p.Server, tracer.CloseWait, closed, closed)
		later := during(func() {
			p.Server.Write()
			p.Client.Read()
			p.Server.Wait("the acknowledgment", func(i *unix.TCPInfo) bool { return i.Unacked == 0 })
		})
		time.Sleep(while)
		checkAge(t, "data was received since", n, p.Client, tracer.FinWait2, closed, later)
		checkAge(t, "data was sent since", n, p.Server, tracer.CloseWait, closed, later)

		// What an earlier state left in tcp_info would make LAST_ACK look old.
		p.Client.DropIncoming(false)
		p.Server.Close()
		row := read(t, n, NeedInfo)[p.Server.Cookie]
		if age, known := row.leastAge(); row.TCPState() != tracer.LastAck || known || !row.Info.Known || row.Info.AckReceived < while {
			t.Errorf("%v, age %v, known %v, of %+v", row.TCPState(), age, known, row.Info)
		}
	}
}

// Both ends have sent a FIN that was lost. One of them receives the other's when it comes again.
func TestAgeOfClosing(t *testing.T) {
	n := sandbox.New(t)
	p := n.Pair(sandbox.Families[0])
	p.Client.DropIncoming(false)
	p.Server.DropIncoming(false)
	p.Client.ShutdownWrite()
	p.Server.ShutdownWrite()
	time.Sleep(while)
	closed := during(func() {
		p.Server.LetIncoming()
		p.Server.WaitState(unix.BPF_TCP_CLOSING)
	})
	// The client may send its FIN again at any time, and it acknowledges something each time.
	checkAge(t, "a lost FIN has come", n, p.Server, tracer.Closing, closed, span{time.Now(), time.Now()})
}

// A FIN that came before the data in front of it does not begin CLOSE_WAIT. The data do.
func TestCloseWaitOfAFINOutOfOrder(t *testing.T) {
	f := sandbox.Families[0]
	n := sandbox.New(t)
	p := n.Pair(f)
	const finAck = 0x11
	n.Send(p.Client.Local, p.Server.Local, finAck, p.Client.Sequence()+1, p.Server.Sequence())
	time.Sleep(while)
	if row := read(t, n, NeedInfo)[p.Server.Cookie]; row.TCPState() != tracer.Established {
		t.Fatalf("%v before the data", row.TCPState())
	}
	closed := during(func() {
		p.Client.Write()
		p.Server.WaitState(unix.BPF_TCP_CLOSE_WAIT)
	})
	time.Sleep(while)
	checkAge(t, "data was missing", n, p.Server, tracer.CloseWait, closed, closed)
}

// The one age that is too great, as docs/limitations.md says: an acknowledgment that the peer sent
// after its FIN arrives before it. Nothing in tcp_info tells of the FIN then.
func TestCloseWaitOfAnOvertakenFIN(t *testing.T) {
	n := sandbox.New(t)
	p := n.Pair(sandbox.Families[0])
	const ack, finAck = 0x10, 0x11
	fin, unacked := p.Client.Sequence(), p.Server.Sequence()
	p.Client.DropIncoming(false)
	p.Server.Write()
	n.Send(p.Client.Local, p.Server.Local, ack, fin+1, unacked+1)
	p.Server.Wait("the acknowledgment", func(i *unix.TCPInfo) bool { return i.Unacked == 0 })
	time.Sleep(while)
	n.Send(p.Client.Local, p.Server.Local, finAck, fin, unacked)
	p.Server.WaitState(unix.BPF_TCP_CLOSE_WAIT)
	row := read(t, n, NeedInfo)[p.Server.Cookie]
	if age, known := row.leastAge(); !known || age < while/2 {
		t.Errorf("age %v: the FIN that was overtaken is dated; docs/limitations.md says that it is not", age)
	}
}

// The timer of a TIME_WAIT starts again with what re-arms it.
func TestAgeOfTimeWait(t *testing.T) {
	n := sandbox.New(t)
	p := n.Pair(sandbox.Families[0])
	closed := during(func() {
		p.Client.Orphan()
		p.Server.Close()
		for n.States()[unix.BPF_TCP_TIME_WAIT] == 0 {
			time.Sleep(time.Millisecond)
		}
	})
	time.Sleep(while)
	checkAge(t, "a minisock", n, p.Client, tracer.TimeWait, closed, closed)
}

func TestIdle(t *testing.T) {
	n := sandbox.New(t)
	p := n.Pair(sandbox.Families[0])
	other := n.Socket(sandbox.Families[0]).Connect(p.Listener.Local)
	sent := during(func() { p.Server.Write(); p.Client.Read() })
	time.Sleep(while)
	var rows map[uint64]Row
	reading := during(func() { rows = read(t, n, NeedInfo) })
	tick := time.Second / time.Duration(tick())
	for name, s := range map[string]*sandbox.Sock{"sent": p.Server, "received": p.Client, "neither": other} {
		row := rows[s.Cookie]
		idle, known := row.Idle()
		least, most := reading.from.Sub(sent.to)-tick, reading.to.Sub(sent.from)+tick+time.Millisecond
		if !known || idle < least || s != other && idle > most {
			t.Errorf("%s: idle for %v, known %v; want %v to %v", name, idle, known, least, most)
		}
	}
	row := rows[p.Listener.Cookie]
	if idle, known := row.Idle(); known {
		t.Errorf("a listener is idle for %v", idle)
	}
	if row := read(t, n, 0)[p.Client.Cookie]; row.Info.Known {
		t.Error("tcp_info was read, and nobody had asked for it")
	}
}

// Nobody has accepted it: it is queued, and a server's, whatever its peer did since.
func TestQueued(t *testing.T) {
	for _, f := range sandbox.Families {
		n := sandbox.New(t)
		p := n.Pair(f)
		gone := n.Socket(f).Connect(p.Listener.Local)
		n.Socket(f).Connect(p.Listener.Local)
		gone.Orphan()
		states := make(map[tracer.State]int)
		for cookie, row := range read(t, n, NeedInfo) {
			queued, known := row.Queued()
			if !known {
				t.Errorf("it is not known whether %+v is queued", row)
			}
			if !queued {
				if row.Local.Port() == p.Listener.Local.Port() && cookie != p.Listener.Cookie && cookie != p.Server.Cookie {
					t.Errorf("not queued: %+v", row)
				}
				continue
			}
			states[row.TCPState()]++
			if row.held() != "queued" || row.Role() != tracer.RoleServer {
				t.Errorf("%q and %q: %+v", row.held(), row.Role(), row)
			}
		}
		listener := read(t, n, 0)[p.Listener.Cookie]
		if recv, send, known := listener.Queues(); recv != 2 || send != 128 || !known {
			t.Errorf("%d of %d wait, known %v", recv, send, known)
		}
		if len(states) != 2 || states[tracer.Established] != 1 || states[tracer.CloseWait] != 1 {
			t.Errorf("queued: %v", states)
		}
	}
}

// A subflow of MPTCP without a file may be one that was closed: what it waits for is not known.
func TestQueuedOfMPTCP(t *testing.T) {
	n := sandbox.New(t)
	f := sandbox.Families[0]
	l := n.MPTCP(f).BindAny().Listen()
	n.MPTCP(f).Connect(sandbox.At(f, l.Local.Port()))
	waiting := 0
	for _, row := range read(t, n, NeedInfo) {
		if row.Local.Port() != l.Local.Port() || row.TCPState() != tracer.Established {
			continue
		}
		waiting++
		if queued, known := row.Queued(); known || row.held() != "" || row.Role() != tracer.RoleUnknown {
			t.Errorf("queued %v is said to be known of %+v", queued, row)
		}
	}
	if waiting != 1 {
		t.Errorf("%d subflows wait", waiting)
	}
}

// The descriptor is the owner's.
func TestFD(t *testing.T) {
	n := sandbox.New(t)
	p := n.Pair(sandbox.Families[0])
	defer p.Client.File().Close() // a second descriptor
	rows := read(t, n, NeedOwners)
	for name, s := range map[string]*sandbox.Sock{"listener": p.Listener, "client": p.Client, "server": p.Server} {
		row := rows[s.Cookie]
		lowest := uint32(0)
		var st unix.Stat_t
		for unix.Fstat(int(lowest), &st) != nil || st.Ino != row.Inode {
			if lowest++; lowest > 1000 {
				t.Fatalf("%s: no descriptor below 1000 has inode %d", name, row.Inode)
			}
		}
		if row.FD != lowest || row.Owner.PID != uint32(unix.Getpid()) {
			t.Errorf("%s: descriptor %d of %d, want %d", name, row.FD, row.Owner.PID, lowest)
		}
	}
}

// What waits for an answer that does not come counts its retransmissions.
func TestRetransmits(t *testing.T) {
	n := sandbox.New(t)
	p := n.Pair(sandbox.Families[0])
	p.Server.DropIncoming(false)
	p.Client.Write()
	p.Client.Wait("two retransmissions", func(i *unix.TCPInfo) bool { return i.Retransmits >= 2 })
	row := read(t, n, NeedInfo)[p.Client.Cookie]
	before := uint8(2)
	after := p.Client.Info().Retransmits
	again, known := row.Retransmits()
	if _, send, _ := row.Queues(); !known || again < before || again > after || send != 1 {
		t.Errorf("sent %d times again, known %v, want %d to %d; %d bytes are not acknowledged", again, known, before, after, send)
	}
	if probes, known := row.Probes(); known {
		t.Errorf("%d probes of a timer for retransmissions", probes)
	}
	p = n.Pair(sandbox.Families[0])
	p.Client.Fill()
	row = read(t, n, NeedInfo)[p.Client.Cookie]
	if probes, known := row.Probes(); !known || probes == 0 || probes > p.Client.Info().Probes {
		t.Errorf("%d probes of a closed window, known %v", probes, known)
	}
}
