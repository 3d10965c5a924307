//go:build linux

package scenario

import (
	"fmt"
	"time"

	"finwait/tracer"
)

func finWait1() Scenario {
	return Scenario{
		Name:     "fin-wait-1",
		Sentence: "The peer is gone without a word: FIN_WAIT_1 while the FIN is repeated.",
		Run: func(st *Stage) {
			st.Sysctl("tcp_orphan_retries", "2")
			p := st.Connect()
			st.Pause(300 * time.Millisecond)
			st.Say("from here on nothing reaches the server")
			p.Server.DropIncoming(false)
			st.Say("the client calls close()")
			p.Client.Close()
			st.Gone(p.Client)
			st.Say("the kernel sent %d segments again", st.Counter("Tcp.RetransSegs"))
		},
		Want: []Want{
			client(opened + "FIN_WAIT_1 CLOSED:timed_out:retransmissions"),
			server(accepted),
		},
		Explain: func(seen Seen) string {
			return fmt.Sprintf("The FIN was repeated, after ever longer waits, and after %s the kernel gave up, with tcp_orphan_retries at 2. "+
				"On a live network FIN_WAIT_1 lasts a round trip; a machine that has many for seconds talks to peers that went away, or cannot get rid of data. "+
				"The server never learnt of it: it is still in ESTABLISHED, and only keepalive would find out.",
				seen.Client(0).Lasted(tracer.FinWait1))
		},
	}
}
