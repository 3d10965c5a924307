package sockets

import (
	"bytes"
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"finwait/internal/jsonl"
	"finwait/internal/label"
	"finwait/internal/meter"
	"finwait/internal/text"
	"finwait/tracer"
)

// A value is what the sockets of one group share. Of the zero value nothing is known.
type value struct {
	known  bool
	number uint64 // of whatever the key is
	comm   tracer.Comm
	netns  uint32
	cookie uint64 // of netns
	local  netip.Addr
	remote netip.AddrPort
	scope  tracer.Scope
	name   string // of a pod, a container or a unit
}

func number(known bool, n uint64) value {
	if !known {
		return value{}
	}
	return value{known: true, number: n}
}

func (v *value) compare(o *value) int {
	return cmp.Or(cmp.Compare(v.name, o.name), cmp.Compare(v.number, o.number), bytes.Compare(v.comm.Bytes(), o.comm.Bytes()), v.local.Compare(o.local),
		v.remote.Compare(o.remote), cmp.Compare(v.scope.ID, o.scope.ID), cmp.Compare(v.netns, o.netns), cmp.Compare(v.cookie, o.cookie))
}

// A key says which sockets belong together.
type key struct {
	word string
	need Need
	of   func(*Row, *Names) value
	name func(*value, *Names) string // of a value that is known
}

// destination is the key that ports belong to.
const destination = "destination"

// keys are all that there are.
var keys = []key{
	{"state", 0,
		func(r *Row, _ *Names) value { return number(true, uint64(r.State)) },
		func(v *value, _ *Names) string { return tracer.State(v.number).String() }},
	{"port", NeedListeners, port, plain},
	{"remote", 0, remote,
		func(v *value, _ *Names) string { return v.scope.Zoned(v.remote).Addr().String() }},
	{destination, NeedListeners | NeedPorts, towards,
		func(v *value, _ *Names) string {
			return string(text.AppendEndpoint(nil, v.remote, v.scope))
		}},
	{"netns", NeedNames,
		func(r *Row, _ *Names) value { return value{known: true, netns: r.NetNS, cookie: r.netNSCookie} },
		func(v *value, _ *Names) string { return strconv.FormatUint(uint64(v.netns), 10) }},
	{"comm", NeedOwners,
		func(r *Row, _ *Names) value { return value{known: owned(r), comm: r.Owner.Comm} },
		func(v *value, _ *Names) string { return v.comm.String() }},
	{"pid", NeedOwners,
		func(r *Row, _ *Names) value {
			return value{known: owned(r), number: uint64(r.Owner.PID), comm: r.Owner.Comm}
		},
		plain},
	{"uid", 0, func(r *Row, _ *Names) value { return number(r.UIDKnown, uint64(r.UID)) }, plain},
	{"handler", 0, func(*Row, *Names) value { return value{} }, plain}, // it takes the programs to know it
	{"cgroup", NeedCgroupPaths,
		func(r *Row, _ *Names) value { return number(r.CgroupID != 0, r.CgroupID) },
		func(v *value, n *Names) string {
			if path, ok := n.CgroupPath(v.number); ok {
				return path
			}
			return plain(v, nil)
		}},
	named("unit", func(c *label.Cgroup) string { return c.Unit }),
	named("container", func(c *label.Cgroup) string { return cmp.Or(c.Container, c.ContainerID) }),
	named("pod", jsonl.PodName),
}

// named is a key whose values are names that a cgroup has. Several cgroups can have one.
func named(word string, of func(*label.Cgroup) string) key {
	return key{word, NeedNames,
		func(r *Row, n *Names) value {
			c := n.cgroup(r.CgroupID)
			name := of(&c)
			return value{known: name != "", name: name}
		},
		func(v *value, _ *Names) string { return v.name }}
}

func plain(v *value, _ *Names) string { return strconv.FormatUint(v.number, 10) }

// port is the local one if a socket listens on it in the namespace now, and else the remote one,
// as a client has it.
func port(r *Row, _ *Names) value {
	if r.space.listened.has(r.Local.Port()) || r.TCPState() == tracer.Listen {
		return number(true, uint64(r.Local.Port()))
	}
	return number(r.Remote.Port() != 0, uint64(r.Remote.Port()))
}

