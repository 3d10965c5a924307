package sockdiag_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/internal/sockdiag"
	"finwait/internal/test/testnet"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func open(t testing.TB, n *sandbox.NS) *sockdiag.Conn {
	t.Helper()
	var c *sockdiag.Conn
	n.Try(func() (err error) {
		c, err = sockdiag.Open()
		return err
	})
	t.Cleanup(func() { c.Close() })
	if c.NetNS() != n.Inode {
		t.Fatalf("opened in namespace %d, want %d", c.NetNS(), n.Inode)
	}
	return c
}

func list(t testing.TB, c *sockdiag.Conn, states uint32) []sockdiag.Socket {
	t.Helper()
	var all []sockdiag.Socket
	if err := c.List(states, func(s *sockdiag.Socket) error {
		all = append(all, *s)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func census(sockets []sockdiag.Socket) sandbox.Census {
	c := make(sandbox.Census)
	for _, s := range sockets {
		c[s.State]++
	}
	return c
}

// List finds every socket that was made, in every state and family, and obeys its mask.
func TestListFindsEveryState(t *testing.T) {
	n := sandbox.New(t)
	want := testnet.Fill(t, n, testnet.Loopback()...)
	c := open(t, n)

	all := list(t, c, sockdiag.AllStates)
	if d := cmp.Diff(want, census(all)); d != "" {
		t.Errorf("by state: %s", d)
	}
	for state, count := range want {
		if got := census(list(t, c, 1<<state)); got[state] != count || len(got) != 1 {
			t.Errorf("asked for state %d alone: got %v, want %d of it", state, got, count)
		}
	}
	apart := open(t, n)
	apart.ByFamily()
	if d := cmp.Diff(want, census(list(t, apart, sockdiag.AllStates))); d != "" {
		t.Errorf("one family at a time, by state: %s", d)
	}
	if got := list(t, c, 0); len(got) != 0 {
		t.Errorf("asked for no state: got %d sockets", len(got))
	}

	cookies := make(map[uint64]bool)
	for _, s := range all {
		if s.Cookie == 0 || cookies[s.Cookie] {
			t.Errorf("cookie %d is not unique: %+v", s.Cookie, s)
		}
		cookies[s.Cookie] = true
		if s.Local.Addr().Is4In6() || s.Remote.Addr().Is4In6() {
			t.Errorf("a v4-mapped address is shown as such: %+v", s)
		}
		if s.Local.Port() == 0 {
			t.Errorf("no local port: %+v", s)
		}
	}
}

// Each address has three sockets in FIN_WAIT_2: two were made so, and one is the peer of
// LAST_ACK. The orphan is a minisock with a timer. The others have no timer.
func TestFinWait2(t *testing.T) {
	n := sandbox.New(t)
	testnet.Fill(t, n, testnet.Loopback()...)
	c := open(t, n)

	const finWait2, timeWait = 5, 6
	held, orphans := 0, 0
	for _, s := range list(t, c, 1<<finWait2) {
		orphan, known := s.Orphan()
		switch {
		case !known:
			t.Errorf("not known whether it is an orphan: %+v", s)
		case orphan:
			orphans++
			if s.Kind != sockdiag.Minisock || s.Timer != sockdiag.TimeWait || s.TimerLeft <= 0 || s.TimerLeft > time.Minute || s.UIDKnown {
				t.Errorf("orphan: %+v", s)
			}
		default:
			held++
			if s.Kind != sockdiag.Full || s.Timer != sockdiag.NoTimer || s.Inode == 0 || !s.UIDKnown {
				t.Errorf("held: %+v", s)
			}
		}
	}
	if orphans != 3 || held != 6 {
		t.Errorf("%d orphans and %d held, want 3 and 6", orphans, held)
	}
	for _, s := range list(t, c, 1<<timeWait) {
		if s.Kind != sockdiag.Minisock || s.Timer != sockdiag.TimeWait || s.TimerLeft > time.Minute {
			t.Errorf("TIME_WAIT: %+v", s)
		}
	}
}

func TestListStopsWhenToldTo(t *testing.T) {
	n := sandbox.New(t)
	want := testnet.Fill(t, n, testnet.Loopback()...)
	c := open(t, n)

	enough := errors.New("enough")
	calls := 0
	err := c.List(sockdiag.AllStates, func(*sockdiag.Socket) error {
		calls++
		return enough
	})
	if err != enough || calls != 1 {
		t.Errorf("%d calls, then %v", calls, err)
	}
	if d := cmp.Diff(want, census(list(t, c, sockdiag.AllStates))); d != "" {
		t.Errorf("what was left of the first answer disturbs the second: %s", d)
	}
}

func TestDestroy(t *testing.T) {
	n := sandbox.New(t)
	want := testnet.Fill(t, n, testnet.Loopback()...)
	c := open(t, n)

	const finWait2, timeWait = 5, 6
	for _, s := range list(t, c, 1<<finWait2|1<<timeWait) {
		if s.Kind != sockdiag.Minisock {
			continue
		}
		if err := c.Destroy(&s); err != nil {
			t.Error(err)
		}
		want[s.State]--
		if err := c.Destroy(&s); err == nil {
			t.Errorf("destroyed twice: %+v", s)
		}
	}
	delete(want, timeWait)
	if d := cmp.Diff(want, census(list(t, c, sockdiag.AllStates))); d != "" {
		t.Error(d)
	}
}

// Only sockets that are bound and nothing else are listed as bound. A kernel that lists them is
// known to, and a skip is a claim about older ones.
func TestBound(t *testing.T) {
	n := sandbox.New(t)
	var lists bool
	n.Try(func() (err error) {
		lists, err = sockdiag.ListsBound()
		return err
	})
	want := make(map[uint64]uint16)
	for _, f := range sandbox.Families {
		n.Pair(f)
		n.Socket(f)
		connected := n.Socket(f).Bind(0)
		connected.Connect(n.Socket(f).Bind(0).Listen().Local)
		s := n.Socket(f).Bind(0)
		want[s.Cookie] = s.Local.Port()
	}
	got := make(map[uint64]uint16)
	c := open(t, n)
	for _, s := range list(t, c, sockdiag.BoundOnly) {
		got[s.Cookie] = s.Local.Port()
	}
	if !lists {
		if major, minor := release(t); major > 6 || major == 6 && minor >= 8 {
			t.Errorf("Linux %d.%d lists bound sockets, and that was not found out", major, minor)
		}
		want = map[uint64]uint16{}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	all, others := list(t, c, sockdiag.AllStates|sockdiag.BoundOnly), list(t, c, sockdiag.AllStates)
	if len(all) != len(others)+len(want) {
		t.Errorf("%d with those that are only bound, %d without, and there are %d", len(all), len(others), len(want))
	}
}

func release(t *testing.T) (major, minor int) {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	return major, minor
}

func BenchmarkList(b *testing.B) {
	const sockets = 20_000
	n := sandbox.New(b)
	testnet.TimeWaits(b, n, sockets)
	c := open(b, n)
	b.ReportAllocs()
	seen := 0
	for b.Loop() {
		if err := c.List(sockdiag.AllStates, func(*sockdiag.Socket) error { seen++; return nil }); err != nil {
			b.Fatal(err)
		}
	}
	if seen != b.N*(sockets+1) {
		b.Fatalf("saw %d sockets in %d listings of %d", seen, b.N, sockets+1)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(seen), "ns/socket")
}
