//go:build linux

package scenario

import (
	"fmt"
	"time"

	"finwait/tracer"
)

func lingerZero() Scenario {
	return Scenario{
		Name:     "linger-zero",
		Sentence: "SO_LINGER of 0: close() sends an RST, and there is no TIME_WAIT.",
		Run: func(st *Stage) {
			p := st.Connect()
			st.Pause(300 * time.Millisecond)
			st.Say("the client sets SO_LINGER to 0 and calls close()")
			p.Client.Reset()
		},
		Want: []Want{
			client(opened + "CLOSED:aborted:linger_zero"),
			server(accepted + "CLOSED:reset"),
		},
		Explain: func(seen Seen) string {
			return fmt.Sprintf("The client was in ESTABLISHED for %s and then nowhere. SO_LINGER of 0 is often recommended against TIME_WAIT, and this is its price: "+
				"whatever was not yet acknowledged is thrown away, the peer gets an error where it expected the end of the data, and an old segment that is still "+
				"on its way can hit the next connection of the same ports.",
				seen.Client(0).Lasted(tracer.Established))
		},
	}
}
