package doctor

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// The lines are those of the kernel.
func TestReadTable(t *testing.T) {
	const lines = `ipv4     2 tcp      6 431999 ESTABLISHED src=10.0.0.4 dst=10.96.0.1 sport=40000 dport=80 src=10.0.0.9 dst=10.0.0.4 sport=8080 dport=40000 [ASSURED] mark=0 zone=0 use=2
ipv4     2 tcp      6 57 CLOSE_WAIT src=10.0.0.4 dst=10.0.0.9 sport=40001 dport=80 src=10.0.0.9 dst=10.0.0.4 sport=80 dport=40001 [ASSURED] mark=0 use=1
ipv6     10 tcp      6 9 FIN_WAIT src=fd00:0000:0000:0000:0000:0000:0000:0001 dst=fd00:0000:0000:0000:0000:0000:0000:0002 sport=40002 dport=80 packets=3 bytes=9 src=fd00:0000:0000:0000:0000:0000:0000:0003 dst=fd00:0000:0000:0000:0000:0000:0000:0001 sport=80 dport=40002 packets=1 bytes=2 mark=0 use=1
ipv4     2 udp      17 9 src=10.0.0.4 dst=10.0.0.9 sport=1 dport=2 [UNREPLIED] src=10.0.0.9 dst=10.0.0.4 sport=2 dport=1 mark=0 use=1
ipv4     2 tcp      6 x ESTABLISHED src=1
`
	at := func(from, to string) tuple {
		return tuple{netip.MustParseAddrPort(from), netip.MustParseAddrPort(to)}
	}
	want := map[tuple]entry{
		at("10.0.0.4:40000", "10.96.0.1:80"):  {"ESTABLISHED", 431999 * time.Second, true},
		at("10.0.0.9:8080", "10.0.0.4:40000"): {"ESTABLISHED", 431999 * time.Second, true},
		at("10.0.0.4:40001", "10.0.0.9:80"):   {"CLOSE_WAIT", 57 * time.Second, false},
		at("[fd00::1]:40002", "[fd00::2]:80"): {"FIN_WAIT", 9 * time.Second, true},
	}
	asked := map[tuple]bool{at("10.0.0.4:1", "10.0.0.9:2"): true}
	for tuple := range want {
		asked[tuple] = true
	}
	got, err := readTable(strings.NewReader(lines), asked)
	if err != nil {
		t.Fatal(err)
	}
	for tuple := range asked {
		if e, ok := got.entries[tuple]; e != want[tuple] || ok != (want[tuple].state != "") {
			t.Errorf("%v: %+v, want %+v", tuple, e, want[tuple])
		}
	}
	for _, one := range []string{"10.96.0.1:80", "10.0.0.9:8080", "[fd00::2]:80", "[fd00::3]:80"} {
		if !got.changed[netip.MustParseAddrPort(one)] {
			t.Errorf("%s is changed", one)
		}
	}
	if len(got.changed) != 4 {
		t.Errorf("%v", got.changed)
	}
}
