package tracer

import (
	"net"
	"testing"
)

// The tracer knows which of its programs are attached, and how full its maps are. MapFill counts
// exactly: more than a batch, in a map with room for more.
func TestSelf(t *testing.T) {
	tr, err := New(Config{TotalsOnly: true, SplitBy: SplitPort, GroupStates: 3 * fillBatch})
	if err != nil {
		t.Skip(err)
	}
	defer tr.Close()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	programs, err := tr.Programs()
	if err != nil {
		t.Fatal(err)
	}
	attached := make(map[string]bool)
	for _, p := range programs {
		attached[p.Name] = p.Attached
		if p.Runs == 0 && p.RunTime != 0 {
			t.Errorf("%+v", p)
		}
	}
	if !attached[bpfProgSetState] || len(attached) < 6 {
		t.Errorf("attached: %v", attached)
	}

	groups := tr.coll.Maps[bpfMapGroups]
	before := fillOf(t, tr, "groups")
	if before.Capacity != 3*fillBatch || before.Entries == 0 { // of the listener
		t.Errorf("%+v", before)
	}
	for i := range uint64(fillBatch + 7) {
		if err := groups.Put(bpfGroupKey{Id: 1 << 20, State: 1, Bytes: [16]uint8{byte(i), byte(i >> 8)}}, bpfGroup{}); err != nil {
			t.Fatal(err)
		}
	}
	// Other sockets of the host may add to it.
	if after := fillOf(t, tr, "groups"); after.Entries < before.Entries+fillBatch+7 || after.Entries > before.Entries+fillBatch+200 {
		t.Errorf("%+v after %+v", after, before)
	}
	if sockets := fillOf(t, tr, "sockets"); sockets.Capacity < minSockets {
		t.Errorf("%+v", sockets)
	}
}

func fillOf(t *testing.T, tr *Tracer, name string) MapFill {
	t.Helper()
	all, err := tr.MapFill()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.Name == name {
			return f
		}
	}
	t.Fatalf("no map %s in %+v", name, all)
	return MapFill{}
}
