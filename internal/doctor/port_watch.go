package doctor

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"finwait/tracer"
)

// An Outgoing is what was opened from one local address to one destination, and what became of it.
type Outgoing struct {
	Space  *Space
	Local  netip.Addr
	Remote netip.AddrPort
	Owner  Process // that opened the last connection
	Others bool    // others have opened some, too

	seconds [lastSeconds]second // a ring

	// Took are the times in SYN_SENT of the last connections with an even and with an odd local port.
	Took [2]Recent
}

// lastSeconds is how much of the window a rate is taken from, at most.
const (
	lastSeconds = 30
	inParts     = 3
)

// A second is what happened in one second of CLOCK_MONOTONIC.
type second struct {
	at      int64
	opened  int32 // connections
	waits   int32 // TIME_WAITs that began: the port is kept
	freed   int32 // connections that ended without one
	expired int32 // TIME_WAITs that ended
}

// An Opener is the processes of one name that open connections in a namespace.
type Opener struct {
	Space  *Space
	Owner  Process // of the last
	Others bool    // there are more of that name

	Opened uint64         // calls of connect(2) that were seen
	Bound  uint64         // of those, with a port that bind(2) had chosen
	Ports  map[uint16]int // those that such connections have now, and how many have each
}

// A Reuse is the TIME_WAITs of a namespace whose ports connect(2) has taken over as tcp_tw_reuse lets it.
type Reuse struct {
	Space *Space
	N     uint64
	After Recent // how long they had lasted
}

type openerKey struct {
	netns uint32
	comm  tracer.Comm
}

type outgoingKey struct {
	netns  uint32
	local  netip.Addr
	remote netip.AddrPort
}

// A portWatch adds up what takes local ports, and gives them back.
type portWatch struct {
	outgoing map[outgoingKey]*Outgoing
	openers  map[openerKey]*Opener
	reused   map[uint32]*Reuse      // by namespace
	bound    map[fourTuple]struct{} // connections that begin from a port that they had before
	noRoom   uint64
}

func newPortWatch() *portWatch {
	return &portWatch{outgoing: make(map[outgoingKey]*Outgoing), openers: make(map[openerKey]*Opener),
		reused: make(map[uint32]*Reuse), bound: make(map[fourTuple]struct{})}
}

func (w *portWatch) add(t *tracer.Transition) {
	w.open(t)
	w.out(t)
	w.reuse(t)
}

// reuse counts the TIME_WAITs that tcp_tw_reuse gives to connect(2). With a bound port connect(2) takes
// over its TIME_WAIT in any case (tcp_twsk_unique() without twp).
func (w *portWatch) reuse(t *tracer.Transition) {
	key := fourTuple{t.NetNS, t.Local, t.Remote}
	switch {
	case t.To == tracer.SynSent && t.Local.Port() != 0:
		if len(w.bound) == mostWaiting {
			w.noRoom++
			return
		}
		w.bound[key] = struct{}{}
	case t.From == tracer.SynSent:
		delete(w.bound, key)
	case t.From == tracer.TimeWait && t.Reason == tracer.ReasonReused:
		if _, bound := w.bound[key]; bound {
			return
		}
		r := w.reused[t.NetNS]
		if r == nil {
			r = new(Reuse)
			w.reused[t.NetNS] = r
		}
		r.N++
		if exact(t) {
			r.After.add(t.Duration)
		}
	}
}

// open takes note of who opens connections, and from which ports.
func (w *portWatch) open(t *tracer.Transition) {
	if t.Role != tracer.RoleClient || t.Owner.PID == 0 || t.To != tracer.SynSent && t.To != tracer.Closed {
		return
	}
	key, port := openerKey{t.NetNS, t.Owner.Comm}, t.Local.Port()
	o := w.openers[key]
	if t.To == tracer.Closed {
		if o == nil || o.Ports[port] == 0 {
			return
		}
		if o.Ports[port]--; o.Ports[port] == 0 {
			delete(o.Ports, port)
		}
		return
	}
	if o == nil {
		if len(w.openers) == mostKeys {
			w.noRoom++
			return
		}
		o = &Opener{Ports: make(map[uint16]int)}
		w.openers[key] = o
	}
	p := processOf(t.Owner.Process)
	o.Others = o.Others || o.Opened > 0 && o.Owner.PID != p.PID
	o.Owner = p
	o.Opened++
	if t.PortByBind {
		o.Bound++
		o.Ports[port]++
	}
}

