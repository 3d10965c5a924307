package doctor

import (
	"math"
	"slices"
)

// portWatchRules are about the search of connect(2) for a port.
var portWatchRules = []*Rule{
	{
		ID: "port-search-slow", Worst: Slow, Needs: NeedPorts | NeedStream, Thresholds: searchThresholds,
		Find: portSearchSlow,
	},
	{
		ID: "bind-before-connect", Worst: WillFail, Needs: NeedPorts | NeedStream,
		Thresholds: []Threshold{
			{"share", 0.2, "share of a program's connections whose port bind(2) has chosen"}, {"least", 20, "such connections"},
			{"held", 0.1, "share of the usable ports that they hold, from which on it is a risk"},
		},
		Find: bindBeforeConnect,
	},
	{
		ID: "tw-reuse-verdict", Worst: Note, Needs: NeedStream,
		Thresholds: []Threshold{{"least", 100, "TIME_WAITs of a host that opens no connection"}},
		Find:       reuseVerdict,
	},
	{
		ID: "load-test-limit", Worst: Note, Needs: NeedPorts | NeedStream,
		Thresholds: []Threshold{
			{"share", 0.8, "share of all connections, by one program to one destination"}, {"rate", 100, "connections that it opens each second"},
		},
		Find: loadTestLimit,
	},
}

var (
	pressureThresholds = []Threshold{
		{"share", 0.8, "share of the usable ports that are used towards one destination, or will be"},
		{"within", 600, "seconds until all are used, at most"},
		{"half", 0.5, "share of the ports that open connections have, from which on their growth counts"},
	}
	searchThresholds = []Threshold{
		{"share", 0.99, "share of the ports tried first that are used"}, {"least", 20, "connections of either half of the ports"},
		{"ratio", 5, "times as long as with a port of the first half"},
	}
)

// portPressure finds destinations towards which most ports are used, or will be if connections go on
// to be opened at the pace that was seen.
func portPressure(in *Input, t Limits) (found []Finding) {
	in.ways(func(s *Space, d *Destination, o *Outgoing) {
		if s.Usable == 0 || d.Used >= uint64(s.Usable) && !takesOver(s, d) || in.sawNoPort(s, d) {
			return
		}
		usable := float64(s.Usable)
		f := in.forecast(s, d, o, t["half"])
		much := float64(d.Used) >= t["share"]*usable
		severity := Risk
		switch {
		case f.gone > 0 && f.gone <= t.duration("within"):
			severity = WillFail
		case much && in.ended(s, d, o, t["share"]):
			severity, f = Note, forecast{}
		case !much && f.settles < t["share"]*usable:
			return
		}
		finding := portFinding("port-pressure", severity, s, d)
		rate, over, gone, settles, by, others := Field{"rate", nil}, Field{"over", nil}, Field{"gone_in", nil}, Field{"settles", nil}, Field{"opener", nil}, Field{"more_processes", nil}
		if f.opened > 0 {
			rate.Value, over.Value, by.Value, others.Value = uint64(math.Ceil(f.opened)), f.over, o.Owner, o.Others
			if severity == WillFail {
				gone.Value = f.gone
			} else if f.settles >= t["share"]*usable {
				settles.Value = f.settles / usable
			}
		}
		finding.Evidence = append(finding.Evidence, rate, over, gone, settles, by, others, Field{"ended", severity == Note})
		finding.Inferred = severity == WillFail || !much
		found = append(found, finding)
	})
	return found
}

// portSearchSlow compares the connections that got a port of the half that is tried first with the
// others, whose search had to go through all of that half. The network is the same for both. Tenths are
// compared: what a busy host adds to some does not count.
func portSearchSlow(in *Input, t Limits) (found []Finding) {
	in.ways(func(s *Space, d *Destination, o *Outgoing) {
		if o == nil || s.Usable == 0 || d.First == 0 {
			return
		}
		usable := s.firstUsable()
		if float64(d.First) < t["share"]*float64(usable) {
			return
		}
		first, others := &o.Took[s.Low%2], &o.Took[1-s.Low%2]
		fast, slow := first.tenth(), others.tenth()
		if float64(min(first.N, others.N)) < t["least"] || fast <= 0 || float64(slow) <= t["ratio"]*float64(fast) {
			return
		}
		found = append(found, Finding{ID: "port-search-slow", Severity: Slow, Space: s, Inferred: true,
			Scope: []Field{{"local_addr", d.Local}, {"remote", d.Remote}, {"process", o.Owner}},
			Evidence: []Field{{"connections", others.N}, {"slow", slow}, {"fast", fast}, {"first_used", d.First}, {"first_usable", usable},
				{"used", d.Used}, {"usable", uint64(s.Usable)}, {"more_processes", o.Others}}})
	})
	return found
}

