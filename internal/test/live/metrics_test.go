//go:build linux

package live_test

import (
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/tracer"

	"golang.org/x/sys/unix"
)

// A connection's bytes are those that the programs have written, without its FINs. A minisock has
// none until its end: then they are those of its full socket when it handed over, with what came
// in FIN_WAIT_2.
func TestMetrics(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, _ *recorder, f sandbox.Family) {
		if testing.Short() && f != sandbox.Families[0] {
			t.Skip("skipped: one family is enough on an emulated machine")
		}
		kept := startStacks(t, ns, tracer.Config{Metrics: true})
		without := follow(t, ns.Cookie)
		p := ns.Pair(f)
		p.Client.WriteBytes(1000)
		p.Server.ReadBytes(1000)
		p.Client.ShutdownWrite()
		p.Server.WaitState(uint8(tracer.CloseWait))
		p.Server.WriteBytes(300) // the client is in FIN_WAIT_2
		p.Client.ReadBytes(200)
		info := p.Server.Info()
		p.Server.Read() // the end of the client's data
		p.Server.Close()
		p.Client.Wait("the end of data", func(i *unix.TCPInfo) bool { return i.State == unix.BPF_TCP_TIME_WAIT || i.State == unix.BPF_TCP_CLOSE })
		p.Client.Close()
		server := kept.chain(p.Server.Cookie)
		ns.Remove()
		client := kept.chain(p.Client.Cookie)

		for _, c := range []struct {
			which          string
			m              *tracer.Metrics
			sent, received uint64
		}{
			{"the server's end", server.last().Metrics, 300, 1000},
			{"the client's end, of its minisock", client.last().Metrics, 1000, 300},
		} {
			if c.m == nil || !c.m.Known || c.m.BytesSent != c.sent || c.m.BytesReceived != c.received || c.m.Retransmitted != 0 || c.m.RTT <= 0 {
				t.Errorf("%s: %+v, want %d bytes sent, %d received", c.which, c.m, c.sent, c.received)
			}
		}
		for i := range client {
			x := &client[i]
			switch minisock := x.Source == tracer.SourceMinisock; {
			case x.Metrics == nil, x.Metrics.Known == (minisock && x.To != tracer.Closed):
				t.Errorf("%v -> %v: %+v", x.From, x.To, x.Metrics)
			case x.To == tracer.FinWait1 && (x.Metrics.BytesSent != 1000 || x.Metrics.SendQueue > 1001):
				t.Errorf("as it leaves ESTABLISHED: %+v", x.Metrics)
			}
		}
		for i := range server {
			if x := &server[i]; x.To == tracer.LastAck && (x.Metrics.RecvQueue != 0 || x.Metrics.MSS != info.Snd_mss || x.Metrics.Cwnd != info.Snd_cwnd) {
				t.Errorf("%+v, the kernel says %+v", x.Metrics, info)
			}
		}
		if last := without.chain(p.Server.Cookie).last(); last.Metrics != nil {
			t.Errorf("nobody asked, and there is %+v", last.Metrics)
		}
	})
}

// What is sent again counts as retransmitted, and not as sent.
func TestMetricsOfRetransmissions(t *testing.T) {
	t.Parallel()
	ns := sandbox.New(t)
	kept := startStacks(t, ns, tracer.Config{Metrics: true})
	p := ns.Pair(sandbox.Families[0])
	p.Server.DropIncoming(false)
	p.Client.Write()
	var info *unix.TCPInfo
	p.Client.Wait("a retransmission", func(i *unix.TCPInfo) bool { info = i; return i.Total_retrans >= 1 })
	p.Client.Reset()
	last := kept.chain(p.Client.Cookie).last().Metrics
	// tcp_info rounds to jiffies, as finwait does.
	if heard := time.Duration(info.Last_ack_recv) * time.Millisecond; last.Silence < heard-20*time.Millisecond || last.Silence > heard+10*time.Second {
		t.Errorf("silent for %v, the kernel said %v before", last.Silence, heard)
	}
	if first := kept.chain(p.Client.Cookie)[0].Metrics; first.Silence >= 0 {
		t.Errorf("%+v, and nothing has been sent yet", first)
	}
	if !last.Known || last.Retransmitted < info.Total_retrans || last.BytesSent == 0 || uint64(last.SendQueue) != last.BytesSent {
		t.Errorf("%+v, the kernel said %d retransmitted", last, info.Total_retrans)
	}
}
