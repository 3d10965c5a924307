//go:build linux

package scenario

import (
	"fmt"
	"time"

	"finwait/tracer"
)

func orphan() Scenario {
	return Scenario{
		Name:     "orphan",
		Sentence: "close(), and the peer does not: an orphan in FIN_WAIT_2, on a timer.",
		Run: func(st *Stage) {
			st.Sysctl("tcp_fin_timeout", "2")
			p := st.Connect()
			st.Pause(300 * time.Millisecond)
			st.Say("the client calls shutdown() and close(); the server does neither")
			p.Client.Orphan()
			st.Gone(p.Client)
			st.Pause(300 * time.Millisecond)
			st.Say("the server sends a byte, to nobody")
			p.Server.Write()
			p.Server.WaitState(uint8(tracer.Closed))
		},
		Want: []Want{
			client(opened + "FIN_WAIT_1 FIN_WAIT_2 CLOSED:expired:orphan"),
			server(accepted + "CLOSE_WAIT:fin_received CLOSED:reset"),
		},
		Explain: func(seen Seen) string {
			return fmt.Sprintf("Nobody held the client's socket, so it waited %s for the server's FIN, with tcp_fin_timeout at 2 s, and was given up: "+
				"without TIME_WAIT, although the peer is still connected as far as it knows. The server had been in CLOSE_WAIT for %s when what it sent was "+
				"answered with an RST. tcp_fin_timeout is this time, not that of TIME_WAIT.",
				seen.Client(0).Lasted(tracer.FinWait2), seen.Server(0).Lasted(tracer.CloseWait))
		},
	}
}
