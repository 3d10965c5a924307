//go:build linux

package live_test

import (
	"fmt"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"finwait/internal/netns"
	"finwait/internal/sandbox"
	"finwait/internal/sockdiag"
	"finwait/internal/sockets"
	"finwait/internal/test/testnet"
	"finwait/tracer"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// A walkKey is a socket. One that was used again, and its minisock, have one cookie.
type walkKey struct {
	cookie   uint64
	minisock bool
}

// listed are the sockets of namespaces, with all that can be asked of them but their cookies: by
// sock_diag, or by a walk.
func listed(t *testing.T, spaces []netns.NS, walk bool) (rows map[walkKey]sockets.Row, twice int) {
	t.Helper()
	sel, err := sockets.Select(tracer.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	log := zerolog.Nop()
	o := sockets.Options{NetNS: spaces, Need: sockets.NeedInfo | sockets.NeedOwners | sockets.NeedListeners | sockets.NeedPorts}
	made := false
	if walk {
		o.Walk = func() (sockets.Walk, error) {
			made = true
			w, err := tracer.NewSocketWalk()
			if err != nil {
				t.Fatal(err) // sock_diag would list them
			}
			return w, nil
		}
	}
	r, err := sockets.NewReader(sel, o, &log)
	if err != nil {
		t.Fatal(err)
	}
	rows = make(map[walkKey]sockets.Row)
	if err := r.Each(func(r *sockets.Row) error {
		key := walkKey{r.Cookie, r.Kind == sockdiag.Minisock}
		if _, known := rows[key]; known {
			twice++
		}
		rows[key] = *r
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if made != walk {
		t.Fatalf("walked: %v, want %v", made, walk)
	}
	return rows, twice
}

// crowded makes namespaces, each with sockets in every state.
func crowded(t *testing.T, n int) (all []*sandbox.NS, spaces []netns.NS) {
	t.Helper()
	for range n {
		ns := sandbox.New(t)
		testnet.Fill(t, ns, testnet.Loopback()...)
		all, spaces = append(all, ns), append(spaces, netns.NS{Path: ns.Path(), Inode: ns.Inode, Cookie: ns.Cookie})
	}
	return all, spaces
}

// compareWalked compares a socket that sock_diag has listed before a walk and after it, the time gap
// or more apart. What has changed meanwhile is not compared. It returns how many values were.
func compareWalked(t *testing.T, before, after, walked sockets.Row, gap time.Duration) (compared int) {
	t.Helper()
	type times struct{ left, sent, received, acked time.Duration }
	take := func(r *sockets.Row) times {
		was := times{r.TimerLeft, r.Info.DataSent, r.Info.DataReceived, r.Info.AckReceived}
		r.TimerLeft, r.Info = 0, sockdiag.Info{Known: r.Info.Known}
		return was
	}
	was, is, got := take(&before), take(&after), take(&walked)
	if reflect.DeepEqual(before.Socket, after.Socket) {
		if !reflect.DeepEqual(before.Socket, walked.Socket) || walked.NetNS != before.NetNS || walked.Owner != before.Owner || walked.FD != before.FD || walked.Scope != before.Scope {
			t.Errorf("sock_diag lists %+v\nand the walk %+v", before, walked)
		}
		compared++
	}
	if before.State != after.State || before.State != walked.State || before.Timer != after.Timer {
		return compared
	}
	// Time that has passed grows, and time that is left shrinks, unless something happens meanwhile.
	const jiffies = 25 * time.Millisecond
	between := func(what string, from, now, to time.Duration) {
		if to-from < gap-jiffies || from > to {
			return
		}
		compared++
		if now < from || now > to {
			t.Errorf("%s of %+v: %v, and sock_diag has %v to %v", what, walked, now, from, to)
		}
	}
	between("timer", is.left, got.left, was.left)
	between("data sent", was.sent, got.sent, is.sent)
	between("data received", was.received, got.received, is.received)
	between("acknowledged", was.acked, got.acked, is.acked)
	return compared
}

// comparePorts compares what is known of the ports of a namespace, in which nothing binds.
func comparePorts(t *testing.T, before, walked sockets.PortSpace) {
	t.Helper()
	if before.Ports() != walked.Ports() {
		t.Errorf("by sock_diag %+v of the ports, by the walk %+v", before.Ports(), walked.Ports())
	}
	was, n := before.Binder()
	if is, m := walked.Binder(); was != is || n != m {
		t.Errorf("by sock_diag %+v holds %d ports, by the walk %+v holds %d", was, n, is, m)
	}
}

// A walk lists what sock_diag lists, in all states and families, in each namespace.
func TestWalkAgreesWithSockDiag(t *testing.T) {
	t.Parallel()
	testnet.Attempts(t, walkAgrees)
}

// walkAgrees fails if it does not. It returns why there was too little to compare: on a slow machine
// what has a timer ends between two listings.
func walkAgrees(t *testing.T) (why string) {
	all, spaces := crowded(t, 4)
	for i, ns := range all {
		f := sandbox.Families[i%len(sandbox.Families)]
		unread := ns.Pair(f)
		unread.Client.Write()
		unread.Client.Write()
		unread.Server.Wait("two bytes", func(i *unix.TCPInfo) bool { return i.Bytes_received == 2 })
		unanswered := ns.Pair(f)
		unanswered.Server.DropIncoming(false)
		unanswered.Client.Write()
		unanswered.Client.Wait("a retransmission", func(i *unix.TCPInfo) bool { return i.Retransmits > 0 })
		if !testing.Short() { // it takes long on slow machines
			ns.Pair(f).Client.Fill() // a zero window
		}
		ns.Pair(f).Client.Set(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
		others := ns.Pair(f).Client.File()
		if err := others.Chown(1234, -1); err != nil {
			t.Fatal(err)
		}
		others.Close()
		for range 3 {
			ns.Socket(f).Bind(0)
		}
		local := ns.LinkLocal()
		// The kernel adds the address a moment later.
		for deadline := time.Now().Add(20 * time.Second); ns.Socket(local).TryBind(0) != nil && time.Now().Before(deadline); {
			time.Sleep(5 * time.Millisecond)
		}
		ns.Pair(local)
	}
	before, _ := listed(t, spaces, false) // and every socket has a cookie
	began := time.Now()
	walked, twice := listed(t, spaces, true)
	gap := time.Since(began)
	after, _ := listed(t, spaces, false)
	if twice > 0 {
		t.Errorf("%d sockets were listed twice", twice)
	}
	states, compared := make(map[string]int), 0
	for key, row := range walked {
		was, ok := before[key]
		is, still := after[key]
		if !ok && !still {
			t.Errorf("the walk alone lists %+v", row)
		}
		if !ok || !still {
			continue
		}
		compared += compareWalked(t, was, is, row, gap)
		comparePorts(t, was.PortSpace(), row.PortSpace())
		if _, m := row.PortSpace().Binder(); row.PortSpace().Ports().HeldKnown && m < 3 {
			t.Errorf("a process holds %d ports, want 3 or more", m)
		}
		states[fmt.Sprint(row.TCPState(), row.Kind)]++
	}
	for key, row := range before {
		_, ok := walked[key]
		if _, still := after[key]; still && !ok {
			t.Errorf("the walk does not list %+v", row)
		}
	}
	if len(states) != 12 { // 11 states, FIN_WAIT_2 twice
		return fmt.Sprintf("not every state was compared: %v", states)
	}
	if compared < 2*len(walked) {
		return fmt.Sprintf("%d values of %d sockets were compared", compared, len(walked))
	}
	return ""
}

// What stays is listed while other sockets come and go, and nothing of them is said of it.
func TestWalkUnderChurn(t *testing.T) {
	t.Parallel()
	all, spaces := crowded(t, 4)
	stop := make(chan struct{})
	var connections atomic.Int64
	churning := make(map[uint16]bool) // a value that changes and changes back cannot be told from one that stays
	for _, ns := range all[:2] {
		f := sandbox.Families[0]
		l := ns.Socket(f).Bind(0).Listen()
		churning[l.Local.Port()] = true
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				select {
				case <-stop:
					return
				default:
				}
				if s := ns.Socket(f); s.TryConnect(l.Local) == nil {
					l.Accept().Close()
					s.Close()
					connections.Add(1)
				}
			}
		}()
		defer func() { <-done }()
	}
	defer close(stop)
	rounds := 5
	if testing.Short() {
		rounds = 1 // it takes long on emulated machines
	}
	for range rounds {
		before, _ := listed(t, spaces, false)
		began := time.Now()
		walked, _ := listed(t, spaces, true)
		gap := time.Since(began)
		after, _ := listed(t, spaces, false)
		for _, row := range walked {
			if row.TCPState() == tracer.Closed {
				t.Errorf("a socket that has left the table is listed: %+v", row)
			}
		}
		compared := 0
		for key, was := range before {
			is, still := after[key]
			if !still || was.State != is.State || churning[was.Local.Port()] || churning[was.Remote.Port()] {
				continue
			}
			row, ok := walked[key]
			if !ok {
				t.Errorf("the walk does not list %+v", was)
				continue
			}
			compared += compareWalked(t, was, is, row, gap)
		}
		if compared < 100 {
			t.Errorf("%d values were compared", compared)
		}
	}
	if connections.Load() == 0 {
		t.Error("no connection came and went")
	}
}

// Whoever binds more sockets to a port than the walk has room for does not keep anything from being
// told: sock_diag lists them.
func TestWalkOfAFullBucket(t *testing.T) {
	t.Parallel()
	all, spaces := crowded(t, 4)
	const many = 2100
	all[0].Try(func() error {
		for range many {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			t.Cleanup(func() { unix.Close(fd) })
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
				return err
			}
			if err := unix.Bind(fd, &unix.SockaddrInet4{Port: 40000}); err != nil {
				return err
			}
		}
		return nil
	})
	before, _ := listed(t, spaces, false)
	walked, _ := listed(t, spaces, true)
	for key, was := range before {
		if row, ok := walked[key]; ok {
			comparePorts(t, was.PortSpace(), row.PortSpace())
		}
	}
	for _, row := range walked {
		if p := row.PortSpace(); row.NetNS == all[0].Inode && p.Ports().HeldKnown && !p.Held(40000) {
			t.Fatalf("port 40000 is held, and that is not said: %+v", p.Ports())
		}
	}
}
