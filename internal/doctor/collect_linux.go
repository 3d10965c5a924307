package doctor

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"finwait/internal/ktime"
	"finwait/internal/netns"
	"finwait/internal/netstat"
	"finwait/internal/privilege"
	"finwait/internal/sockdiag"
	"finwait/internal/sockets"
	"finwait/tracer"

	"github.com/rs/zerolog"
)

// A Source is what a Collector reads.
type Source struct {
	Filter tracer.Filter
	NetNS  []netns.NS // none: all that can be entered
	Owners sockets.OwnerSource
	Walk   func() (sockets.Walk, error)
	Log    *zerolog.Logger
	Root   string // where the files of sysctls are; "": /
}

// sysctls that rules ask for.
var sysctls = []string{
	"net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_max_tw_buckets", "net.ipv4.tcp_fin_timeout",
	"net.ipv4.tcp_tw_reuse", "net.ipv4.tcp_timestamps", "net.core.somaxconn", "net.ipv4.tcp_max_orphans",
	"net.ipv4.tcp_syncookies", "net.ipv4.tcp_abort_on_overflow", "net.ipv4.tcp_orphan_retries", "net.ipv4.tcp_syn_retries",
	"net.ipv4.tcp_retries2", "net.ipv4.tcp_keepalive_time", "net.netfilter.nf_conntrack_count", "net.netfilter.nf_conntrack_max",
	"net.ipv4.tcp_syn_linear_timeouts", "net.netfilter.nf_conntrack_tcp_timeout_close_wait", "net.netfilter.nf_conntrack_tcp_timeout_fin_wait",
}

// A Collector reads the input of the rules.
type Collector struct {
	src   Source
	first map[uint32]netstat.Counters // by namespace
	since time.Time

	watching  *watching
	unwatched error // why there is none
}

// NewCollector makes one.
func NewCollector(src Source) *Collector { return &Collector{src: src} }

// Begin takes the first reading of the counters, and starts to watch transitions.
func (c *Collector) Begin() error {
	c.first, c.since = make(map[uint32]netstat.Counters), time.Now()
	paths, err := c.paths()
	if err != nil {
		return err
	}
	for inode, path := range paths {
		_ = netns.Do(path, func() (err error) { // what cannot be read now has no window
			c.first[inode], err = netstat.Read()
			return err
		})
	}
	c.watching, c.unwatched = startWatching(c.src.Filter, c.src.Log)
	return nil
}

func (c *Collector) paths() (map[uint32]string, error) {
	if len(c.src.NetNS) == 0 {
		return netns.All()
	}
	paths := make(map[uint32]string)
	for _, ns := range c.src.NetNS {
		paths[ns.Inode] = ns.Path
	}
	return paths, nil
}

// Take reads sockets, settings and counters.
func (c *Collector) Take() (*Input, error) {
	beyond := c.src.Filter
	beyond.NetNS = nil
	in := &Input{Missing: make(map[Need]Why), Filtered: beyond.Picks()}
	if least, most, err := ktime.TimeWaitBand(); err == nil {
		in.TimeWait = (least + most) / 2 // when in a slot of the timer wheel it begins is chance
	}
	if c.first == nil {
		in.Missing[NeedWindow], in.Missing[NeedStream] = whyOneReading, whyNoWatch
	} else {
		in.Window = time.Since(c.since)
		c.stopWatching(in)
	}
	if !privilege.Has("CAP_SYS_PTRACE") {
		in.Missing[NeedOwners] = whyNoOwners
		in.Missing[NeedLimits] = whyNoLimits
	}
	var err error
	if in.Self, err = netns.Inode("/proc/thread-self/ns/net"); err != nil {
		return nil, err
	}
	all, names, err := c.sockets()
	if err != nil {
		return nil, err
	}
	paths, err := c.paths()
	if err != nil {
		return nil, err
	}
	options, err := bindOptions()
	if err != nil {
		in.Missing[NeedOptions] = whyNoOptions(err)
	}
	for inode, path := range paths {
		g := all[inode]
		if g == nil {
			g = newGathering()
		}
		s := &Space{Inode: inode, Name: names.NetNS(inode)}
		err := netns.Do(path, func() (err error) {
			s.Sysctls = readSysctls()
			s.Counters, err = netstat.Read()
			return err
		})
		if err != nil {
			in.Unread++
			continue
		}
		if before := c.first[inode]; before != nil {
			s.Moved = make(netstat.Counters, len(before))
			for name, now := range s.Counters {
				s.Moved[name] = now - before[name]
			}
		}
		g.fill(s)
		for i := range s.Listeners {
			l := &s.Listeners[i]
			var o tracer.SocketHolder
			o, l.OptionsKnown = options[l.inode]
			l.ReuseAddr, l.ReusePort = o.ReuseAddr, o.ReusePort
		}
		in.Spaces = append(in.Spaces, s)
	}
	if in.Unread > 0 {
		c.src.Log.Warn().Msgf("network namespaces that could not be entered: %d", in.Unread)
	}
	if in.initial() == nil {
		in.Missing[NeedInitial] = whyNotInitial
	}
	trackHalfClosed(in, all, paths)
	slices.SortFunc(in.Spaces, func(a, b *Space) int { return cmp.Compare(a.Inode, b.Inode) })
	if in.Stream != nil {
		c.watching.watch.fill(in.Stream, watchedSpaces(in, names.NetNS))
	}
	in.Settings, err = readSettings(cmp.Or(c.src.Root, "/"))
	return in, err
}

