//go:build linux

package scenario

import (
	"fmt"
	"time"

	"finwait/tracer"
)

func fourWay() Scenario {
	return Scenario{
		Name:     "close",
		Sentence: "The four-way close: the client closes first, and holds TIME_WAIT.",
		Run: func(st *Stage) {
			p := st.Connect()
			st.Pause(300 * time.Millisecond)
			st.Say("the client calls close()")
			p.Client.Close()
			st.Until(p.Client, tracer.FinWait2)
			st.Pause(300 * time.Millisecond)
			st.Say("the server calls close()")
			p.Server.Close()
			st.Until(p.Client, tracer.TimeWait)
		},
		Want: []Want{
			client(opened + "FIN_WAIT_1 FIN_WAIT_2 TIME_WAIT:fin_received CLOSED:expired"),
			server(accepted + "CLOSE_WAIT:fin_received LAST_ACK CLOSED:closed"),
		},
		Explain: func(seen Seen) string {
			c, s := seen.Client(0), seen.Server(0)
			return fmt.Sprintf("The end that closes first pays: it was in FIN_WAIT_1 for %s, until its FIN was acknowledged, in FIN_WAIT_2 for %s, "+
				"for as long as the server had not closed, and then held its port in TIME_WAIT for %s. "+
				"The server was done %s after it sent its own FIN.",
				c.Lasted(tracer.FinWait1), c.Lasted(tracer.FinWait2), c.Lasted(tracer.TimeWait), s.Lasted(tracer.LastAck))
		},
	}
}
