//go:build linux

package scenario

import (
	"fmt"
	"time"

	"finwait/tracer"
)

func givenUp() Scenario {
	return Scenario{
		Name:     "given-up",
		Sentence: "The program's own time limit for connect() is over before the kernel's.",
		Run: func(st *Stage) {
			ln := st.TCP().Bind(0).Listen()
			ln.DropIncoming(false)
			st.Say("the client connects; every SYN is lost")
			c := st.TCP().Connecting(ln.Local)
			st.Pause(1500 * time.Millisecond)
			st.Say("the client waits no longer and calls close()")
			c.Close()
			st.Say("the kernel's counter TcpAttemptFails: %d", st.Counter("Tcp.AttemptFails"))
		},
		Want: []Want{client("SYN_SENT CLOSED:given_up:close")},
		Explain: func(seen Seen) string {
			last := seen.Client(0).Leaving(tracer.SynSent)
			return fmt.Sprintf("The program gave up after %s, in which the kernel had sent %d SYNs; the kernel would have gone on for two minutes (finwait demo timeout). "+
				"Most clients have such a time limit, and this is the most frequent failure of connect(): the kernel counts nothing, and each program's log has its own word for it. "+
				"A firewall on the way dropped the SYNs, or the peer is down or overloaded.",
				seen.Client(0).Lasted(tracer.SynSent), last.Retransmits+1)
		},
	}
}
