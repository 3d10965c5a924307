//go:build linux

package scenario

import (
	"time"

	"finwait/tracer"

	"golang.org/x/sys/unix"
)

func unreadData() Scenario {
	return Scenario{
		Name:     "unread-data",
		Sentence: "A server answers, and closes before it has read all; and how to do it right.",
		Run: func(st *Stage) {
			p := st.Connect()
			st.Say("the client sends two bytes; the server reads one and answers")
			ask := func() {
				p.Client.Write()
				p.Client.Write()
				p.Server.Read()
				p.Server.Write()
			}
			ask()
			st.Pause(300 * time.Millisecond)
			st.Say("the server calls close()")
			p.Server.Close()
			p.Client.Read()
			st.fails("the client reads the answer, and then: read()", p.Client.TryRead(), unix.ECONNRESET)
			st.Pause(300 * time.Millisecond)
			p = st.Connect()
			st.Say("the same, but the server calls shutdown(SHUT_WR), and reads the rest")
			ask()
			p.Server.ShutdownWrite()
			p.Server.WaitState(uint8(tracer.FinWait2))
			p.Server.Read()
			p.Client.Read()
			st.Say("the client calls close(), and then so does the server")
			p.Client.Close()
			st.Until(p.Server, tracer.TimeWait)
			p.Server.Close()
		},
		Want: []Want{
			client(opened + "CLOSED:reset"),
			client(opened + "CLOSE_WAIT:fin_received LAST_ACK CLOSED:closed"),
			server(accepted + "CLOSED:aborted:unread_data"),
			server(accepted + "FIN_WAIT_1 FIN_WAIT_2 TIME_WAIT:fin_received"),
		},
		Explain: func(Seen) string {
			return "close() with unread data is no orderly close: the kernel tells the peer with an RST that what it sent was lost. The client got the answer here because it had arrived " +
				"before the RST; what the server has not sent by then is thrown away. A web server that refuses an upload before it has read it does this, and browsers then show an error " +
				"in place of its answer. The second server did it right: it said with shutdown() that it sends no more, read up to the client's end, and closed."
		},
	}
}