// remote is the address of the other end, which a listener does not have.
func remote(r *Row, _ *Names) value {
	if r.TCPState() == tracer.Listen {
		return value{}
	}
	v := value{known: true, remote: netip.AddrPortFrom(r.Remote.Addr(), 0)}
	if linkLocal(r.Remote.Addr()) {
		v.scope = r.Scope
	}
	return v
}

// towards is a destination: that for which connect(2) needs a local port that no other socket
// of the same local address has towards it, minisocks included.
func towards(r *Row, _ *Names) value {
	if r.TCPState() == tracer.Listen {
		return value{}
	}
	return value{known: true, netns: r.NetNS, cookie: r.netNSCookie, local: r.Local.Addr(), remote: r.Remote, scope: r.Scope}
}

func linkLocal(a netip.Addr) bool { return a.Is6() && a.IsLinkLocalUnicast() }

// KeyWords are what ParseGrouping knows.
func KeyWords() []string {
	words := make([]string, len(keys))
	for i, k := range keys {
		words[i] = k.word
	}
	return words
}

// A Group is the sockets that share what a Grouping asks for.
type Group struct {
	values  []value // one for each key
	numbers [2]uint32
	Sockets uint64
	States  [tracer.NewSynRecv + 1]uint64

	// Oldest is the greatest age of those that are known.
	Oldest time.Duration
	ages   [tracer.PrecisionAtLeast + 1]uint64 // how many sockets have an age of this precision

	// Of a destination that is known, if the usable ports are.
	Ports *Ports
}

// Ports are those that connect(2) can choose for a destination.
type Ports struct {
	Used, Usable int // different local ports among the usable ones
	Held         int // of the usable ones, by bind(2): for all destinations
	HeldKnown    bool
}

func (g *Group) add(r *Row) {
	g.Sockets++
	g.States[r.State]++
	age, precision := r.Age()
	g.Oldest = max(g.Oldest, age)
	g.ages[precision]++
}

// Precision is that of Oldest. Where one age is not known, that socket may be older.
func (g *Group) Precision() tracer.Precision {
	switch {
	case !g.Aged():
		return tracer.PrecisionUnknown
	case g.ages[tracer.PrecisionUnknown]+g.ages[tracer.PrecisionAtLeast] > 0:
		return tracer.PrecisionAtLeast
	case g.ages[tracer.PrecisionJiffy] > 0:
		return tracer.PrecisionJiffy
	}
	return tracer.PrecisionExact
}

// Aged reports whether an age is known of a socket at least.
func (g *Group) Aged() bool { return g.ages[tracer.PrecisionUnknown] < g.Sockets }

func (g *Group) merge(o *Group) {
	g.Sockets += o.Sockets
	for state, n := range o.States {
		g.States[state] += n
	}
	for precision, n := range o.ages {
		g.ages[precision] += n
	}
	g.Oldest = max(g.Oldest, o.Oldest)
}

// groupStates are the states in the order in which a connection passes through them.
func groupStates() []tracer.State { return append(meter.LifeOrder(), tracer.NewSynRecv) }

// A Grouping puts sockets into groups.
type Grouping struct {
	keys    []*key
	names   *Names
	compare func(a, b *Group) int
	byPorts bool // compare asks for ports
	top     int
	groups  map[[2]uint32]*Group
	spaces  map[uint32]*space // by inode number
	used    [][]uint16        // by the number of a destination: the usable local ports, some perhaps twice

	// Values are large, so each has a number. 0: it is not known.
	numbers map[value]uint32
	last    value // and its number: a socket that is used and counted is asked about twice
	number  uint32
}

