//go:build linux

package scenario

import (
	"fmt"
	"time"

	"finwait/tracer"

	"golang.org/x/sys/unix"
)

func rebind() Scenario {
	return Scenario{
		Name:     "rebind",
		Sentence: "bind() fails while a TIME_WAIT holds the port, and succeeds with SO_REUSEADDR.",
		Run: func(st *Stage) {
			p := st.Connect()
			st.Pause(300 * time.Millisecond)
			st.Say("the server closes first, and ends")
			st.TimeWait(p.Server, p.Client)
			p.Listener.Close()
			st.Pause(300 * time.Millisecond)
			port := p.Listener.Local.Port()
			st.Say("the server is started again, and binds port %d", port)
			st.fails("bind()", st.TCP().TryBind(port), unix.EADDRINUSE)
			st.Pause(300 * time.Millisecond)
			st.Say("the same with SO_REUSEADDR")
			st.TCP().Bind(port).Listen()
			if st.PortStates(port)[uint8(tracer.TimeWait)] == 0 {
				st.owner.Fatalf("port %d is not in TIME_WAIT any more", port)
			}
		},
		Want: []Want{
			client(opened + "CLOSE_WAIT:fin_received LAST_ACK CLOSED:closed"),
			server(accepted + "FIN_WAIT_1 FIN_WAIT_2 TIME_WAIT:fin_received"),
			{tracer.RoleListener, "LISTEN CLOSED:closed"},
			{tracer.RoleListener, "LISTEN"},
		},
		Explain: func(Seen) string {
			return fmt.Sprintf("No process held the port, but a connection in TIME_WAIT did: bind() failed with \"%v\". With SO_REUSEADDR it did not, with the TIME_WAIT still there; "+
				"the first listener must have had the option too, as it had here: what is in TIME_WAIT has inherited it. "+
				"It is safe on Linux, where two listeners cannot share a port with it.", unix.EADDRINUSE)
		},
	}
}
