package doctor

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// watchRules are about what happened in the window: they read transitions.
var watchRules = []*Rule{
	{
		ID: "short-connections", Worst: Note, Needs: NeedStream,
		Thresholds: []Threshold{
			{"ratio", 100, "times as long in TIME_WAIT as in ESTABLISHED"}, {"rate", 20, "connections that close each second"},
			{"least", 100, "connections that have closed"},
		},
		Find: shortConnections,
	},
	{
		ID: "server-closes-first", Worst: Note, Needs: NeedStream,
		Thresholds: []Threshold{{"share", 0.9, "share of the connections that the server closes first"}, {"least", 50, "connections that have closed"}},
		Find:       serverClosesFirst,
	},
	{
		ID: "refused-storm", Worst: Failing, Needs: NeedStream,
		Thresholds: []Threshold{{"least", 10, "refused connections in 30 s, or on average in each 30 s of a longer time"}},
		Find:       refusedStorm,
	},
	{
		ID: "connect-retransmits", Worst: Slow, Needs: NeedStream,
		Thresholds: []Threshold{
			{"least", 3, "connections that took as long as a timer of the SYN"}, {"share", 0.01, "share of the connections that did"},
			{"spread", 0.01, "share of those that took more than 0.3 s otherwise, at most"},
		},
		Find: connectRetransmits,
	},
	{
		ID: "reset-by-unread-data", Worst: Failing, Needs: NeedStream,
		Thresholds: []Threshold{{"least", 3, "connections"}},
		Find: func(in *Input, t Limits) (found []Finding) {
			in.services(func(s *Service) {
				if s.Unread > 0 && float64(s.Unread) >= t["least"] {
					found = append(found, s.finding("reset-by-unread-data", Failing, s.closedBy(), Field{"resets", s.Unread}))
				}
			})
			return found
		},
	},
	{
		ID: "reset-by-linger-zero", Worst: Risk, Needs: NeedStream,
		Thresholds: []Threshold{{"least", 3, "connections"}},
		Find: func(in *Input, t Limits) (found []Finding) {
			in.traffic(func(c *Traffic, finding makeFinding) {
				if c.LingerZero == 0 || float64(c.LingerZero) < t["least"] {
					return
				}
				severity, thrown := Note, Field{"unacknowledged", nil}
				if c.Weighed > 0 {
					thrown.Value = c.Thrown
				}
				if c.Thrown > 0 {
					severity = Risk
				}
				found = append(found, finding("reset-by-linger-zero", severity, c.closedBy(), Field{"resets", c.LingerZero}, thrown))
			})
			return found
		},
	},
	{
		ID: "peer-does-not-close", Worst: Note, Needs: NeedStream,
		Thresholds: []Threshold{{"least", 5, "connections whose FIN_WAIT_2 ran out"}},
		Find: func(in *Input, t Limits) (found []Finding) {
			in.traffic(func(c *Traffic, finding makeFinding) {
				if c.Unclosed > 0 && float64(c.Unclosed) >= t["least"] {
					timeout := Field{"fin_timeout", nil}
					if n, known := c.Space.number("net.ipv4.tcp_fin_timeout"); known {
						timeout.Value = n
					}
					found = append(found, finding("peer-does-not-close", Note, c.Owner, Field{"sockets", c.Unclosed}, timeout))
				}
			})
			return found
		},
	},
	{
		ID: "keepalive-race", Worst: Failing, Needs: NeedStream,
		Thresholds: []Threshold{
			{"least", 3, "connections whose data met a close, within 1 s"}, {"idle", 0.5, "seconds: a shorter time is not taken for an idle timeout"},
			{"share", 0.5, "share of the connections that the server closed after about one time: that is its idle timeout"},
		},
		Find: func(in *Input, t Limits) (found []Finding) {
			in.traffic(func(c *Traffic, finding makeFinding) {
				if c.Raced == 0 || float64(c.Raced) < t["least"] {
					return
				}
				idle := Field{"idle", nil}
				const within, few = 0.02, 3
				if value, ok := c.Lasted.cluster(t["share"], within); ok && c.Lasted.N >= few && value >= t.duration("idle") {
					idle.Value = value
				}
				found = append(found, finding("keepalive-race", Failing, c.Owner, Field{"resets", c.Raced}, idle))
			})
			return found
		},
	},
	{
		ID: "connect-times-out", Worst: Failing, Needs: NeedStream,
		Thresholds: []Threshold{
			{"least", 3, "connections that the kernel gave up"}, {"given_up", 5, "connections that the program gave up after about the same time"},
			{"wait", 0.3, "seconds that it had waited: a program may try two addresses, and drop the slower one"},
		},
		Find: connectTimesOut,
	},
	{
		ID: "unreachable", Worst: Failing, Needs: NeedStream,
		Thresholds: []Threshold{{"least", 3, "connections that failed"}},
		Find: func(in *Input, t Limits) (found []Finding) {
			in.targets(func(d *Target) {
				if d.Unreachable > 0 && float64(d.Unreachable) >= t["least"] {
					found = append(found, d.finding("unreachable", Failing, d.Owner, Field{"failed", d.Unreachable}, Field{"errno", d.Errno.String()}))
				}
			})
			return found
		},
	},
	{
		ID: "syn-rejected-by-time-wait", Worst: Slow, Needs: NeedStream,
		Thresholds: []Threshold{{"least", 3, "connections of one client in a minute, or on average in each minute of a longer time"}},
		Find: func(in *Input, t Limits) (found []Finding) {
			in.services(func(s *Service) {
				for _, client := range slices.SortedFunc(maps.Keys(s.Rejected), netip.Addr.Compare) {
					n := s.Rejected[client]
					if !in.Stream.often(n, t["least"], time.Minute) {
						continue
					}
					f := s.finding("syn-rejected-by-time-wait", Slow, s.Owner, Field{"connections", n})
					f.Scope, f.Inferred = append(f.Scope, Field{"client", client}), true // the SYN itself is not seen
					found = append(found, f)
				}
			})
			return found
		},
	},
	{
		ID: "fixed-port-meets-itself", Worst: Failing, Needs: NeedStream,
		Thresholds: []Threshold{{"least", 1, "connections that failed"}},
		Find: func(in *Input, t Limits) (found []Finding) {
			in.targets(func(d *Target) {
				if d.InUse == 0 || float64(d.InUse) < t["least"] {
					return
				}
				port, stamps := Field{"port", nil}, Field{"timestamps", nil}
				if !d.FixedPorts && d.FixedPort != 0 {
					port.Value = strconv.Itoa(int(d.FixedPort))
				}
				if n, known := d.Space.number("net.ipv4.tcp_timestamps"); known {
					stamps.Value = n != 0
				}
				found = append(found, d.finding("fixed-port-meets-itself", Failing, d.Owner, Field{"failed", d.InUse}, port, stamps))
			})
			return found
		},
	},
	{
		ID: "time-wait-rearmed", Worst: Note, Needs: NeedStream,
		Thresholds: []Threshold{{"share", 0.01, "share of the TIME_WAITs that ended"}, {"least", 5, "TIME_WAITs that began again"}},
		Find: func(in *Input, t Limits) (found []Finding) {
			in.traffic(func(c *Traffic, finding makeFinding) {
				if c.Rearmed > 0 && float64(c.Rearmed) >= t["least"] && float64(c.Rearmed) > t["share"]*float64(c.Ended) {
					found = append(found, finding("time-wait-rearmed", Note, c.Owner, Field{"rearmed", c.Rearmed}, Field{"ended", c.Ended}))
				}
			})
			return found
		},
	},
}

