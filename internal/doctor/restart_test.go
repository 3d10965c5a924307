package doctor

import (
	"net/netip"
	"testing"
	"time"
)

// blocked is a listener without SO_REUSEADDR whose port has so many connections.
func blocked(open, minisocks uint64, change func(*Listener)) func(*Space) {
	l := Listener{Local: netip.MustParseAddrPort("0.0.0.0:8080"), Owner: Process{PID: 3, Comm: "server"}, Limit: 128, OptionsKnown: true,
		Held: Holding{Open: open, Minisock: minisocks}}
	if minisocks > 0 {
		l.Held.Left = 58 * time.Second
	}
	if change != nil {
		change(&l)
	}
	return listener(l)
}

func init() {
	for name, sc := range map[string]scenario{
		"a restart that TIME_WAITs block":     {input(quiet(blocked(0, 3, nil))), "restart-needs-reuseaddr risk"},
		"a restart that connections block":    {input(quiet(blocked(1, 0, nil))), "restart-needs-reuseaddr risk"},
		"a restart that both block":           {input(quiet(blocked(40, 7, nil))), "restart-needs-reuseaddr risk"},
		"a restart that nothing blocks":       {input(quiet(blocked(0, 0, nil))), ""},
		"a restart with SO_REUSEADDR":         {input(quiet(blocked(40, 7, func(l *Listener) { l.ReuseAddr = true }))), ""},
		"a restart with SO_REUSEPORT":         {input(quiet(blocked(40, 7, func(l *Listener) { l.ReusePort = true }))), ""},
		"a restart of which nothing is known": {input(quiet(blocked(40, 7, func(l *Listener) { l.OptionsKnown = false }))), ""},
	} {
		scenarios[name] = sc
	}
}

// A listener's connections are those that its address takes.
func TestTakes(t *testing.T) {
	at := netip.MustParseAddrPort
	for _, c := range []struct {
		listens string
		v6Only  bool
		local   string
		want    bool
	}{
		{"10.0.0.1:80", false, "10.0.0.1:80", true},
		{"10.0.0.1:80", false, "10.0.0.1:81", false},
		{"10.0.0.1:80", false, "10.0.0.2:80", false},
		{"0.0.0.0:80", false, "10.0.0.2:80", true},
		{"0.0.0.0:80", false, "[::1]:80", false},
		{"[::]:80", false, "[::1]:80", true},
		{"[::]:80", false, "10.0.0.2:80", true},
		{"[::]:80", true, "[::1]:80", true},
		{"[::]:80", true, "10.0.0.2:80", false},
		{"[::1]:80", false, "[::1]:80", true},
		{"[::1]:80", false, "127.0.0.1:80", false},
	} {
		l := Listener{Local: at(c.listens), V6Only: c.v6Only}
		if got := l.takes(at(c.local)); got != c.want {
			t.Errorf("%s, IPv6 only %v, takes %s: %v", c.listens, c.v6Only, c.local, got)
		}
	}
	l := Listener{Local: at("0.0.0.0:80")}
	l.hold(map[netip.AddrPort]*Holding{at("10.0.0.1:80"): {Open: 1, Minisock: 2, Left: 3}, at("10.0.0.2:80"): {Minisock: 4, Left: 2}, at("10.0.0.2:81"): {Open: 9}})
	if want := (Holding{Open: 1, Minisock: 6, Left: 3}); l.Held != want {
		t.Errorf("%+v, want %+v", l.Held, want)
	}
}