// stopWatching ends the watch.
func (c *Collector) stopWatching(in *Input) {
	err := c.unwatched
	if err == nil {
		in.Stream, err = c.watching.end()
	}
	if err != nil {
		in.Missing[NeedStream] = whyUnwatched(err)
		return
	}
}

// bindOptions finds which sockets have set SO_REUSEADDR and SO_REUSEPORT, by inode number.
func bindOptions() (map[uint64]tracer.SocketHolder, error) {
	all := make(map[uint64]tracer.SocketHolder)
	err := tracer.SocketHolders(func(h *tracer.SocketHolder) {
		if h.Listens {
			all[h.Inode] = *h
		}
	})
	return all, err
}

func readSysctls() map[string]string {
	values := make(map[string]string)
	for _, key := range sysctls {
		// Of the thread's namespace.
		if b, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(key, ".", "/")); err == nil {
			values[key] = strings.TrimSpace(string(b))
		}
	}
	return values
}

// A gathering is what the sockets of a namespace add up to. Of a server's connections nothing is kept
// but numbers: their remote ends are as many as they are.
type gathering struct {
	states         [tracer.NewSynRecv + 1]uint64
	timeWaits      Ends
	orphans        uint64
	ports          sockets.PortSpace
	owners         map[ownerKey]Process
	towards        map[destinationKey]*destination
	listeners      []Listener
	queued         map[uint16]*Listener // by local port
	held           map[netip.AddrPort]*Holding
	closeWaits     map[waitingKey]*Waiting
	finWait2s      map[waitingKey]*Waiting
	finWait1s      map[stuckKey]*Stuck
	lastAcks       map[stuckKey]*Stuck
	halfClosed     []halfClosed
	halfClosedLeft uint64                 // those beyond mostHalfClosed
	handshakes     map[uint16]*Handshakes // by local port
}

type destinationKey struct {
	local  netip.Addr
	remote netip.AddrPort
}

type destination struct {
	ports              []uint16
	timeWaits, orphans uint64
	owners             map[Process]uint64
}

type ownerKey struct {
	process tracer.Process
	cgroup  uint64
}

type waitingKey struct {
	owner  Process
	remote netip.AddrPort
	local  uint16
}

func newGathering() *gathering {
	return &gathering{
		owners: make(map[ownerKey]Process), towards: make(map[destinationKey]*destination), queued: make(map[uint16]*Listener), held: make(map[netip.AddrPort]*Holding),
		closeWaits: make(map[waitingKey]*Waiting), finWait2s: make(map[waitingKey]*Waiting),
		finWait1s: make(map[stuckKey]*Stuck), lastAcks: make(map[stuckKey]*Stuck), handshakes: make(map[uint16]*Handshakes),
	}
}

// sockets reads all namespaces.
func (c *Collector) sockets() (map[uint32]*gathering, *sockets.Names, error) {
	sel, err := sockets.Select(c.src.Filter)
	if err != nil {
		return nil, nil, err
	}
	reader, err := sockets.NewReader(sel, sockets.Options{
		NetNS: c.src.NetNS, Owners: c.src.Owners, Walk: c.src.Walk,
		Need: sockets.NeedOwners | sockets.NeedInfo | sockets.NeedPorts | sockets.NeedListeners | sockets.NeedNames,
	}, c.src.Log)
	if err != nil {
		return nil, nil, err
	}
	names := reader.Names()
	all := make(map[uint32]*gathering)
	err = reader.Each(func(r *sockets.Row) error {
		g := all[r.NetNS]
		if g == nil {
			g = newGathering()
			all[r.NetNS] = g
		}
		g.add(r, names)
		return nil
	})
	return all, names, err
}

