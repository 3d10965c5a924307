package doctor

// closingRules are about connections that do not end.
var closingRules = []*Rule{
	{
		ID: "close-wait-leak", Worst: Failing, Needs: NeedOwners, More: NeedLimits,
		Thresholds: []Threshold{
			{"age", 60, "seconds that a connection waits for close()"}, {"least", 5, "connections that wait so long"},
			{"files", 0.8, "share of the process's limit of open files that is used"},
		},
		Find: func(in *Input, t Limits) (found []Finding) {
			in.waiting(func(s *Space) []Waiting { return s.CloseWaits }, t, func(s *Space, w *Waiting, f Finding) {
				f.ID, f.Severity = "close-wait-leak", Risk
				f.Evidence = append(f.Evidence, Field{"unread", w.Unread}, Field{"files", w.Files}, Field{"file_limit", w.FileLimit})
				if w.FileLimit > 0 && float64(w.Files) >= t["files"]*float64(w.FileLimit) {
					f.Severity = WillFail
				}
				found = append(found, f)
			})
			return found
		},
	},
	{
		ID: "half-closed-held", Worst: Risk, Needs: NeedOwners,
		Thresholds: []Threshold{{"age", 60, "seconds in FIN_WAIT_2"}, {"least", 1, "connections that wait so long"}},
		Find: func(in *Input, t Limits) (found []Finding) {
			in.waiting(func(s *Space) []Waiting { return s.FinWait2s }, t, func(s *Space, w *Waiting, f Finding) {
				f.ID, f.Severity = "half-closed-held", Risk
				found = append(found, f)
			})
			return found
		},
	},
}

// waiting calls fn for what waits for long enough.
func (in *Input) waiting(of func(*Space) []Waiting, t Limits, fn func(*Space, *Waiting, Finding)) {
	for _, s := range in.Spaces {
		all := of(s)
		for i := range all {
			w := &all[i]
			n, oldest := w.older(t.duration("age"))
			if n == 0 || float64(n) < t["least"] {
				continue
			}
			fn(s, w, Finding{Space: s,
				Scope:    []Field{{"process", w.Owner}, {"remote", w.Remote}, {"local_port", uint64(w.Local)}},
				Evidence: []Field{{"sockets", n}, {"oldest", oldest}}})
		}
	}
}
