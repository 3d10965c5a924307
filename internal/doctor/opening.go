package doctor

import "time"

// openingRules are about connections that come.
var openingRules = []*Rule{
	{
		ID: "accept-stall", Worst: Failing,
		Thresholds: []Threshold{{"age", 1, "seconds that a connection waits for accept(2)"}, {"least", 1, "connections that wait so long"}},
		Find: func(in *Input, t Limits) (found []Finding) {
			in.listeners(func(s *Space, l *Listener) {
				n, oldest := uint64(0), time.Duration(0)
				for _, age := range l.Queued {
					if age >= t.duration("age") {
						n++
					}
					oldest = max(oldest, age)
				}
				if n == 0 || float64(n) < t["least"] {
					return
				}
				found = append(found, Finding{ID: "accept-stall", Severity: Failing, Space: s,
					Scope:    []Field{{"local", l.Local}, {"process", l.Owner}},
					Evidence: []Field{{"sockets", n}, {"oldest", oldest}, {"left", l.Left}, {"waiting", l.Waiting}, {"limit", l.Limit}}})
			})
			return found
		},
	},
	{
		ID: "listen-overflow", Worst: Failing, More: NeedWindow,
		Find: listenOverflow,
	},
}

func (in *Input) listeners(fn func(*Space, *Listener)) {
	for _, s := range in.Spaces {
		for i := range s.Listeners {
			fn(s, &s.Listeners[i])
		}
	}
}

// listenOverflow names the listeners whose queue is full: one more than the limit has room
// (sk_acceptq_is_full()). The counter is the namespace's, so with several full queues it is not known
// whose overflows they are.
func listenOverflow(in *Input, _ Limits) (found []Finding) {
	for _, s := range in.Spaces {
		dropped := uint64(max(0, s.Moved["TcpExt.ListenOverflows"]))
		somaxconn, known := s.number("net.core.somaxconn")
		full, first := 0, len(found)
		for i := range s.Listeners {
			l := &s.Listeners[i]
			if l.Limit == 0 && l.Waiting == 0 || l.Waiting <= l.Limit {
				continue
			}
			full++
			whose := "listen"
			if known && l.Limit == somaxconn {
				whose = "somaxconn"
			}
			f := Finding{ID: "listen-overflow", Severity: WillFail, Space: s,
				Scope: []Field{{"local", l.Local}, {"process", l.Owner}},
				Evidence: []Field{{"dropped", dropped}, {"waiting", l.Waiting}, {"limit", l.Limit}, {"somaxconn", somaxconn},
					{"limited_by", whose}, {"full", true}}}
			if dropped > 0 {
				f.Severity = Failing
			}
			found = append(found, f)
		}
		for i := range found[first:] {
			found[first+i].Inferred = full > 1 // the counter is the namespace's: whose they are is not known
		}
		if full == 0 && dropped > 0 {
			found = append(found, Finding{ID: "listen-overflow", Severity: Failing, Space: s,
				Evidence: []Field{{"dropped", dropped}, {"somaxconn", somaxconn}, {"full", false}}})
		}
	}
	return found
}
