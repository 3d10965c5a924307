//go:build linux

package scenario

import (
	"fmt"
	"time"

	"finwait/tracer"
)

func closeWaitLeak() Scenario {
	return Scenario{
		Name:     "close-wait-leak",
		Sentence: "The program forgets to close: CLOSE_WAIT for as long as it runs.",
		Run: func(st *Stage) {
			st.Sysctl("tcp_fin_timeout", "1")
			p := st.Connect()
			st.Pause(300 * time.Millisecond)
			st.Say("the client calls shutdown() and close(); the server does not look")
			p.Client.Orphan()
			st.Gone(p.Client)
			st.Say("the client's end is gone; the server's stays")
			st.Pause(3 * time.Second)
			st.Say("the server ends, which closes what it held")
			p.Server.Close()
		},
		Want: []Want{
			client(opened + "FIN_WAIT_1 FIN_WAIT_2 CLOSED:expired:orphan"),
			server(accepted + "CLOSE_WAIT:fin_received LAST_ACK CLOSED:reset:fin_unacked"),
		},
		Explain: func(seen Seen) string {
			return fmt.Sprintf("The kernel waits for the program: CLOSE_WAIT lasted %s, and without SO_KEEPALIVE would have lasted for as long as the program, whatever the sysctls say. "+
				"Each one is a descriptor that the program leaks; the way out is to close it when read() returns 0. "+
				"The late FIN met no socket any more, and was answered with an RST.",
				seen.Server(0).Lasted(tracer.CloseWait))
		},
	}
}