func (in *Input) services(fn func(*Service)) {
	if in.Stream != nil {
		for _, s := range in.Stream.Services {
			fn(s)
		}
	}
}

func (in *Input) targets(fn func(*Target)) {
	if in.Stream != nil {
		for _, d := range in.Stream.Targets {
			fn(d)
		}
	}
}

type makeFinding func(id string, severity Severity, by Process, evidence ...Field) Finding

// traffic calls fn for services and targets.
func (in *Input) traffic(fn func(*Traffic, makeFinding)) {
	in.services(func(s *Service) { fn(&s.Traffic, s.finding) })
	in.targets(func(d *Target) { fn(&d.Traffic, d.finding) })
}

func (s *Service) finding(id string, severity Severity, by Process, evidence ...Field) Finding {
	return Finding{ID: id, Severity: severity, Space: s.Space,
		Scope:    []Field{{"role", "server"}, {"local_port", uint64(s.Port)}, {"process", by}},
		Evidence: append(evidence, Field{"more_processes", s.Others})}
}

func (d *Target) finding(id string, severity Severity, by Process, evidence ...Field) Finding {
	return Finding{ID: id, Severity: severity, Space: d.Space,
		Scope:    []Field{{"role", "client"}, {"remote", d.Remote}, {"process", by}},
		Evidence: append(evidence, Field{"more_processes", d.Others})}
}

