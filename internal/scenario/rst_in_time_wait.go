//go:build linux

package scenario

import (
	"fmt"
	"time"

	"finwait/internal/sandbox"
	"finwait/tracer"
)

func rstInTimeWait() Scenario {
	// assassinate sends an RST in the name of the server. Only the client's TIME_WAIT is left of
	// the connection.
	assassinate := func(st *Stage) {
		p := st.Connect()
		sequence := p.Server.Sequence()
		st.Say("client and server close, in order")
		st.TimeWait(p.Client, p.Server)
		st.Pause(500 * time.Millisecond)
		st.Say("finwait sends an RST, as if from the server")
		st.Send(p.Server.Local, p.Client.Local, sandbox.RST, sequence+1, 0) // +1: the FIN
		st.Pause(500 * time.Millisecond)
	}
	return Scenario{
		Name:     "rst-in-time-wait",
		Sentence: "An RST ends a TIME_WAIT, but not with tcp_rfc1337=1.",
		Run: func(st *Stage) {
			st.NeedsSegments()
			assassinate(st)
			st.Sysctl("tcp_rfc1337", "1")
			assassinate(st)
		},
		Want: []Want{
			client(opened + "FIN_WAIT_1 FIN_WAIT_2 TIME_WAIT:fin_received CLOSED:rst_received"),
			client(opened + "FIN_WAIT_1 FIN_WAIT_2 TIME_WAIT:fin_received CLOSED:expired"),
			server(accepted + "CLOSE_WAIT:fin_received LAST_ACK CLOSED:closed"),
			server(accepted + "CLOSE_WAIT:fin_received LAST_ACK CLOSED:closed"),
		},
		Explain: func(seen Seen) string {
			return fmt.Sprintf("RFC 1337 calls it TIME_WAIT assassination: by default one RST, a stray or a forged one, ends TIME_WAIT, after %s here, and old segments "+
				"can reach the next connection of the same ports. With tcp_rfc1337=1 the kernel takes no notice of the RST, and TIME_WAIT lasted %s.",
				seen.Client(0).Lasted(tracer.TimeWait), seen.Client(1).Lasted(tracer.TimeWait))
		},
	}
}
