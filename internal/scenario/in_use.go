//go:build linux

package scenario

import (
	"fmt"

	"golang.org/x/sys/unix"
)

func inUse() Scenario {
	return Scenario{
		Name:     "in-use",
		Sentence: "Two sockets of one local port connect to one destination: the second cannot.",
		Run: func(st *Stage) {
			ln, other := st.TCP().Bind(0).Listen(), st.TCP().Bind(0).Listen()
			first := st.TCP().Bind(0)
			port := first.Local.Port()
			st.Say("a client binds port %d and connects", port)
			first.Connect(ln.Local)
			st.Say("a second one binds port %d, too (SO_REUSEADDR), and connects to the same server", port)
			st.fails("connect()", st.TCP().Bind(port).TryConnect(ln.Local), unix.EADDRNOTAVAIL)
			st.Say("a third one does so to another port of the server")
			st.TCP().Bind(port).Connect(other.Local)
		},
		Want: []Want{
			client(opened), client("SYN_SENT CLOSED:in_use"), client(opened),
			server(accepted), server(accepted),
		},
		Explain: func(Seen) string {
			return fmt.Sprintf("A connection is known by both addresses and both ports, and a second one of the same four cannot exist. So connect() failed at once (\"%v\") and sent no SYN, "+
				"though bind() had succeeded, while the third client, to another port, shares the local port without harm. "+
				"This happens to programs that bind a fixed local port and connect again before the old connection, or its TIME_WAIT, is gone: let the kernel choose the port.",
				unix.EADDRNOTAVAIL)
		},
	}
}
