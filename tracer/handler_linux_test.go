package tracer_test

import (
	"os"
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/internal/test/testnet"
	"finwait/tracer"
)

// The programs forget the handler of a connection when it has ended, TIME_WAIT included, also
// where a filter leaves it out.
func TestHandlersAreForgotten(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("loading BPF programs needs root")
	}
	t.Parallel()
	testnet.Attempts(t, func(t *testing.T) string {
		tr, err := tracer.New(tracer.Config{Handlers: true, Filter: tracer.Filter{RemotePorts: []tracer.PortRange{tracer.Port(1)}}})
		if err != nil {
			t.Fatal(err)
		}
		defer tr.Close()
		ns := sandbox.New(t)
		p := ns.Pair(sandbox.Families[0])
		p.Client.Write()
		p.Server.Read()
		p.Server.Write() // before 6.3 no hook shows this
		p.Client.Read()
		for _, s := range []*sandbox.Sock{p.Client, p.Server} {
			if !tr.KnowsHandler(s.Cookie) {
				t.Error("the handler of a connection in use is not known")
			}
		}
		p.Client.Close()
		p.Server.Close()
		time.Sleep(100 * time.Millisecond)
		if tr.KnowsHandler(p.Server.Cookie) {
			t.Error("the handler of a closed connection is still known")
		}
		if !tr.KnowsHandler(p.Client.Cookie) {
			t.Error("the handler is forgotten in TIME_WAIT")
		}
		ns.Remove()
		for deadline := time.Now().Add(10 * time.Second); tr.KnowsHandler(p.Client.Cookie); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				st, err := tr.Stats()
				if err == nil && st.Lost.Missed > 0 {
					return "the end of TIME_WAIT was missed"
				}
				t.Error("the handler is still known after TIME_WAIT")
				break
			}
		}
		return ""
	})
}
