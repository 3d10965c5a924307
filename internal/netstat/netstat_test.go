package netstat

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	c := make(Counters)
	if err := parsePairs(strings.NewReader("Tcp: MaxConn ActiveOpens\nTcp: -1 997\nTcpExt: TW\nTcpExt: 18446744073709551615\n"), c); err != nil {
		t.Fatal(err)
	}
	if err := parseSockstat(strings.NewReader("sockets: used 3\nTCP: inuse 5 orphan 0 tw 12\n"), c); err != nil {
		t.Fatal(err)
	}
	want := Counters{
		"Tcp.MaxConn": -1, "Tcp.ActiveOpens": 997, "TcpExt.TW": -1,
		"sockstat.sockets.used": 3, "sockstat.TCP.inuse": 5, "sockstat.TCP.orphan": 0, "sockstat.TCP.tw": 12,
	}
	if d := cmp.Diff(want, c); d != "" {
		t.Error(d)
	}
}

func TestParseRejects(t *testing.T) {
	for _, s := range []string{"Tcp: A\n", "Tcp: A B\nTcp: 1\n", "Tcp: A\nUdp: 1\n", "Tcp: A\nTcp: x\n", "\n\n"} {
		if parsePairs(strings.NewReader(s), Counters{}) == nil {
			t.Errorf("%q was parsed", s)
		}
	}
	for _, s := range []string{"TCP: inuse\n", "TCP: inuse x\n", "\n"} {
		if parseSockstat(strings.NewReader(s), Counters{}) == nil {
			t.Errorf("sockstat %q was parsed", s)
		}
	}
}
