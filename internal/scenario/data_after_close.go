//go:build linux

package scenario

import (
	"fmt"
	"time"

	"finwait/tracer"
)

func dataAfterClose() Scenario {
	return Scenario{
		Name:     "data-after-close",
		Sentence: "The client has closed, and the server still sends: an RST is the answer.",
		Run: func(st *Stage) {
			p := st.Connect()
			st.Pause(300 * time.Millisecond)
			st.Say("the client calls close(), and the server sends a byte at once")
			p.Client.Close()
			p.Server.WaitState(uint8(tracer.CloseWait))
			p.Server.Write()
			p.Server.WaitState(uint8(tracer.Closed))
			st.Pause(300 * time.Millisecond)
			p = st.Connect()
			st.Pause(300 * time.Millisecond)
			st.Say("another client calls shutdown() and close(), and the server sends a byte later")
			p.Client.Orphan()
			st.Pause(300 * time.Millisecond)
			p.Server.Write()
			p.Server.WaitState(uint8(tracer.Closed))
		},
		Want: []Want{
			client(opened + "FIN_WAIT_1 FIN_WAIT_2 CLOSED:rst_sent"),
			client(opened + "FIN_WAIT_1 FIN_WAIT_2 CLOSED:rst_sent"),
			server(accepted + "CLOSE_WAIT:fin_received CLOSED:reset:data_unacked"),
			server(accepted + "CLOSE_WAIT:fin_received CLOSED:reset:data_unacked"),
		},
		Also: func(seen Seen) error {
			// Before 6.11 nothing says what a minisock has answered. On a slow machine the first
			// client has one, too.
			for i, c := range seen.Of(tracer.RoleClient) {
				last := &c[len(c)-1]
				if last.Detail != tracer.DetailDataAfterClose && (last.Source != tracer.SourceMinisock || last.Detail != tracer.DetailNone) {
					return fmt.Errorf("client %d ended with detail %q", i+1, last.Detail)
				}
			}
			return nil
		},
		Explain: func(seen Seen) string {
			return fmt.Sprintf("After close() nobody can read any more, so data that arrive then are answered with an RST, whenever they come. The first byte carried the acknowledgement of the "+
				"client's FIN, too, and FIN_WAIT_2 was over after %s; the second met FIN_WAIT_2 after %s. The first is how many HTTPS connections end, whose server answers a close with a last message of its own: "+
				"it does no harm there, and fills the counter TcpExtTCPAbortOnData. A client that wants the rest calls shutdown(SHUT_WR) and reads on (finwait demo half-close).",
				seen.Client(0).Lasted(tracer.FinWait2), seen.Client(1).Lasted(tracer.FinWait2))
		},
	}
}
