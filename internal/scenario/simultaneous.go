//go:build linux

package scenario

import (
	"fmt"
	"time"

	"finwait/internal/sandbox"
	"finwait/tracer"
)

// simultaneous delays both FINs. Filters drop them at first. When both ends have closed,
// segments that differ from the FINs only in their window are sent, and the filters accept them.
func simultaneous() Scenario {
	return Scenario{
		Name:     "simultaneous",
		Sentence: "The FINs cross: CLOSING at both ends, and TIME_WAIT too.",
		Run: func(st *Stage) {
			st.NeedsSegments()
			p := st.Connect()
			client, server := p.Client.Sequence(), p.Server.Sequence()
			p.Client.DropIncoming(true)
			p.Server.DropIncoming(true)
			st.Pause(300 * time.Millisecond)
			st.Say("both ends call shutdown(); their FINs are held up on the way")
			p.Client.ShutdownWrite()
			p.Server.ShutdownWrite()
			st.Pause(150 * time.Millisecond)
			st.Say("copies of the FINs, made by finwait, arrive, but not yet what acknowledges them")
			st.Send(p.Server.Local, p.Client.Local, sandbox.FIN|sandbox.ACK, server, client)
			st.Send(p.Client.Local, p.Server.Local, sandbox.FIN|sandbox.ACK, client, server)
			p.Client.WaitState(uint8(tracer.Closing))
			p.Server.WaitState(uint8(tracer.Closing))
			st.Pause(150 * time.Millisecond)
			st.Say("from now on everything arrives")
			p.Client.LetIncoming()
			p.Server.LetIncoming()
			st.Until(p.Client, tracer.TimeWait)
			st.Until(p.Server, tracer.TimeWait)
		},
		Want: []Want{
			client(opened + "FIN_WAIT_1 CLOSING:fin_received TIME_WAIT CLOSED:expired"),
			server(accepted + "FIN_WAIT_1 CLOSING:fin_received TIME_WAIT CLOSED:expired"),
		},
		Explain: func(seen Seen) string {
			c, s := seen.Client(0), seen.Server(0)
			return fmt.Sprintf("Each end had sent its FIN, and got the other's before its own was acknowledged: that is CLOSING, for %s and %s here. "+
				"FIN_WAIT_2, CLOSE_WAIT and LAST_ACK do not occur, nobody closed second, and both ends hold TIME_WAIT: %s and %s.",
				c.Lasted(tracer.Closing), s.Lasted(tracer.Closing), c.Lasted(tracer.TimeWait), s.Lasted(tracer.TimeWait))
		},
	}
}