// closedBy is the process that closed, or else the owner.
func (t *Traffic) closedBy() Process {
	if t.ClosedBy.PID != 0 {
		return t.ClosedBy
	}
	return t.Owner
}

// often reports whether something happened so many times in each period of the window; a window that
// is shorter counts as one.
func (s *Stream) often(n uint64, least float64, period time.Duration) bool {
	periods := max(1, s.Window.Seconds()/period.Seconds())
	return n > 0 && float64(n) >= least*periods
}

// withoutPort are the calls of connect(2) that found no port.
func withoutPort(in *Input) (found []Finding) {
	in.targets(func(t *Target) {
		if t.NoPort == 0 {
			return
		}
		f := t.finding("port-exhausted", Failing, t.Owner, Field{"failed", t.NoPort})
		local := Field{"local_addr", nil}
		if t.Local.IsValid() && !t.Local.IsUnspecified() {
			local.Value = t.Local
		}
		f.Scope = append(f.Scope, local)
		used, usable, timeWaits, orphans, share := Field{"used", nil}, Field{"usable", nil}, Field{"time_waits", nil}, Field{"orphans", nil}, Field{"share", nil}
		if i := slices.IndexFunc(t.Space.Destinations, func(d Destination) bool { return t.reaches(&d) }); i >= 0 && t.Space.Usable > 0 {
			d := &t.Space.Destinations[i]
			used.Value, usable.Value, timeWaits.Value = d.Used, uint64(t.Space.Usable), d.TimeWaits
			orphans.Value, share.Value = d.Orphans, float64(d.Used)/float64(t.Space.Usable)
		}
		f.Evidence = append(f.Evidence, used, usable, timeWaits, orphans, share)
		found = append(found, f)
	})
	return found
}

// reaches reports whether it is the same destination, as far as the local address is known.
func (t *Target) reaches(d *Destination) bool {
	return t.Remote == d.Remote && (!t.Local.IsValid() || t.Local.IsUnspecified() || t.Local == d.Local)
}

// sawNoPort reports whether connect(2) failed for want of a port towards this destination.
func (in *Input) sawNoPort(s *Space, d *Destination) (saw bool) {
	in.targets(func(t *Target) { saw = saw || t.NoPort > 0 && t.Space == s && t.reaches(d) })
	return saw
}

// timeWait is how long TIME_WAIT lasts at least (TCP_TIMEWAIT_LEN).
const timeWait = 60 * time.Second

// shortConnections compares what connections work with what they are remembered. TIME_WAITs that
// began count with 60 s each: in a short window few of them end.
func shortConnections(in *Input, t Limits) (found []Finding) {
	in.traffic(func(c *Traffic, finding makeFinding) {
		n := c.Closed()
		if c.Measured == 0 || c.Established <= 0 || float64(n) < t["least"] || float64(n) <= t["rate"]*in.Stream.Window.Seconds() {
			return
		}
		mean := c.Established / time.Duration(c.Measured)
		ratio := float64(c.TimeWaits) * float64(timeWait) / (mean.Seconds() * 1e9 * float64(n))
		if ratio <= t["ratio"] {
			return
		}
		f := finding("short-connections", Note, c.Owner, Field{"closed", n}, Field{"established", mean}, Field{"ratio", uint64(ratio)})
		f.Inferred = true
		found = append(found, f)
	})
	return found
}

func serverClosesFirst(in *Input, t Limits) (found []Finding) {
	in.services(func(s *Service) {
		n := s.Closed()
		if n == 0 || float64(n) < t["least"] || float64(s.ClosedHere) < t["share"]*float64(n) {
			return
		}
		median := Field{"established", nil}
		if s.Lasted.N > 0 {
			median.Value = s.Lasted.median()
		}
		found = append(found, s.finding("server-closes-first", Note, s.Owner, Field{"closed_here", s.ClosedHere}, Field{"closed", n},
			Field{"share", float64(s.ClosedHere) / float64(n)}, median))
	})
	return found
}