// out takes note of what happens to a way. A connection of an unknown role counts if others to the same
// destination were opened here: then it is one of these.
func (w *portWatch) out(t *tracer.Transition) {
	if t.From == tracer.Closed || t.From == tracer.SynSent && t.To == tracer.Closed || t.Role != tracer.RoleClient && t.Role != tracer.RoleUnknown {
		return
	}
	key := outgoingKey{t.NetNS, t.Local.Addr(), t.Remote}
	o := w.outgoing[key]
	if o == nil {
		if t.Role != tracer.RoleClient {
			return
		}
		if len(w.outgoing) == mostKeys {
			w.noRoom++
			return
		}
		o = &Outgoing{Local: key.local, Remote: key.remote}
		w.outgoing[key] = o
	}
	o.add(t)
}

func (o *Outgoing) add(t *tracer.Transition) {
	at := int64(t.Ktime / time.Second)
	s := &o.seconds[at%lastSeconds]
	switch {
	case s.at < at:
		*s = second{at: at}
	case s.at > at: // it is told late
		return
	}
	switch {
	case t.From == tracer.SynSent:
		s.opened++
		if exact(t) {
			o.Took[t.Local.Port()%2].add(t.Duration)
		}
		if p := processOf(t.Owner.Process); p.PID != 0 {
			o.Others = o.Others || o.Owner.PID != 0 && o.Owner.PID != p.PID
			o.Owner = p
		}
	case t.To == tracer.TimeWait:
		s.waits++
	case t.From == tracer.TimeWait:
		s.expired++
	case t.To == tracer.Closed:
		s.freed++
	}
}

// parts are the last whole seconds of a window that ends at end, in three equal parts; nil: it is too
// short for that.
func (o *Outgoing) parts(end, window time.Duration) (parts []second, each time.Duration) {
	last := int64(end / time.Second) // not whole
	n := min(last-int64((end-window+time.Second-1)/time.Second), lastSeconds) / inParts
	if n < 1 {
		return nil, 0
	}
	parts = make([]second, inParts)
	for i := range o.seconds {
		s := &o.seconds[i]
		if before := last - 1 - s.at; before >= 0 && before < inParts*n {
			p := &parts[inParts-1-before/n]
			p.opened += s.opened
			p.waits += s.waits
			p.freed += s.freed
			p.expired += s.expired
		}
	}
	return parts, time.Duration(n) * time.Second
}

// A pace is what goes on each second. It is that of the least of three parts, because what has ended,
// has just begun, or comes all at once does not go on.
type pace struct {
	opened float64       // connections
	waits  float64       // TIME_WAITs that begin
	live   float64       // connections that are opened, less those that are closed
	used   float64       // ports that are taken, less those that are given back
	over   time.Duration // seen for so long; 0: the window is too short, and nothing is known
	lately float64       // TIME_WAITs that began in the last part
}

func (o *Outgoing) pace(end, window time.Duration) (p pace) {
	parts, each := o.parts(end, window)
	if parts == nil {
		return p
	}
	least := func(of func(*second) int32) float64 {
		n := of(&parts[0])
		for i := range parts {
			n = min(n, of(&parts[i]))
		}
		return float64(n) / each.Seconds()
	}
	return pace{
		opened: least(func(s *second) int32 { return s.opened }),
		waits:  least(func(s *second) int32 { return s.waits }),
		live:   least(func(s *second) int32 { return s.opened - s.waits - s.freed }),
		used:   least(func(s *second) int32 { return s.opened - s.freed - s.expired }),
		over:   each * time.Duration(len(parts)),
		lately: float64(parts[len(parts)-1].waits) / each.Seconds(),
	}
}

