//go:build linux

package scenario

import (
	"fmt"
	"time"

	"finwait/tracer"
)

func reset() Scenario {
	return Scenario{
		Name:     "reset",
		Sentence: "The server closes with data that it has not read: an RST in place of a FIN.",
		Run: func(st *Stage) {
			p := st.Connect()
			st.Pause(300 * time.Millisecond)
			st.Say("the client sends a byte, which the server does not read")
			p.Client.Write()
			st.Pause(300 * time.Millisecond)
			st.Say("the server calls close()")
			p.Server.Close()
		},
		Want: []Want{
			client(opened + "CLOSED:reset"),
			server(accepted + "CLOSED:aborted:unread_data"),
		},
		Explain: func(seen Seen) string {
			return fmt.Sprintf("close() with unread data is no orderly close: the peer must be told that what it sent was lost, and an RST says that. "+
				"Both ends went from ESTABLISHED to CLOSED at once, after %s, and no state is left on either side. "+
				"The client reads \"connection reset by peer\", though the server's program did nothing but close().",
				seen.Client(0).Lasted(tracer.Established))
		},
	}
}