func refusedStorm(in *Input, t Limits) (found []Finding) {
	in.targets(func(d *Target) {
		if !in.Stream.often(d.Refused, t["least"], 30*time.Second) || d.fellBack() {
			return // a program that has another address does not fail
		}
		why, listener := in.whyRefused(d)
		at, by := Field{"listens_on", nil}, Field{"listener", Process{}}
		if listener != nil {
			at.Value, by.Value = listener.Local, listener.Owner
		}
		found = append(found, d.finding("refused-storm", Failing, d.Owner, Field{"refused", d.Refused}, Field{"connected", d.Connected},
			Field{"why", why}, at, by))
	})
	return found
}

// whyRefused looks for the listener of an address of this namespace. It says nothing if something
// listens there now, or if not all listeners were read.
func (in *Input) whyRefused(d *Target) (why string, other *Listener) {
	if in.Filtered || !d.Same() || !slices.Contains(in.Spaces, d.Space) {
		return "", nil
	}
	for i := range d.Space.Listeners {
		l := &d.Space.Listeners[i]
		switch {
		case l.Local.Port() != d.Remote.Port():
		case l.takes(d.Remote):
			return "", nil
		default:
			other = l
		}
	}
	if other != nil {
		return "elsewhere", other
	}
	return "nothing", nil
}

// retries are the seconds after connect(2) at which the kernel sends the SYN again
// (tcp_retransmit_timer()): first as often as net.ipv4.tcp_syn_linear_timeouts says with no longer
// waits. If that is not known they are those that every setting has.
func retries(s *Space) (all []int) {
	if s.Sysctls == nil {
		return []int{1, 3, 7}
	}
	linear, _ := s.number("net.ipv4.tcp_syn_linear_timeouts") // Linux 6.5
	for n, at, wait := uint64(0), 1, 1; at <= maxLate; n++ {
		all = append(all, at)
		if n >= linear {
			wait *= 2
		}
		at += wait
	}
	return all
}

// connectRetransmits finds connections that took just over the time of a timer. A slow path is spread
// out; lost SYNs are not.
func connectRetransmits(in *Input, t Limits) (found []Finding) {
	in.targets(func(d *Target) {
		n, seconds := uint64(0), []string(nil)
		for _, at := range retries(d.Space) {
			if d.Late[at] > 0 {
				n += d.Late[at]
				seconds = append(seconds, strconv.Itoa(at))
			}
		}
		if n == 0 || float64(n) < t["least"] || float64(n) <= t["share"]*float64(d.Connected) || float64(d.Spread) > t["spread"]*float64(d.Connected) {
			return
		}
		overflows := Field{"overflows", nil}
		if moved := d.Space.Moved["TcpExt.ListenOverflows"]; d.Same() && moved > 0 {
			overflows.Value = uint64(moved)
		}
		f := d.finding("connect-retransmits", Slow, d.Owner, Field{"late", n}, Field{"connected", d.Connected},
			Field{"share", float64(n) / float64(d.Connected)}, Field{"seconds", strings.Join(seconds, ", ")}, overflows)
		f.Inferred = true
		found = append(found, f)
	})
	return found
}

// connectTimesOut finds destinations that do not answer. That of which something did answer in the
// window is not one.
func connectTimesOut(in *Input, t Limits) (found []Finding) {
	in.targets(func(d *Target) {
		if d.Connected+d.Refused+d.Unreachable > 0 {
			return
		}
		after := Field{"gave_up_after", nil}
		const within = 0.025
		value, same := d.GivenUp.cluster(0.9, within)
		program := same && value >= t.duration("wait") && d.GivenUp.N > 0 && float64(d.GivenUp.N) >= t["given_up"]
		if program {
			after.Value = value
		}
		if !program && (d.TimedOut == 0 || float64(d.TimedOut) < t["least"]) {
			return
		}
		given := uint64(0)
		if program {
			given = d.GivenUp.N
		}
		found = append(found, d.finding("connect-times-out", Failing, d.Owner, Field{"failed", d.TimedOut + given}, Field{"timed_out", d.TimedOut},
			Field{"given_up", given}, after))
	})
	return found
}
