package tracer

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// Totals reads what happened since New. Nothing stops meanwhile: a transition that
// happens while it reads may be counted or not.
func (t *Tracer) Totals() (*Totals, error) {
	var (
		sum    Totals
		perCPU []bpfTotals
	)
	if t.cfg.NoTotals || t.cfg.Raw {
		return nil, errNoTotals
	}
	t.settleBeforeRead()
	if err := t.lookup(bpfMapTotals, uint32(0), &perCPU); err != nil {
		return nil, fmt.Errorf("read totals: %w", err)
	}
	for i := range perCPU {
		sum.add(&perCPU[i])
	}
	for key := range durationsKeys {
		var perCPU []bpfDurations
		if err := t.lookup(bpfMapDurations, key, &perCPU); err != nil {
			return nil, fmt.Errorf("read durations: %w", err)
		}
		for i := range perCPU {
			sum.addDurations(key, &perCPU[i])
		}
	}
	return &sum, nil
}

// groupBatch is how many states of groups are read with one system call: 750 KB.
const groupBatch = 256

// Groups reads the parts of the totals that Config.SplitBy asks for, by name. With
// SplitNetNS they are by name, a slash and Group.NetNSCookie.
func (t *Tracer) Groups() (map[string]*Group, error) {
	t.settleBeforeRead()
	groups := make(map[string]*Group)
	named := make(map[groupName]*Group) // the same
	group := func(n groupName) *Group {
		if g := named[n]; g != nil {
			return g
		}
		g := &Group{Name: n.name(t.cfg.SplitBy)}
		name := g.Name
		if t.cfg.SplitBy == SplitNetNS && name != "" {
			g.NetNSCookie = n.netNSCookie()
			name = fmt.Sprintf("%s/%d", name, g.NetNSCookie)
		}
		if groups[name] == nil { // otherwise two names are written alike
			g.States, g.Ends = make(map[State]*StateTotals, numStates), make(map[Reason]uint64)
			groups[name] = g
		}
		named[n] = groups[name]
		return named[n]
	}
	var (
		keys    [groupBatch]bpfGroupKey
		endKeys [groupBatch]bpfGroupEndKey
		ends    [groupBatch]uint64
		err     error
	)
	add := func(i int, st *StateTotals) {
		g, s := group(groupName{keys[i].Bytes, keys[i].Id}), State(keys[i].State)
		st.Add(g.States[s])
		g.States[s] = st
	}
	if t.cfg.GroupSums {
		sums := make([]bpfGroupSums, groupBatch)
		err = t.batches(bpfMapGroups, keys[:], sums, func(n int) {
			states := make([]StateTotals, n) // one allocation
			for i := range sums[:n] {
				states[i] = newStateTotals(&sums[i])
				add(i, &states[i])
			}
		})
	} else {
		values := make([]bpfGroup, groupBatch)
		err = t.batches(bpfMapGroups, keys[:], values, func(n int) {
			for i := range values[:n] {
				st := newStateTotals(&values[i].Sums)
				st.setDurations(&values[i])
				add(i, &st)
			}
		})
	}
	if err == nil {
		err = t.batches(bpfMapGroupEnds, endKeys[:], ends[:], func(n int) {
			for i, key := range endKeys[:n] {
				group(groupName{key.Bytes, key.Id}).Ends[Reason(key.Reason)] += ends[i]
			}
		})
	}
	if err != nil {
		return nil, fmt.Errorf("read groups: %w", err)
	}
	return groups, nil
}

// NetNS gives the network namespaces in which a socket moved since New, with
// their inode numbers, by cookie (SO_NETNS_COOKIE). It needs Config.Audit.
func (t *Tracer) NetNS() (map[uint64]uint32, error) {
	all := make(map[uint64]uint32)
	err := t.iterate(bpfMapNamespaces, func(entries *ebpf.MapIterator) {
		var (
			cookie uint64
			id     bpfNetnsId
		)
		for entries.Next(&cookie, &id) {
			all[cookie] = id.Inum
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read network namespaces: %w", err)
	}
	return all, nil
}

// NetNSTotals reads the totals of the network namespace with this cookie. There is room
// for 1023 namespaces; cookie 0 stands for all further ones together. It needs
// Config.Audit.
func (t *Tracer) NetNSTotals(cookie uint64) (NetNSTotals, error) {
	var (
		sum    NetNSTotals
		id     bpfNetnsId
		perCPU []bpfNetnsTotals
	)
	if cookie != 0 {
		err := t.lookup(bpfMapNamespaces, cookie, &id)
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return sum, nil
		}
		if err != nil {
			return sum, fmt.Errorf("find network namespace %d: %w", cookie, err)
		}
	}
	if err := t.lookup(bpfMapNetnsTotals, id.Slot, &perCPU); err != nil {
		return sum, fmt.Errorf("read totals of network namespace %d: %w", cookie, err)
	}
	for i := range perCPU {
		sum.add(&perCPU[i])
	}
	misreport(&sum)
	return sum, nil
}

var errNoTotals = errors.New("the tracer has kept no totals: see Config.NoTotals and Raw")

var errClosed = errors.New("the tracer is closed")

// lookup reads one value of a map. Close has to wait until it is done.
func (t *Tracer) lookup(name string, key, value any) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.final != nil {
		return errClosed
	}
	return t.coll.Maps[name].Lookup(key, value)
}

// iterate passes the entries of a hash map to each. The programs may change the map
// meanwhile: a deleted entry can end the iteration early.
func (t *Tracer) iterate(name string, each func(*ebpf.MapIterator)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.final != nil {
		return errClosed
	}
	entries := t.coll.Maps[name].Iterate()
	each(entries)
	return entries.Err()
}

// batches passes the entries of a hash map to each, as many as there is room for in keys and values.
// Between two batches Close and others have their turn. The programs may change the map meanwhile:
// what is there all the time is passed once.
func (t *Tracer) batches(name string, keys, values any, each func(n int)) error {
	var cursor ebpf.MapBatchCursor
	for {
		n, err := t.batch(name, &cursor, keys, values)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return err
		}
		each(n)
		if err != nil { // that was the last batch
			return nil
		}
	}
}

func (t *Tracer) batch(name string, cursor *ebpf.MapBatchCursor, keys, values any) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.final != nil {
		return 0, errClosed
	}
	return t.coll.Maps[name].BatchLookup(cursor, keys, values, nil)
}
