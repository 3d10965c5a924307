package load

import (
	"context"
	"math"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"finwait/internal/sandbox"

	"golang.org/x/sys/unix"
)

// number is a prime, so that workers have unequal shares.
const number = 97

// Each way of closing leaves the right number of TIME_WAITs, as the kernel counts them.
func TestRun(t *testing.T) {
	const timeWait = 6 // TCP_TIME_WAIT, include/net/tcp_states.h
	for closer, waits := range map[Closer]int{Client: number, Server: number, Reset: 0} {
		for _, hold := range []time.Duration{0, 3 * time.Millisecond} {
			t.Run(closer.String()+" "+hold.String(), func(t *testing.T) {
				t.Parallel()
				ns := sandbox.New(t)
				var done atomic.Int64
				sum, err := Run(t.Context(), Config{Count: number, Hold: hold, Closer: closer, NetNS: ns.Path(), Workers: 3}, &done)
				if err != nil || sum.Made != number || len(sum.Failed) > 0 || sum.Connect.Count() != number || done.Load() != number {
					t.Fatalf("%+v, %d done, %v", sum, done.Load(), err)
				}
				if n := ns.Counter("Tcp.ActiveOpens"); n != number {
					t.Errorf("the kernel counts %d connections", n)
				}
				// If an end is closed while the peer's FIN is being processed, its FIN_WAIT_2
				// may still be a full socket.
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
	ns := sandbox.New(t)
	sum, err := Run(t.Context(), Config{Count: number, Closer: Both, NetNS: ns.Path()}, nil)
	if err != nil || sum.Made != number {
		t.Fatalf("%+v, %v", sum, err)
	}
}

// The server is not ours: one closes at once, and one port has no server.
func TestConnect(t *testing.T) {
	ns := sandbox.New(t)
	v4 := sandbox.Families[0]
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

// Connections are never faster than the rate.
func TestRate(t *testing.T) {
	ns := sandbox.New(t)
	sum, err := Run(t.Context(), Config{Count: number, Rate: 500, NetNS: ns.Path(), Workers: 2}, nil)
	if err != nil || sum.Made != number {
		t.Fatalf("%+v, %v", sum, err)
	}
	// The limiter starts with 5 connections, which are 10 ms at that rate.
	if least := (number - 5) * time.Second / 500; sum.Elapsed < least {
		t.Errorf("%d connections in %v at 500/s: %v is the least", number, sum.Elapsed, least)
	}
}

// When ctx is done Run ends, whatever it waits for, and has closed its connections.
func TestInterrupted(t *testing.T) {
	v4 := sandbox.Families[0]
	for name, c := range map[string]struct {
		cfg    Config
		server func(*sandbox.NS) netip.AddrPort // nil: own listeners
	}{
		"the rate": {Config{Rate: 10}, nil},
		"the hold": {Config{Hold: time.Hour}, nil},
		"an answer": {Config{}, func(ns *sandbox.NS) netip.AddrPort {
			ln := ns.Socket(v4).Bind(0).Listen()
			ln.DropIncoming(false)
			return ln.Local
		}},
		"the server": {Config{Closer: Server}, func(ns *sandbox.NS) netip.AddrPort { return ns.Socket(v4).Bind(0).Listen().Local }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := sandbox.New(t)
			cfg := c.cfg
			cfg.Count, cfg.Workers, cfg.NetNS = 10000, 2, ns.Path()
			if c.server != nil {
				cfg.Connect = c.server(ns)
			}
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(50*time.Millisecond, cancel)
			var done atomic.Int64
			began := time.Now()
			sum, err := Run(ctx, cfg, &done)
			if err != nil || sum.Made > cfg.MaxOpen() || len(sum.Failed) > 0 || done.Load() != int64(sum.Made) {
				t.Errorf("%+v, %d done, %v", sum, done.Load(), err)
			}
			// Run promises a second, but the machine may be busy.
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("it ended after %v", took)
			}
		})
	}
}

func TestCeiling(t *testing.T) {
	c := Config{Workers: 2, Hold: 4 * time.Second}
	if got := c.Ceiling(); got != 128 {
		t.Errorf("%d open at a time, each for %v: %v a second, want 128", c.MaxOpen(), c.Hold, got)
	}
	if got := (&Config{}).Ceiling(); !math.IsInf(got, 1) {
		t.Errorf("without hold: %v a second", got)
	}
}

// The zone of a link-local address is a device's name or index.
func TestZone(t *testing.T) {
	for name, want := range map[string]uint32{"": 0, "1": 1, "lo": 1} {
		if got, err := zone(name); err != nil || got != want {
			t.Errorf("zone %q: %d, %v; want %d", name, got, err, want)
		}
	}
	if got, err := zone("nosuchdevice"); err == nil {
		t.Errorf("a zone that is not there: %d", got)
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