func (g *gathering) add(r *sockets.Row, names *sockets.Names) {
	state := r.TCPState()
	g.states[state]++
	g.ports = r.PortSpace() // the same for all
	served := g.ports.Listened(r.Local.Port())
	owner := g.owner(r, names)
	orphan, _ := r.Orphan()
	queued, known := r.Queued()
	queued = queued && known
	switch {
	case state == tracer.Listen:
		recv, send, _ := r.Queues()
		g.listeners = append(g.listeners, Listener{Local: r.Local, Owner: owner, Waiting: uint64(recv), Limit: uint64(send), V6Only: r.V6Only,
			inode: r.Inode})
	case state == tracer.FinWait1:
		stick(g.finWait1s, r, served)
	case state == tracer.LastAck:
		stick(g.lastAcks, r, served)
	case state == tracer.NewSynRecv:
		g.handshake(r)
	case state == tracer.TimeWait && served:
		g.timeWaits.Served++
	case state == tracer.TimeWait:
		g.timeWaits.Opened++
	case state == tracer.FinWait2 && orphan:
		g.orphans++
	}
	if !queued && halfClosedState(state) {
		g.halfClose(r, owner, served)
	}
	if queued {
		g.wait(r)
	} else if served {
		g.hold(r, state)
	}
	age, precision := r.Age()
	if precision != tracer.PrecisionUnknown && !queued && owner.PID != 0 {
		switch state {
		case tracer.CloseWait:
			add(g.closeWaits, r, owner, served, age)
		case tracer.FinWait2:
			add(g.finWait2s, r, owner, served, age)
		}
	}
	if state != tracer.Listen && !served && g.ports.Choosable(r.Local.Port()) {
		g.toward(r, state, owner, orphan)
	}
}

// owner is who holds the socket. A process has many, and its names are made once.
func (g *gathering) owner(r *sockets.Row, names *sockets.Names) Process {
	if r.Owner.PID == 0 {
		return Process{}
	}
	key := ownerKey{r.Owner, r.CgroupID}
	p, ok := g.owners[key]
	if !ok {
		p = Process{PID: r.Owner.PID, Comm: r.Owner.Comm.String(), Name: names.Of(r)}
		g.owners[key] = p
	}
	return p
}

// wait takes note of a connection that nobody has accepted.
func (g *gathering) wait(r *sockets.Row) {
	l := g.queued[r.Local.Port()]
	if l == nil {
		l = &Listener{}
		g.queued[r.Local.Port()] = l
	}
	if age, precision := r.Age(); precision != tracer.PrecisionUnknown {
		l.Queued = append(l.Queued, age)
	}
	if r.TCPState() == tracer.CloseWait {
		l.Left++
	}
}

// hold takes note of what keeps a port from being bound. What was not accepted goes with its listener,
// and a handshake holds nothing.
func (g *gathering) hold(r *sockets.Row, state tracer.State) {
	switch state {
	case tracer.Listen, tracer.SynSent, tracer.SynRecv, tracer.NewSynRecv:
		return
	}
	h := g.held[r.Local]
	if h == nil {
		h = new(Holding)
		g.held[r.Local] = h
	}
	if r.Kind == sockdiag.Minisock {
		h.add(&Holding{Minisock: 1, Left: r.TimerLeft})
	} else {
		h.add(&Holding{Open: 1})
	}
}

func add(to map[waitingKey]*Waiting, r *sockets.Row, owner Process, served bool, age time.Duration) {
	key := waitingKey{owner: owner, remote: r.Remote}
	if served {
		key.remote, key.local = netip.AddrPort{}, r.Local.Port()
	}
	w := to[key]
	if w == nil {
		w = &Waiting{Owner: owner, Remote: key.remote, Local: key.local}
		to[key] = w
	}
	w.Ages = append(w.Ages, age)
	if recv, _, known := r.Queues(); known && recv > 0 {
		w.Unread++
	}
}

