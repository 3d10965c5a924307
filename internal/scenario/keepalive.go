//go:build linux

package scenario

import (
	"fmt"
	"time"

	"finwait/tracer"

	"golang.org/x/sys/unix"
)

func keepalive() Scenario {
	return Scenario{
		Name:     "keepalive",
		Sentence: "The peer of an idle connection is gone: only the end with keepalive finds out.",
		Run: func(st *Stage) {
			p := st.Connect()
			st.Say("the client asks for keepalive: after 1 s of silence 2 probes, 1 s apart")
			p.Client.Set(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 1).Set(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 1)
			p.Client.Set(unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 2).Set(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
			st.Pause(300 * time.Millisecond)
			st.Say("from here on nothing reaches the server")
			p.Server.DropIncoming(false)
			p.Client.WaitState(uint8(tracer.Closed))
			st.Say("the kernel has sent %d keepalive probes", st.Counter("TcpExt.TCPKeepAlive"))
			p.Server.LetIncoming() // or its FIN_WAIT_1 outlives the namespace
		},
		Want: []Want{
			client(opened + "CLOSED:timed_out:keepalive"),
			server(accepted),
		},
		Explain: func(seen Seen) string {
			return fmt.Sprintf("Neither end sent anything, so neither could notice that the way between them was gone. The client had asked for keepalive, and ended after %s. "+
				"The server had not, and stays in ESTABLISHED for as long as its program runs. Keepalive is off unless a program asks for it (SO_KEEPALIVE), and then "+
				"begins after two hours unless the program sets TCP_KEEPIDLE, which is later than most firewalls forget an idle connection.",
				seen.Client(0).Lasted(tracer.Established))
		},
	}
}