// NewGrouping groups by one word or two, sorts by a field, backwards if it begins with "-", and shows
// the first top groups; 0: all. Fields are sockets, oldest, name, the share of ports that are used,
// and states.
func NewGrouping(words []string, sort string, top int) (*Grouping, error) {
	g := &Grouping{top: top, groups: make(map[[2]uint32]*Group), spaces: make(map[uint32]*space), numbers: make(map[value]uint32)}
	if len(words) > 2 {
		return nil, errors.New("there are groups by one or two things, not by more")
	}
	for _, word := range words {
		i := slices.IndexFunc(keys, func(k key) bool { return k.word == word })
		if i < 0 {
			return nil, fmt.Errorf("there are no groups by %q; there are %s", word, strings.Join(KeyWords(), ", "))
		}
		g.keys = append(g.keys, &keys[i])
		if word == destination {
			g.used = make([][]uint16, 1)
		}
	}
	if len(words) == 2 && words[0] == words[1] {
		return nil, fmt.Errorf("groups by %s and %[1]s are groups by %[1]s", words[0])
	}
	var err error
	g.compare, err = groupOrder(cmp.Or(sort, "-sockets"))
	g.byPorts = strings.TrimPrefix(sort, "-") == "ports"
	return g, err
}

// SortFields are the fields by which groups are sorted, beside states.
func SortFields() []string { return []string{"sockets", "oldest", "name", "ports"} }

func groupOrder(field string) (func(a, b *Group) int, error) {
	field, backwards := strings.CutPrefix(field, "-")
	known := func(*Group) bool { return true }
	var compare func(a, b *Group) int
	var state tracer.State
	switch {
	case field == "sockets":
		compare = func(a, b *Group) int { return cmp.Compare(a.Sockets, b.Sockets) }
	case field == "oldest":
		known = (*Group).Aged
		compare = func(a, b *Group) int { return cmp.Compare(a.Oldest, b.Oldest) }
	case field == "ports":
		known = func(g *Group) bool { return g.Ports != nil }
		compare = func(a, b *Group) int { return cmp.Compare(a.Ports.Used*b.Ports.Usable, b.Ports.Used*a.Ports.Usable) }
	case field == "name":
		compare = byName
	case state.UnmarshalText([]byte(field)) == nil:
		compare = func(a, b *Group) int { return cmp.Compare(a.States[state], b.States[state]) }
	default:
		return nil, fmt.Errorf("groups are not sorted by %q; there are %s, and states", field, strings.Join(SortFields(), ", "))
	}
	return func(a, b *Group) int {
		switch ka, kb := known(a), known(b); {
		case ka != kb && ka:
			return -1
		case ka != kb:
			return 1
		case ka && backwards:
			return cmp.Or(compare(b, a), byName(a, b))
		case ka:
			return cmp.Or(compare(a, b), byName(a, b))
		}
		return byName(a, b)
	}, nil
}

// byName puts what is not known last.
func byName(a, b *Group) int {
	for i := range a.values {
		x, y := &a.values[i], &b.values[i]
		switch {
		case x.known && !y.known:
			return -1
		case !x.known && y.known:
			return 1
		}
		if c := x.compare(y); c != 0 {
			return c
		}
	}
	return 0
}

// Need is what has to be read for the groups.
func (g *Grouping) Need() Need {
	need := Need(NeedInfo) // for the oldest
	for _, k := range g.keys {
		need |= k.need
	}
	return need
}

// Count adds a socket to its group.
func (g *Grouping) Count(r *Row) error {
	var values [2]value
	var numbers [2]uint32
	for i, k := range g.keys {
		if v := k.of(r, g.names); v.known {
			values[i], numbers[i] = v, g.numberOf(&v)
		}
	}
	of := g.groups[numbers]
	if of == nil {
		of = &Group{values: slices.Clone(values[:len(g.keys)]), numbers: numbers}
		g.groups[numbers] = of
	}
	of.add(r)
	return nil
}

// numberOf gives each value that is known a number of its own.
func (g *Grouping) numberOf(v *value) uint32 {
	if *v == g.last {
		return g.number
	}
	n, met := g.numbers[*v]
	if !met {
		n = uint32(len(g.numbers) + 1)
		g.numbers[*v] = n
	}
	g.last, g.number = *v, n
	return n
}

// Use takes note of the local port of a socket. It is to be called for every socket, also for
// those that the Selection does not match: they use ports as well.
func (g *Grouping) Use(r *Row) {
	if g.used == nil || r.space.usable == nil {
		return
	}
	g.spaces[r.NetNS] = r.space
	if to := towards(r, nil); to.known && r.space.usable.has(r.Local.Port()) {
		n := int(g.numberOf(&to))
		if n >= len(g.used) {
			g.used = append(g.used, make([][]uint16, n+1-len(g.used))...)
		}
		g.used[n] = append(g.used[n], r.Local.Port())
	}
}

