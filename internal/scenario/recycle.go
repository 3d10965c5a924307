//go:build linux

package scenario

import (
	"fmt"
	"time"

	"finwait/tracer"
)

func recycle() Scenario {
	return Scenario{
		Name:     "recycle",
		Sentence: "A SYN takes over the server's TIME_WAIT, which is no obstacle to it.",
		Run: func(st *Stage) {
			p := st.Connect()
			st.Say("server and client close, in order")
			st.TimeWait(p.Server, p.Client)
			st.Pause(500 * time.Millisecond)
			st.Say("a client connects, from the same port")
			st.TCP().Bind(p.Client.Local.Port()).Connect(p.Listener.Local)
			p.Listener.Accept()
		},
		Want: []Want{
			client(opened + "CLOSE_WAIT:fin_received LAST_ACK CLOSED:closed"),
			client(opened),
			server(accepted + "FIN_WAIT_1 FIN_WAIT_2 TIME_WAIT:fin_received CLOSED:recycled"),
			server(accepted),
		},
		Explain: func(seen Seen) string {
			return fmt.Sprintf("The server's TIME_WAIT had lasted %s when a SYN came for the same addresses and ports. Its timestamp, or a sequence number beyond the old ones, shows that it is new, "+
				"so the kernel dropped the TIME_WAIT and gave the SYN to the listener (RFC 6191), without any sysctl: "+
				"the tcp_tw_recycle of old kernels was something else, which broke clients behind NAT and has been gone since Linux 4.12.",
				seen.Server(0).Lasted(tracer.TimeWait))
		},
	}
}
