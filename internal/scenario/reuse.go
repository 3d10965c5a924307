//go:build linux

package scenario

import (
	"fmt"
	"time"

	"finwait/tracer"
)

func reuse() Scenario {
	return Scenario{
		Name:     "reuse",
		Sentence: "tcp_tw_reuse: connect() takes over a TIME_WAIT that is older than a second.",
		Run: func(st *Stage) {
			st.Sysctl("tcp_tw_reuse", "1")
			st.Sysctl("ip_local_port_range", "40000 40000")
			ln := st.TCP().Bind(50000).Listen()
			st.Say("the client connects, from the only port that there is")
			c := st.TCP().Connect(ln.Local)
			s := ln.Accept()
			st.Say("client and server close, in order")
			st.TimeWait(c, s)
			// The peer's timestamp must be at least a second later (tcp_twsk_unique()).
			st.Pause(2200 * time.Millisecond)
			st.Say("a client connects to the same server")
			st.TCP().Connect(ln.Local)
			ln.Accept()
		},
		Want: []Want{
			client(opened + "FIN_WAIT_1 FIN_WAIT_2 TIME_WAIT:fin_received CLOSED:reused"),
			client(opened),
			server(accepted + "CLOSE_WAIT:fin_received LAST_ACK CLOSED:closed"),
			server(accepted),
		},
		Explain: func(seen Seen) string {
			return fmt.Sprintf("TIME_WAIT ended after %s, as connect() came upon its port, here the only one; with others free it may do so too. "+
				"With TCP timestamps an old segment can be told from a new one after a second, and nothing is lost by not waiting for the minute. "+
				"tcp_tw_reuse, by default 2, for loopback only, does nothing for a server's TIME_WAITs.",
				seen.Client(0).Lasted(tracer.TimeWait))
		},
	}
}
