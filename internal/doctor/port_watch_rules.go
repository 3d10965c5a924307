package doctor

import "math"

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
