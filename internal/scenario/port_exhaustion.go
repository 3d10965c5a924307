//go:build linux

package scenario

import (
	"fmt"
	"time"

	"finwait/internal/text"
	"finwait/tracer"

	"golang.org/x/sys/unix"
)

func portExhaustion() Scenario {
	const ports = 4 // an even number, because connect() may skip a port of an odd range
	want := []Want{}
	for range ports {
		want = append(want, client(opened+"FIN_WAIT_1 FIN_WAIT_2 TIME_WAIT:fin_received CLOSED:expired"),
			server(accepted+"CLOSE_WAIT:fin_received LAST_ACK CLOSED:closed"))
	}
	return Scenario{
		Name:     "port-exhaustion",
		Sentence: "Each TIME_WAIT holds a port: short connections, until connect() fails.",
		Run: func(st *Stage) {
			st.Sysctl("tcp_tw_reuse", "0")
			st.Sysctl("ip_local_port_range", fmt.Sprintf("40000 %d", 40000+ports-1))
			ln, other := st.TCP().Bind(50000).Listen(), st.TCP().Bind(50001).Listen()
			st.Say("%d ports, %d short connections, one after the other", ports, ports)
			for range ports {
				c := st.TCP().Connect(ln.Local)
				s := ln.Accept()
				st.Pause(20 * time.Millisecond)
				st.TimeWait(c, s)
			}
			st.Say("one more")
			st.fails("connect()", st.TCP().TryConnect(ln.Local), unix.EADDRNOTAVAIL)
			st.Say("one more, to another port of the server")
			st.TCP().Connect(other.Local).Reset()
		},
		Also: func(seen Seen) error {
			local := make(map[uint16]bool)
			for _, c := range seen.Of(tracer.RoleClient)[:ports] {
				local[c[len(c)-1].Local.Port()] = true
			}
			if len(local) != ports {
				return fmt.Errorf("%d TIME_WAITs held %d ports", ports, len(local))
			}
			return nil
		},
		Want: append(want, client("SYN_SENT CLOSED:no_port"), client(opened+"CLOSED:aborted"), server(accepted+"CLOSED:reset")),
		Explain: func(seen Seen) string {
			var useful, held time.Duration
			cut, exact := "", true
			for _, c := range seen.Of(tracer.RoleClient)[:ports] {
				last := c[len(c)-1]
				if last.Reason == tracer.ReasonNetNSRemoved {
					cut = ", cut short by --fast"
				}
				worked := c.Leaving(tracer.Established)
				exact = exact && worked.Precision == tracer.PrecisionExact
				useful += worked.Duration
				held += last.Ktime - c[0].Ktime
			}
			work := ""
			if exact {
				work = fmt.Sprintf("; %s of it, %.2g %%, were useful work, in ESTABLISHED", text.Span(useful/ports), 100*float64(useful)/float64(held))
			}
			return fmt.Sprintf("%d TIME_WAITs held %d ports, one each, for %s on average%s%s. "+
				"connect() failed at once (\"%v\"), but only towards the same address and port: the next one, to another port of the server, got one of the very same ports. "+
				"With 28,232 ports, as is usual, that is 470 connections a second to one server; tcp_tw_reuse, or keeping connections open, is the way out.",
				ports, ports, text.Span(held/ports), cut, work, unix.EADDRNOTAVAIL)
		},
	}
}
