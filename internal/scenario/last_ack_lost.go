//go:build linux

package scenario

import (
	"errors"
	"fmt"
	"time"

	"finwait/tracer"

	"golang.org/x/sys/unix"
)

func lastAckLost() Scenario {
	const again = 3
	return Scenario{
		Name:     "last-ack-lost",
		Sentence: "The last ACK is lost: the FIN comes again, and TIME_WAIT starts anew.",
		Run: func(st *Stage) {
			p := st.Connect()
			st.Pause(300 * time.Millisecond)
			st.Say("the client calls close()")
			p.Client.Close()
			st.Until(p.Client, tracer.FinWait2)
			st.Pause(300 * time.Millisecond)
			st.Say("the server calls shutdown(); what the client answers is lost")
			p.Server.DropIncoming(false)
			p.Server.ShutdownWrite()
			p.Server.Wait("retransmissions", func(i *unix.TCPInfo) bool { return i.Total_retrans >= again })
			st.Say("the server has sent its FIN %d times more; the next ACK arrives", again)
			p.Server.LetIncoming()
			p.Server.WaitState(uint8(tracer.Closed))
			p.Server.Close()
		},
		Want: []Want{
			client(opened + "FIN_WAIT_1 FIN_WAIT_2 TIME_WAIT:fin_received CLOSED:expired"),
			server(accepted + "CLOSE_WAIT:fin_received LAST_ACK CLOSED:closed"),
		},
		Also: func(seen Seen) error {
			// Before 6.11 no hook reports the segment. If the timer is armed again within
			// its slot of the wheel, which is 2 s wide, no hook reports that either.
			tw := seen.Client(0).Leaving(tracer.TimeWait)
			if tw.Rearms == 0 && tw.Precision == tracer.PrecisionExact {
				return errors.New("the FIN came again, and TIME_WAIT was not re-armed")
			}
			return nil
		},
		Explain: func(seen Seen) string {
			c := seen.Client(0)
			return fmt.Sprintf("This is what TIME_WAIT is for: somebody must be there to acknowledge the server's FIN again. "+
				"The server was in LAST_ACK for %s, its FIN came to the client %d times more, and each time the 60 s began anew (seen here: %d times): TIME_WAIT lasted %s. "+
				"Without it an RST would have answered, and the server could not have told a finished connection from a broken one.",
				seen.Server(0).Lasted(tracer.LastAck), again, c.Leaving(tracer.TimeWait).Rearms, c.Lasted(tracer.TimeWait))
		},
	}
}