// bindBeforeConnect finds programs that let bind(2) choose the port of a connection. A port that they
// name themselves is not meant: it may have to be that one.
func bindBeforeConnect(in *Input, t Limits) (found []Finding) {
	if in.Stream == nil {
		return nil
	}
	for _, o := range in.Stream.Openers {
		if o.Space.Usable == 0 || float64(o.Bound) < t["least"] || float64(o.Bound) < t["share"]*float64(o.Opened) {
			continue
		}
		usable, held := uint64(o.Space.Usable), uint64(0)
		for port := range o.Ports {
			if o.Space.Choosable(port) {
				held++
			}
		}
		severity := Note
		switch {
		case held >= usable:
			severity = WillFail
		case float64(held) >= t["held"]*float64(usable):
			severity = Risk
		}
		found = append(found, Finding{ID: "bind-before-connect", Severity: severity, Space: o.Space,
			Scope:    []Field{{"process", o.Owner}},
			Evidence: []Field{{"bound", o.Bound}, {"opened", o.Opened}, {"held", held}, {"usable", usable}, {"more_processes", o.Others}}})
	}
	return found
}

// reuseVerdict says of each namespace with tcp_tw_reuse=1 what that does. It says nothing where
// connections are opened and have met no TIME_WAIT as yet.
func reuseVerdict(in *Input, t Limits) (found []Finding) {
	for _, s := range in.Spaces {
		if reuse, known := s.number("net.ipv4.tcp_tw_reuse"); !known || reuse != 1 || in.Stream == nil {
			continue
		}
		f := Finding{ID: "tw-reuse-verdict", Severity: Note, Space: s}
		reused, after := Field{"reused", nil}, Field{"after", nil}
		if i := slices.IndexFunc(in.Stream.Reused, func(r *Reuse) bool { return r.Space == s }); i >= 0 {
			r := in.Stream.Reused[i]
			reused.Value = r.N
			if r.After.N > 0 {
				after.Value = r.After.median()
			}
		} else if in.Stream.Filtered || in.opens(s) || s.TimeWaits.Served == 0 || float64(s.TimeWaits.Served) < t["least"] {
			continue
		} else {
			f.Inferred = true // of the past nothing is known
		}
		f.Evidence = []Field{reused, after, {"time_waits", s.TimeWaits.Served}}
		found = append(found, f)
	}
	return found
}

// opens reports whether a connection that was opened in a namespace was seen there.
func (in *Input) opens(s *Space) bool {
	return s.TimeWaits.Opened > 0 || len(s.Destinations) > 0 ||
		slices.ContainsFunc(in.Stream.Targets, func(t *Target) bool { return t.Space == s }) ||
		slices.ContainsFunc(in.Stream.Openers, func(o *Opener) bool { return o.Space == s })
}

// tries are the calls of connect(2) that are over, as far as their end was seen.
func (t *Target) tries() uint64 {
	return t.Connected + t.NoPort + t.InUse + t.Refused + t.Unreachable + t.TimedOut + t.GivenUp.N
}

// loadTestLimit finds the program that does nearly all the connecting, where it runs out of ports: what
// a load test measures then is its own host.
func loadTestLimit(in *Input, t Limits) (found []Finding) {
	var all uint64
	in.targets(func(d *Target) { all += d.tries() })
	short := slices.Concat(portExhausted(in, nil), portPressure(in, defaults(pressureThresholds)), portSearchSlow(in, defaults(searchThresholds)))
	in.targets(func(d *Target) {
		n := float64(d.tries())
		rate := n / max(1, in.Stream.Window.Seconds()) // a burst is no rate
		if n < t["share"]*float64(all) || rate <= t["rate"] || !slices.ContainsFunc(short, func(f Finding) bool {
			return f.Space == d.Space && f.Severity >= Risk && slices.Contains(f.Scope, Field{"remote", d.Remote})
		}) {
			return
		}
		most := Field{"most", nil} // connections each second, if each leaves a TIME_WAIT
		if d.Space.Usable > 0 && d.TimeWaits > 0 && whyNoReuse(d.Space, &Destination{Local: d.Local, Remote: d.Remote}) != "" {
			most.Value = uint64(float64(d.Space.Usable) / in.lasts().Seconds())
		}
		f := d.finding("load-test-limit", Note, d.Owner, Field{"rate", uint64(rate)}, Field{"share", n / float64(all)}, most)
		f.Inferred = true
		found = append(found, f)
	})
	return found
}
