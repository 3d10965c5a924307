//go:build linux

package scenario

import (
	"fmt"

	"finwait/tracer"

	"golang.org/x/sys/unix"
)

func refused() Scenario {
	return Scenario{
		Name:     "refused",
		Sentence: "Nobody listens: connect() is answered with an RST.",
		Run: func(st *Stage) {
			bound := st.TCP().Bind(0) // does not listen
			st.Say("the client connects to a port on which nobody listens")
			st.fails("connect()", st.TCP().TryConnect(bound.Local), unix.ECONNREFUSED)
		},
		Want: []Want{client("SYN_SENT CLOSED:refused")},
		Explain: func(seen Seen) string {
			return fmt.Sprintf("SYN_SENT lasted %s: the answer was an RST, which is ECONNREFUSED to the program. "+
				"A machine is there and nobody listens, or a firewall rejects with an RST, which looks the same; one that drops SYNs looks like finwait demo timeout.",
				seen.Client(0).Lasted(tracer.SynSent))
		},
	}
}
