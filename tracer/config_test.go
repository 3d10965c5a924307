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
		"nothing":        {},
		"four-way close": {From: []State{FinWait2}, To: []State{TimeWait}},
		"a state":        {States: []State{TimeWait}},
		"v6 address":     {Addrs: addrs(prefix("fe80::/10")), IPv6: true},
		"both families":  {Addrs: addrs(prefix("fe80::/10"), prefix("10.0.0.0/8")), IPv4: true},
		"any address":    {Addrs: addrs(prefix("fe80::/10"))},
		"longest comm":   {Comms: []string{"123456789012345"}},
		"highest pid":    {PIDs: []uint32{1<<22 - 1}},
		"either port":    {Ports: []uint16{80, 82}, LocalPorts: []uint16{81}, RemotePorts: []uint16{82, 83}},
		"local port":     {Ports: []uint16{81}, LocalPorts: []uint16{81}, RemotePorts: []uint16{82}},
		"other end":      {Ports: []uint16{80}, LocalPorts: []uint16{81}},
		"listeners":      {Ports: []uint16{80}, LocalPorts: []uint16{80, 81}, To: []State{Listen}},
		"child of one":   {RemotePorts: []uint16{80}, From: []State{Listen}},
		"other states":   {RemotePorts: []uint16{80}, From: []State{Listen, SynSent}, To: []State{Closed}},
		"timed":          {From: []State{Closed, SynSent}, MinDuration: time.Second},
		"timed listener": {From: []State{Listen}, MinDuration: time.Second},
		"timed ways in":  {To: []State{SynRecv}, MinDuration: time.Second}, // from SYN_SENT
	}
	for name, f := range good {
		if err := f.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}

	never := map[string]Filter{
		"impossible edge":      {From: []State{TimeWait}, To: []State{Established}},
		"a state passed over":  {From: []State{FinWait1}, To: []State{TimeWait}},
		"no way to":            {To: []State{NewSynRecv}},
		"never seen":           {States: []State{NewSynRecv}},
		"state off the edge":   {States: []State{Listen}, From: []State{FinWait1}},
		"both families":        {IPv4: true, IPv6: true},
		"address of the other": {Addrs: addrs(prefix("10.0.0.0/8")), IPv6: true},
		"v4-mapped":            {Addrs: addrs(prefix("::ffff:10.0.0.0/104"))},
		"interface of an IPv4": {Addrs: []AddrFilter{{Prefix: prefix("10.0.0.0/8"), ScopeID: 1}}},
		"long comm":            {Comms: []string{"1234567890123456"}},
		"empty comm":           {Comms: []string{""}},
		"pid 0":                {PIDs: []uint32{0}},
		"port 0":               {LocalPorts: []uint16{0}},
		"pid too high":         {PIDs: []uint32{1 << 22}},
		"three ports":          {Ports: []uint16{80}, LocalPorts: []uint16{81}, RemotePorts: []uint16{82}},
		"untimed":              {From: []State{Closed}, MinDuration: time.Second},
		"untimed, by the end":  {To: []State{SynSent, Listen}, MinDuration: time.Second},
		"untimed listener":     {From: []State{Listen}, To: []State{SynRecv}, MinDuration: time.Second},
		"untimed state":        {States: []State{SynSent}, From: []State{Closed}, MinDuration: time.Second},
		"no remote port":       {RemotePorts: []uint16{80}, To: []State{Listen}},
		"closed listener":      {RemotePorts: []uint16{80}, From: []State{Listen}, To: []State{Closed}},
		"listener's port":      {Ports: []uint16{80}, LocalPorts: []uint16{81}, From: []State{Closed}, To: []State{Listen}},
		"long LISTEN":          {RemotePorts: []uint16{80}, From: []State{Listen}, MinDuration: time.Second},
	}
	for name, f := range never {
		if err := f.Check(); !errors.As(err, new(*FilterError)) {
			t.Errorf("%s: %v, want a FilterError", name, err)
		}
	}

	wrong := map[string]Filter{
		"negative duration": {MinDuration: -time.Second},
		"too many":          {Ports: make([]uint16, FilterMax+1)},
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
