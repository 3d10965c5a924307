package tracer

import (
	"context"
	"os"
	"testing"
	"time"

	generator "finwait/internal/load"
	"finwait/internal/sandbox"
)

// So many sockets at a time that some find their places in the array taken: they
// are in the hash, are followed like the others, and leave it when they are closed.
func TestSpilledSockets(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("loading BPF programs needs root")
	}
	tr, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	spilled := func() (n uint32) {
		if err := tr.coll.Variables[bpfVarSocketsSpilled].Get(&n); err != nil {
			t.Error(err)
		}
		return n
	}
	ns := sandbox.New(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	edges := make(map[[2]State]int)
	unknown := uint64(0) // durations of states that the record of a socket should have had
	read := make(chan error, 1)
	go func() {
		read <- tr.Run(ctx, func(x *Transition) error {
			if x.NetNSCookie != ns.Cookie { // an inode number is used again
				return nil
			}
			edges[[2]State{x.From, x.To}]++
			if x.From != Closed && x.From != Listen && !x.Known() {
				unknown++
			}
			return nil
		})
	}()

	const count = 3000
	most := make(chan uint32, 1)
	loaded := make(chan struct{})
	go func() {
		var n uint32
		for done := false; !done; time.Sleep(10 * time.Millisecond) {
			n = max(n, spilled())
			select {
			case <-loaded:
				done = true
			default:
			}
		}
		most <- n
	}()
	sum, err := generator.Run(ctx, generator.Config{Count: count, Hold: 2 * time.Second, NetNS: ns.Path(), Workers: 12}, nil)
	close(loaded)
	if err != nil || sum.Made != count {
		t.Fatalf("%d of %d connections: %v, %v", sum.Made, count, sum.Failed, err)
	}
	during := <-most
	ns.Remove()
	for deadline := time.Now().Add(20 * time.Second); spilled() > during/4 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	if after := spilled(); during < count/100 || after > during/4 {
		t.Errorf("%d records in the hash at the most, %d when the sockets are closed", during, after)
	}
	stop()
	if err := <-read; err != nil && ctx.Err() == nil {
		t.Fatal(err)
	}
	st, err := tr.Stats()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range [][2]State{{SynSent, Established}, {SynRecv, Established}, {Established, FinWait1}, {Established, CloseWait}, {FinWait1, FinWait2}, {CloseWait, LastAck}, {LastAck, Closed}} {
		if missing := count - edges[e]; missing < 0 || uint64(missing) > st.Lost.Total() {
			t.Errorf("%v -> %v: %d of %d, and %d transitions were lost", e[0], e[1], edges[e], count, st.Lost.Total())
		}
	}
	if unknown > 2*st.Lost.Total() {
		t.Errorf("%d durations are unknown, and %d transitions were lost", unknown, st.Lost.Total())
	}
	t.Logf("%d records in the hash at the most; %+v", during, st)
}