// ports are those of a group of the key number at; nil: they are not known.
func (g *Grouping) ports(of *Group, at int) *Ports {
	to, n := &of.values[at], int(of.numbers[at])
	s := g.spaces[to.netns]
	if !to.known || s == nil {
		return nil
	}
	var used []uint16
	if n < len(g.used) {
		used = g.used[n]
		slices.Sort(used)
		used = slices.Compact(used)
		g.used[n] = used // another group may be of this destination, too
	}
	return &Ports{Used: len(used), Usable: s.count, Held: s.held, HeldKnown: s.heldKnown}
}

// A Table is groups as they are shown. Together they are all sockets that were counted.
type Table struct {
	By      []string // words of the keys
	Groups  []*Group // in order
	Others  *Group   // the sum of those that are not shown; nil: there are none
	Left    int      // how many groups that is
	Unknown *Group   // what none of the keys is known of; nil: there is nothing

	keys   []*key
	labels *Names
}

// name of a value, which is known, of the key number i.
func (t *Table) name(i int, v *value) string { return t.keys[i].name(v, t.labels) }

// Name sets the names of values, before anything is counted. They are the Reader's.
func (g *Grouping) Name(names *Names) { g.names = names }

// Table puts the groups in order.
func (g *Grouping) Table() *Table {
	t := &Table{keys: g.keys, labels: g.names}
	at := -1
	for i, k := range g.keys {
		t.By = append(t.By, k.word)
		if k.word == destination {
			at = i
		}
	}
	for _, of := range g.groups {
		if !slices.ContainsFunc(of.values, func(v value) bool { return v.known }) {
			t.Unknown = of
			continue
		}
		t.Groups = append(t.Groups, of)
	}
	if at >= 0 && g.byPorts {
		g.findPorts(at, t.Groups)
	}
	if g.top > 0 && len(t.Groups) > g.top {
		t.Others, t.Left = new(Group), len(t.Groups)-g.top
		for _, of := range bringForward(g.top, t.Groups, g.compare) {
			t.Others.merge(of)
		}
		t.Groups = t.Groups[:g.top]
	}
	slices.SortFunc(t.Groups, g.compare)
	if at >= 0 && !g.byPorts {
		g.findPorts(at, t.Groups)
	}
	return t
}

func (g *Grouping) findPorts(at int, groups []*Group) {
	for _, of := range groups {
		of.Ports = g.ports(of, at)
	}
}

// bringForward moves the first n groups to the front, in any order, and returns the others. To sort
// all of them would take most of the time that they take.
func bringForward(n int, groups []*Group, compare func(a, b *Group) int) []*Group {
	first := &lastOnTop{groups[:n], compare}
	heap.Init(first)
	for i := n; i < len(groups); i++ {
		if compare(groups[i], first.groups[0]) < 0 {
			groups[i], first.groups[0] = first.groups[0], groups[i]
			heap.Fix(first, 0)
		}
	}
	return groups[n:]
}

// lastOnTop is a heap with the last group, in order, on top. It stays as long as it is.
type lastOnTop struct {
	groups  []*Group
	compare func(a, b *Group) int
}

func (h *lastOnTop) Len() int           { return len(h.groups) }
func (h *lastOnTop) Less(i, j int) bool { return h.compare(h.groups[i], h.groups[j]) > 0 }
func (h *lastOnTop) Swap(i, j int)      { h.groups[i], h.groups[j] = h.groups[j], h.groups[i] }
func (h *lastOnTop) Push(any)           { panic("it has its length") }
func (h *lastOnTop) Pop() any           { panic("it has its length") }

// HeldUnknown reports whether there is a destination of which it is not known how many ports
// bind(2) holds.
func (t *Table) HeldUnknown() bool {
	return slices.ContainsFunc(t.Groups, func(g *Group) bool { return g.Ports != nil && !g.Ports.HeldKnown })
}
