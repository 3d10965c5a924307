//go:build linux

package scenario

import (
	"fmt"
	"time"

	"finwait/tracer"
)

func listenerClosed() Scenario {
	return Scenario{
		Name:     "listener-closed",
		Sentence: "A server stops: connections that it has not accepted yet die with its listener.",
		Run: func(st *Stage) {
			ln := st.TCP().Bind(0).Listen()
			st.Say("the client connects and sends a byte; the server does not call accept()")
			c := st.TCP().Connect(ln.Local)
			c.Write()
			st.Pause(300 * time.Millisecond)
			st.Say("the server closes its listener")
			ln.Close()
			c.WaitState(uint8(tracer.Closed))
		},
		Want: []Want{
			client(opened + "CLOSED:reset"),
			server(accepted + "CLOSED:aborted:listener_closed"),
		},
		Explain: func(seen Seen) string {
			return fmt.Sprintf("The kernel answers for the server: connect() and write() succeeded, and the connection waited %s in the listener's queue, for an accept() that never came. "+
				"The server's program never knew of it, so its log has nothing, and the client sees \"connection reset by peer\". "+
				"A server that is restarted does this to its clients, the more the longer its queue is: take it out of the load balancer first, or hand the listener over to the next process.",
				seen.Server(0).Lasted(tracer.Established))
		},
	}
}
