package doctor

import "slices"

// hostRules are about settings, and about what one cannot see from where one stands.
var hostRules = []*Rule{
	{
		ID: "sysctl-lint", Worst: Note,
		Find: func(in *Input, _ Limits) (found []Finding) {
			for i := range in.Settings {
				if why := lint(&in.Settings[i]); why != "" {
					s := &in.Settings[i]
					found = append(found, Finding{ID: "sysctl-lint", Severity: Note,
						Scope:    []Field{{"file", s.File}, {"line", uint64(s.Line)}, {"key", s.Key}},
						Evidence: []Field{{"value", s.Value}, {"now", s.Now}, {"why", why}}})
				}
			}
			return found
		},
	},
	{
		ID: "hidden-namespaces", Worst: Note,
		Thresholds: []Threshold{{"share", 0.5, "share of the sockets in TIME_WAIT that are in other namespaces"}, {"least", 50, "sockets in TIME_WAIT there"}},
		Find: func(in *Input, t Limits) (found []Finding) {
			if !slices.ContainsFunc(in.Spaces, func(s *Space) bool { return s.Inode == in.Self }) {
				return nil // what is here is not known
			}
			var here, there, spaces uint64
			for _, s := range in.Spaces {
				n := s.TimeWaits.Served + s.TimeWaits.Opened
				switch {
				case s.Inode == in.Self:
					here = n
				case n > 0:
					there += n
					spaces++
				}
			}
			if float64(there) < t["least"] || float64(there) <= t["share"]*float64(here+there) {
				return nil
			}
			return []Finding{{ID: "hidden-namespaces", Severity: Note,
				Evidence: []Field{{"elsewhere", there}, {"here", here}, {"namespaces", spaces}}}}
		},
	},
}
