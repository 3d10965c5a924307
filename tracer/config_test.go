package tracer

import (
	"errors"
	"net/netip"
	"testing"
	"time"
)

func TestFilterCheck(t *testing.T) {
	prefix := netip.MustParsePrefix
	good := map[string]Filter{
		"nothing":            {},
		"four-way close":     {From: []State{FinWait2}, To: []State{TimeWait}},
		"a state":            {States: []State{TimeWait}},
		"v6 address":         {Addrs: addrs(prefix("fe80::/10")), IPv6: true},
		"both families":      {Addrs: addrs(prefix("fe80::/10"), prefix("10.0.0.0/8")), IPv4: true},
		"any address":        {Addrs: addrs(prefix("fe80::/10"))},
		"longest comm":       {Comms: []string{"123456789012345"}},
		"highest pid":        {PIDs: []uint32{1<<22 - 1}},
		"either port":        {Ports: []PortRange{Port(80), Port(82)}, LocalPorts: []PortRange{Port(81)}, RemotePorts: []PortRange{Port(82), Port(83)}},
		"local port":         {Ports: []PortRange{Port(81)}, LocalPorts: []PortRange{Port(81)}, RemotePorts: []PortRange{Port(82)}},
		"other end":          {Ports: []PortRange{Port(80)}, LocalPorts: []PortRange{Port(81)}},
		"listeners":          {Ports: []PortRange{Port(80)}, LocalPorts: []PortRange{Port(80), Port(81)}, To: []State{Listen}},
		"child of one":       {RemotePorts: []PortRange{Port(80)}, From: []State{Listen}},
		"other states":       {RemotePorts: []PortRange{Port(80)}, From: []State{Listen, SynSent}, To: []State{Closed}},
		"timed":              {From: []State{Closed, SynSent}, MinDuration: time.Second},
		"timed listener":     {From: []State{Listen}, MinDuration: time.Second},
		"ports in part":      {Ports: []PortRange{{80, 90}}, NotPorts: []PortRange{{80, 89}}},
		"not one of two":     {PIDs: []uint32{1, 2}, NotPIDs: []uint32{2}},
		"a listener":         {Role: RoleListener, To: []State{Closed}},
		"a FIN":              {Reasons: []Reason{ReasonFinReceived}, To: []State{CloseWait}},
		"not all of it":      {Addrs: addrs(prefix("10.0.0.0/8")), NotAddrs: addrs(prefix("10.0.0.1/32"))},
		"another port of it": {Addrs: []AddrFilter{{Prefix: prefix("10.0.0.1/32")}}, NotAddrs: []AddrFilter{{Prefix: prefix("10.0.0.1/32"), Port: 1}}},
		"last port":          {Ports: []PortRange{{1, 65535}}},
		"timed ways in":      {To: []State{SynRecv}, MinDuration: time.Second}, // from SYN_SENT
	}
	for name, f := range good {
		if err := f.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}

	never := map[string]Filter{
		"cookie 0":              {Cookies: []uint64{0}},
		"no reason":             {Reasons: []Reason{ReasonNone}},
		"port 0 of several":     {Ports: []PortRange{{0, 80}}},
		"not what is asked":     {Ports: []PortRange{{80, 81}, Port(90)}, NotPorts: []PortRange{{80, 95}}},
		"not the local port":    {LocalPorts: []PortRange{Port(80)}, NotPorts: []PortRange{Port(80)}},
		"not the address":       {Addrs: addrs(prefix("10.0.0.0/8")), NotAddrs: addrs(prefix("10.0.0.0/8"))},
		"not the comm":          {Comms: []string{"a"}, NotComms: []string{"b", "a"}},
		"not pid 0":             {NotPIDs: []uint32{0}},
		"not v4-mapped":         {NotAddrs: addrs(prefix("::ffff:10.0.0.0/104"))},
		"listener's state":      {Role: RoleListener, States: []State{Established}},
		"server's SYN_SENT":     {Role: RoleServer, From: []State{SynSent}},
		"client's LISTEN":       {Role: RoleClient, From: []State{Listen}},
		"reason of no end":      {Reasons: []Reason{ReasonReset}, To: []State{TimeWait}},
		"FIN that ends CLOSING": {Reasons: []Reason{ReasonFinReceived}, From: []State{Closing}},
		"expired too early":     {Reasons: []Reason{ReasonExpired}, From: []State{Established}},
		"not what holds it":     {Addrs: addrs(prefix("10.0.0.1/32")), NotAddrs: addrs(prefix("10.0.0.0/8"))},
		"not any port":          {NotPorts: []PortRange{{1, 65535}}},
		"FIN of an end":         {Reasons: []Reason{ReasonFinReceived}, To: []State{Closed}},
		"impossible edge":       {From: []State{TimeWait}, To: []State{Established}},
		"a state passed over":   {From: []State{FinWait1}, To: []State{TimeWait}},
		"no way to":             {To: []State{NewSynRecv}},
		"never seen":            {States: []State{NewSynRecv}},
		"state off the edge":    {States: []State{Listen}, From: []State{FinWait1}},
		"both families":         {IPv4: true, IPv6: true},
		"address of the other":  {Addrs: addrs(prefix("10.0.0.0/8")), IPv6: true},
		"v4-mapped":             {Addrs: addrs(prefix("::ffff:10.0.0.0/104"))},
		"interface of an IPv4":  {Addrs: []AddrFilter{{Prefix: prefix("10.0.0.0/8"), ScopeID: 1}}},
		"long comm":             {Comms: []string{"1234567890123456"}},
		"empty comm":            {Comms: []string{""}},
		"pid 0":                 {PIDs: []uint32{0}},
		"port 0":                {LocalPorts: []PortRange{Port(0)}},
		"pid too high":          {PIDs: []uint32{1 << 22}},
		"three ports":           {Ports: []PortRange{Port(80)}, LocalPorts: []PortRange{Port(81)}, RemotePorts: []PortRange{Port(82)}},
		"untimed":               {From: []State{Closed}, MinDuration: time.Second},
		"untimed, by the end":   {To: []State{SynSent, Listen}, MinDuration: time.Second},
		"untimed listener":      {From: []State{Listen}, To: []State{SynRecv}, MinDuration: time.Second},
		"untimed state":         {States: []State{SynSent}, From: []State{Closed}, MinDuration: time.Second},
		"no remote port":        {RemotePorts: []PortRange{Port(80)}, To: []State{Listen}},
		"closed listener":       {RemotePorts: []PortRange{Port(80)}, From: []State{Listen}, To: []State{Closed}},
		"listener's port":       {Ports: []PortRange{Port(80)}, LocalPorts: []PortRange{Port(81)}, From: []State{Closed}, To: []State{Listen}},
		"long LISTEN":           {RemotePorts: []PortRange{Port(80)}, From: []State{Listen}, MinDuration: time.Second},
	}
	for name, f := range never {
		if err := f.Check(); !errors.As(err, new(*FilterError)) {
			t.Errorf("%s: %v, want a FilterError", name, err)
		}
	}

	wrong := map[string]Filter{
		"backwards":         {Ports: []PortRange{{90, 80}}},
		"negative duration": {MinDuration: -time.Second},
		"too many":          {Ports: make([]PortRange, FilterMax+1)},
	}
	for name, f := range wrong {
		if err := f.Check(); err == nil || errors.As(err, new(*FilterError)) {
			t.Errorf("%s: %v, want another error", name, err)
		}
	}
}

