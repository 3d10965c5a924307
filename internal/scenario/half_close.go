//go:build linux

package scenario

import (
	"fmt"
	"time"

	"finwait/tracer"
)

func halfClose() Scenario {
	return Scenario{
		Name:     "half-close",
		Sentence: "shutdown(), and the descriptor is held: FIN_WAIT_2 without a timer.",
		Run: func(st *Stage) {
			st.Sysctl("tcp_fin_timeout", "1")
			p := st.Connect()
			st.Pause(300 * time.Millisecond)
			st.Say("the client calls shutdown(SHUT_WR), and keeps the descriptor")
			p.Client.ShutdownWrite()
			p.Client.WaitState(uint8(tracer.FinWait2))
			st.Pause(3 * time.Second)
			st.Say("the server sends a byte, which the client reads")
			p.Server.Write()
			p.Client.Read()
			st.Pause(300 * time.Millisecond)
			st.Say("the server calls close()")
			p.Server.Close()
			st.Until(p.Client, tracer.TimeWait)
		},
		Want: []Want{
			client(opened + "FIN_WAIT_1 FIN_WAIT_2 TIME_WAIT:fin_received"),
			server(accepted + "CLOSE_WAIT:fin_received LAST_ACK CLOSED:closed"),
		},
		Explain: func(seen Seen) string {
			return fmt.Sprintf("tcp_fin_timeout was 1 s, and FIN_WAIT_2 lasted %s: a socket that a process still holds is on no timer, and "+
				"without SO_KEEPALIVE it stays in FIN_WAIT_2 until the peer closes. Half of the connection was open all the while: the byte arrived. "+
				"tcp_fin_timeout is for sockets that nobody holds any more (finwait demo orphan).",
				seen.Client(0).Lasted(tracer.FinWait2))
		},
	}
}
