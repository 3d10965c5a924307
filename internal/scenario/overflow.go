//go:build linux

package scenario

import (
	"time"

	"finwait/tracer"
)

func overflow() Scenario {
	return Scenario{
		Name:     "overflow",
		Sentence: "tcp_max_tw_buckets is reached: a connection ends without TIME_WAIT.",
		Run: func(st *Stage) {
			st.Sysctl("tcp_max_tw_buckets", "1")
			p := st.Connect()
			st.Say("client and server close, in order: the one TIME_WAIT that is allowed")
			st.TimeWait(p.Client, p.Server)
			st.Pause(300 * time.Millisecond)
			p = st.Connect()
			st.Say("the client calls shutdown() and close()")
			p.Client.Orphan()
			p.Server.WaitState(uint8(tracer.CloseWait))
			st.Pause(300 * time.Millisecond)
			st.Say("the server calls close()")
			p.Server.Close()
			st.Say("the kernel's counter TCPTimeWaitOverflow: %d", st.Counter("TcpExt.TCPTimeWaitOverflow"))
		},
		Want: []Want{
			client(opened + "FIN_WAIT_1 FIN_WAIT_2 TIME_WAIT:fin_received"),
			client(opened + "FIN_WAIT_1 FIN_WAIT_2 CLOSED:time_wait_overflow"),
			server(accepted + "CLOSE_WAIT:fin_received LAST_ACK CLOSED:closed"),
			server(accepted + "CLOSE_WAIT:fin_received LAST_ACK CLOSED:reset:fin_unacked"),
		},
		Explain: func(Seen) string {
			return "The second connection's FIN_WAIT_2 had nowhere to go: the client's end was dropped at close(). When the server closed, its FIN met no socket and was " +
				"answered with an RST, so an orderly close ended as an error. tcp_max_tw_buckets is a limit to survive an attack with; lowering it to get rid of " +
				"TIME_WAITs breaks connections that are only closing, for the limit covers orphans in FIN_WAIT_2 too."
		},
	}
}
