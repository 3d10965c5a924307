package load

import (
	"context"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"finwait/internal/testnet"

	"golang.org/x/sys/unix"
)

// number is a prime, so that no share of it is a round one.
const number = 97

// Each way of closing leaves what it must, by the kernel's own count.
func TestRun(t *testing.T) {
	const timeWait = 6 // TCP_TIME_WAIT, include/net/tcp_states.h
	for closer, waits := range map[Closer]int{Client: number, Server: number, Reset: 0} {
		for _, hold := range []time.Duration{0, 3 * time.Millisecond} {
			t.Run(closer.String()+" "+hold.String(), func(t *testing.T) {
				t.Parallel()
				ns := testnet.NewNS(t)
				var done atomic.Int64
				sum, err := Run(t.Context(), Config{Count: number, Hold: hold, Closer: closer, NetNS: ns.Path(), Workers: 3}, &done)
				if err != nil || sum.Made != number || len(sum.Failed) > 0 || sum.Connect.Count() != number || done.Load() != number {
					t.Fatalf("%+v, %d done, %v", sum, done.Load(), err)
				}
				if n := ns.Counter("Tcp.ActiveOpens"); n != number {
					t.Errorf("the kernel counts %d connections", n)
				}
				// Of an end that is closed while the other's FIN is being handled the FIN_WAIT_2 may be a full socket still.
				seen := ns.States()
				for range 100 {
					if seen[timeWait] == waits {
						break
					}
					time.Sleep(10 * time.Millisecond)
					seen = ns.States()
				}
				if seen[timeWait] != waits {
					t.Errorf("%d in TIME_WAIT, want %d: %v", seen[timeWait], waits, seen)
				}
			})
		}
	}
}

func TestBoth(t *testing.T) {
	ns := testnet.NewNS(t)
	sum, err := Run(t.Context(), Config{Count: number, Closer: Both, NetNS: ns.Path()}, nil)
	if err != nil || sum.Made != number {
		t.Fatalf("%+v, %v", sum, err)
	}
}

// A server that is not ours: one that closes at once, and a port without one.
func TestConnect(t *testing.T) {
	ns := testnet.NewNS(t)
	v4 := testnet.Families[0]
	bound, ln := ns.Socket(v4).Bind(0), ns.Socket(v4).Bind(0).Listen()
	go func() {
		for range number {
			ln.Accept().Close()
		}
	}()
	sum, err := Run(t.Context(), Config{Count: number, Closer: Server, Connect: ln.Local, NetNS: ns.Path(), Workers: 2}, nil)
	if err != nil || sum.Made != number {
		t.Errorf("a server: %+v, %v", sum, err)
	}
	sum, err = Run(t.Context(), Config{Count: number, Connect: bound.Local, NetNS: ns.Path()}, nil)
	if err != nil || sum.Made != 0 || sum.Failed[unix.ECONNREFUSED] != number {
		t.Errorf("no server: %+v, %v", sum, err)
	}
}

// A rate is a bound: whatever the machine does, it is not faster.
func TestRate(t *testing.T) {
	ns := testnet.NewNS(t)
	sum, err := Run(t.Context(), Config{Count: number, Rate: 500, NetNS: ns.Path(), Workers: 2}, nil)
	if err != nil || sum.Made != number {
		t.Fatalf("%+v, %v", sum, err)
	}
	// The first 5 are there from the beginning: 10 ms at that rate.
	if least := (number - 5) * time.Second / 500; sum.Elapsed < least {
		t.Errorf("%d connections in %v at 500/s: %v is the least", number, sum.Elapsed, least)
	}
}

func TestInterrupted(t *testing.T) {
	ns := testnet.NewNS(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	sum, err := Run(ctx, Config{Count: 1000, Rate: 10, NetNS: ns.Path()}, nil)
	if err != nil || sum.Made >= 1000 {
		t.Errorf("%+v, %v", sum, err)
	}
}

func TestParse(t *testing.T) {
	for s, want := range map[string]float64{"200/s": 200, "0.5": 0.5, "30/m": 0.5, "max": 0} {
		if got, err := ParseRate(s); err != nil || got != want {
			t.Errorf("rate %q: %v, %v; want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "0", "-1/s", "fast", "10/h", "1e99", "NaN"} {
		if got, err := ParseRate(s); err == nil {
			t.Errorf("rate %q: %v", s, got)
		}
	}
	for _, c := range []Closer{Client, Server, Both, Reset} {
		if got, err := ParseCloser(c.String()); err != nil || got != c {
			t.Errorf("closer %v: %v, %v", c, got, err)
		}
	}
	if _, err := ParseCloser("nobody"); err == nil {
		t.Error("closer nobody is accepted")
	}
	anybody := netip.MustParseAddrPort("127.0.0.1:9")
	for _, c := range []Config{{}, {Count: 1, Rate: -1}, {Count: 1, Hold: -1}, {Count: 1, Closer: Both, Connect: anybody}} {
		if err := c.Check(); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
}