// fill puts what was added up into the stream, in a fixed order.
func (w *portWatch) fill(s *Stream, space func(netns uint32) *Space) {
	s.NoRoom += w.noRoom
	for key, o := range w.outgoing {
		o.Space = space(key.netns)
		s.Outgoing = append(s.Outgoing, o)
	}
	for key, o := range w.openers {
		o.Space = space(key.netns)
		s.Openers = append(s.Openers, o)
	}
	for netns, r := range w.reused {
		r.Space = space(netns)
		s.Reused = append(s.Reused, r)
	}
	slices.SortFunc(s.Openers, func(a, b *Opener) int {
		return cmp.Or(cmp.Compare(a.Space.Inode, b.Space.Inode), cmp.Compare(a.Owner.Comm, b.Owner.Comm))
	})
	slices.SortFunc(s.Outgoing, func(a, b *Outgoing) int {
		return cmp.Or(cmp.Compare(a.Space.Inode, b.Space.Inode), compareEnds(a.Remote, b.Remote), a.Local.Compare(b.Local))
	})
}

// ways calls fn for the destinations, with what was seen to be opened to each; nil: nothing was.
func (in *Input) ways(fn func(*Space, *Destination, *Outgoing)) {
	type way struct {
		space  *Space
		local  netip.Addr
		remote netip.AddrPort
	}
	seen := make(map[way]*Outgoing)
	if in.Stream != nil {
		for _, o := range in.Stream.Outgoing {
			seen[way{o.Space, o.Local, o.Remote}] = o
		}
	}
	in.destinations(func(s *Space, d *Destination) { fn(s, d, seen[way{s, d.Local, d.Remote}]) })
}

// A forecast says how many ports a destination comes to if its pace goes on.
type forecast struct {
	pace
	settles float64       // ports, when TIME_WAITs end as fast as they begin
	gone    time.Duration // until all are used; 0: they are not, or that is not known
}

// forecast applies Little's law: connections that this end closes first keep their port as long as
// TIME_WAIT lasts, and those that are open keep theirs. half: what share of the ports open connections
// must have for their growth to count.
func (in *Input) forecast(s *Space, d *Destination, o *Outgoing, half float64) (f forecast) {
	if o == nil {
		return f
	}
	f.pace = o.pace(in.Stream.Ended, in.Stream.Window)
	if f.opened == 0 {
		return f
	}
	lasts := in.lasts()
	if whyNoReuse(s, d) == "" {
		lasts = time.Second // then connect(2) takes it over (tcp_twsk_unique())
	}
	usable, live := float64(s.Usable), d.live()
	left := usable - float64(d.Used)
	f.settles = live + f.waits*lasts.Seconds()
	switch {
	case f.settles >= usable:
		f.gone = lasts // by then there are as many TIME_WAITs
		if f.used > 0 {
			f.gone = min(f.gone, time.Duration(left/f.used*float64(time.Second)))
		}
	case f.live > 0 && live >= half*usable:
		f.gone = time.Duration(left / f.live * float64(time.Second))
	}
	return f
}

// ended reports whether so few connections came to a destination at the end of a watch that TIME_WAIT
// will give back so many ports that less than a share of them is used. Each transition that was lost
// may have been the TIME_WAIT of such a connection.
func (in *Input) ended(s *Space, d *Destination, o *Outgoing, share float64) bool {
	if in.Stream == nil {
		return false
	}
	if o == nil {
		o = new(Outgoing)
	}
	p := o.pace(in.Stream.Ended, in.Stream.Window)
	lost := float64(in.Stream.Lost.Total()+in.Stream.NoRoom) / (p.over / inParts).Seconds()
	return p.over > 0 && d.live()+(p.lately+lost)*in.lasts().Seconds() < share*float64(s.Usable)
}

// live are the ports of connections that are open.
func (d *Destination) live() float64 { return float64(d.Used - min(d.Used, d.TimeWaits)) }

// lasts is how long a TIME_WAIT lasts.
func (in *Input) lasts() time.Duration { return max(in.TimeWait, timeWait) }

// triedFirst reports whether a port is of those that connect(2) tries first: they have the parity of
// the lowest one (__inet_hash_connect()).
func (s *Space) triedFirst(port uint16) bool { return port%2 == s.Low%2 }

// firstUsable is how many usable ports connect(2) tries first.
func (s *Space) firstUsable() (n uint64) {
	for port := uint32(s.Low); port <= uint32(s.High); port += 2 {
		if s.Choosable(uint16(port)) {
			n++
		}
	}
	return n
}
