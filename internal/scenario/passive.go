//go:build linux

package scenario

import (
	"fmt"
	"time"

	"finwait/tracer"
)

func passive() Scenario {
	return Scenario{
		Name:     "passive",
		Sentence: "The server closes first, and so it holds TIME_WAIT.",
		Run: func(st *Stage) {
			p := st.Connect()
			st.Pause(300 * time.Millisecond)
			st.Say("the server calls close()")
			p.Server.Close()
			st.Until(p.Server, tracer.FinWait2)
			st.Pause(300 * time.Millisecond)
			st.Say("the client calls close()")
			p.Client.Close()
			st.Until(p.Server, tracer.TimeWait)
		},
		Want: []Want{
			client(opened + "CLOSE_WAIT:fin_received LAST_ACK CLOSED:closed"),
			server(accepted + "FIN_WAIT_1 FIN_WAIT_2 TIME_WAIT:fin_received CLOSED:expired"),
		},
		Explain: func(seen Seen) string {
			return fmt.Sprintf("TIME_WAIT belongs to whoever closes first, client or not: here the server held it for %s, "+
				"as an HTTP server does that sends \"Connection: close\". It costs the server memory, but no port: "+
				"the other end's is a different one each time, so a listener can have as many as tcp_max_tw_buckets allows.",
				seen.Server(0).Lasted(tracer.TimeWait))
		},
	}
}