func (g *gathering) toward(r *sockets.Row, state tracer.State, owner Process, orphan bool) {
	key := destinationKey{r.Local.Addr(), r.Remote}
	d := g.towards[key]
	if d == nil {
		d = new(destination)
		g.towards[key] = d
	}
	d.ports = append(d.ports, r.Local.Port())
	switch {
	case state == tracer.TimeWait:
		d.timeWaits++
	case state == tracer.FinWait2 && orphan:
		d.orphans++
	}
	if owner.PID != 0 {
		if d.owners == nil {
			d.owners = make(map[Process]uint64)
		}
		d.owners[owner]++
	}
}

// fill puts what was gathered into the namespace.
func (g *gathering) fill(s *Space) {
	s.Sockets, s.TimeWaits, s.OrphanedFIN2 = g.states, g.timeWaits, g.orphans
	s.Choosable = g.ports.Choosable
	if low, high, ok := strings.Cut(strings.Join(strings.Fields(s.Sysctls["net.ipv4.ip_local_port_range"]), " "), " "); ok {
		a, errA := strconv.ParseUint(low, 10, 16)
		b, errB := strconv.ParseUint(high, 10, 16)
		if errA == nil && errB == nil {
			s.Low, s.High = uint16(a), uint16(b)
		}
	}
	ports := g.ports.Ports()
	s.Usable, s.Held, s.HeldKnown = ports.Usable, ports.Held, ports.HeldKnown
	binder, n := g.ports.Binder()
	s.Binder, s.Binders = Process{PID: binder.PID, Comm: binder.Comm.String()}, uint64(n)
	for key, d := range g.towards {
		slices.Sort(d.ports)
		ports, held, first := slices.Compact(d.ports), uint64(0), uint64(0)
		for _, port := range ports {
			if g.ports.Held(port) {
				held++
			}
			if s.triedFirst(port) {
				first++
			}
		}
		s.Destinations = append(s.Destinations, Destination{Local: key.local, Remote: key.remote,
			Used: uint64(len(ports)), First: first, Held: held, TimeWaits: d.timeWaits, Orphans: d.orphans, Owner: largest(d.owners)})
	}
	slices.SortFunc(s.Destinations, byUse)
	for i := range g.listeners {
		l := &g.listeners[i]
		l.hold(g.held)
		if q := g.queued[l.Local.Port()]; q != nil && l.Waiting > 0 {
			l.Queued, l.Left = q.Queued, q.Left
		}
		if l.Waiting > 0 && l.Owner.PID != 0 {
			l.readFiles()
		}
	}
	s.Listeners = g.listeners
	s.FinWait1s, s.LastAcks, s.Handshakes = stuckInOrder(g.finWait1s), stuckInOrder(g.lastAcks), handshakesInOrder(g.handshakes)
	s.CloseWaits, s.FinWait2s = inOrder(g.closeWaits), inOrder(g.finWait2s)
	for i := range s.CloseWaits {
		w := &s.CloseWaits[i]
		w.Files, w.FileLimit = filesOf(w.Owner.PID)
	}
}

func inOrder(of map[waitingKey]*Waiting) (all []Waiting) {
	for _, w := range of {
		all = append(all, *w)
	}
	slices.SortFunc(all, func(a, b Waiting) int {
		return cmp.Or(cmp.Compare(len(b.Ages), len(a.Ages)), cmp.Compare(a.Owner.PID, b.Owner.PID), compareEnds(a.Remote, b.Remote), cmp.Compare(a.Local, b.Local))
	})
	return all
}

// settingDirs are where sysctl(8) and systemd-sysctl(8) look, in the order of sysctl --system.
var settingDirs = []string{"usr/lib/sysctl.d", "run/sysctl.d", "etc/sysctl.d"}

// readSettings reads the files from which sysctls are set at boot: of net.ipv4 and net.core.
func readSettings(root string) (all []Setting, err error) {
	var files []string
	for _, dir := range settingDirs {
		found, err := filepath.Glob(filepath.Join(root, dir, "*.conf"))
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	files = append(files, filepath.Join(root, "etc/sysctl.conf"))
	var seen []os.FileInfo
	for _, file := range files {
		b, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the settings of the host: %w", err)
		}
		// /etc/sysctl.d/99-sysctl.conf is often a link to /etc/sysctl.conf.
		if st, err := os.Stat(file); err == nil {
			if slices.ContainsFunc(seen, func(o os.FileInfo) bool { return os.SameFile(o, st) }) {
				continue
			}
			seen = append(seen, st)
		}
		all = append(all, parseSettings(file, string(b))...)
	}
	return all, nil
}