func addrs(prefixes ...netip.Prefix) (list []AddrFilter) {
	for _, p := range prefixes {
		list = append(list, AddrFilter{Prefix: p})
	}
	return list
}

// PassesTransition decides as the mask does that the kernel side gets.
func TestPassesTransition(t *testing.T) {
	lists := [][]State{nil}
	for _, s := range States() {
		lists = append(lists, []State{s}, []State{s, TimeWait, Closed})
	}
	passed, refused := 0, 0
	for _, states := range lists {
		for _, from := range lists {
			for _, to := range lists {
				f := Filter{States: states, From: from, To: to}
				mask, err := f.edges()
				if err != nil {
					continue // it is refused
				}
				for a, all := range next {
					for _, b := range all {
						want := mask[a]>>b&1 == 1
						if got := f.PassesTransition(&Transition{From: a, To: b}); got != want {
							t.Fatalf("%v -> %v: %v, want %v: %+v", a, b, got, want, f)
						}
						if want {
							passed++
						} else {
							refused++
						}
					}
				}
			}
		}
	}
	if passed < 1000 || refused < 1000 {
		t.Errorf("%d passed, %d did not: too few to tell", passed, refused)
	}
	minute := Transition{From: TimeWait, To: Closed, Reason: ReasonExpired, Duration: time.Minute, Precision: PrecisionAtLeast}
	unknown := minute
	unknown.Duration, unknown.Precision = 0, PrecisionUnknown
	for _, c := range []struct {
		f    Filter
		x    Transition
		want bool
	}{
		{Filter{}, unknown, true},
		{Filter{MinDuration: time.Minute}, minute, true},
		{Filter{MinDuration: time.Minute + 1}, minute, false},
		{Filter{MinDuration: 1}, unknown, false},
		{Filter{Reasons: []Reason{ReasonReused, ReasonExpired}}, minute, true},
		{Filter{Reasons: []Reason{ReasonReused}}, minute, false},
	} {
		if got := c.f.PassesTransition(&c.x); got != c.want {
			t.Errorf("%+v: %+v: %v", c.f, c.x, got)
		}
	}
}
