//go:build linux

package scenario

import (
	"fmt"

	"finwait/tracer"

	"golang.org/x/sys/unix"
)

func timeout() Scenario {
	return Scenario{
		Name:     "timeout",
		Sentence: "No answer to the SYN: connect() fails after some repetitions.",
		Run: func(st *Stage) {
			st.Sysctl("tcp_syn_retries", "1")
			ln := st.TCP().Bind(0).Listen()
			ln.DropIncoming(false)
			st.Say("the client connects; every SYN is lost")
			st.fails("connect()", st.TCP().TryConnect(ln.Local), unix.ETIMEDOUT)
			st.Say("SYNs that the kernel sent again: %d", st.Counter("TcpExt.TCPSynRetrans"))
		},
		Want: []Want{client("SYN_SENT CLOSED:timed_out:retransmissions")},
		Explain: func(seen Seen) string {
			return fmt.Sprintf("SYN_SENT lasted %s: a tcp_syn_retries of 1 stands for 1 s and 2 s, the usual 6 for 1 + 2 + 4 + ... + 64 = 127 s, for all of which the program hangs in connect(). "+
				"Since Linux 6.5 the first repetitions come every second (tcp_syn_linear_timeouts), and the usual 6 is 131 s.",
				seen.Client(0).Lasted(tracer.SynSent))
		},
	}
}
