package doctor

import (
	"maps"
	"time"

	"finwait/tracer"
)

// peerRules are about what the other end, or something on the way to it, does.
var peerRules = []*Rule{
	{
		ID: "v6-first-refused", Worst: Note, Needs: NeedStream,
		Thresholds: []Threshold{{"least", 3, "connections that were refused over IPv6 first"}},
		Find: func(in *Input, t Limits) (found []Finding) {
			in.targets(func(d *Target) {
				if !d.fellBack() || float64(d.FellBack) < t["least"] {
					return
				}
				why, at := Field{"why", ""}, Field{"listens_on", nil}
				reason, listener := in.whyRefused(d)
				why.Value = reason
				if listener != nil {
					at.Value = listener.Local
				}
				f := d.finding("v6-first-refused", Note, d.Owner, Field{"connections", d.FellBack}, Field{"refused", d.Refused}, why, at)
				f.Scope, f.Inferred = append(f.Scope, Field{"fallback", d.Fallback.Remote}), true
				found = append(found, f)
			})
			return found
		},
	},
}

// A processPort is a port that a process connects to.
type processPort struct {
	netns, pid uint32
	port       uint16
}

// A refusal is the last connect(2) over IPv6 that was refused.
type refusal struct {
	at     time.Duration // CLOCK_MONOTONIC
	target *Target
}

// fallBackAfter is within what time a program that was refused tries its next address.
const fallBackAfter = 50 * time.Millisecond

// fallBack looks for a connection over IPv4 that begins right after one over IPv6 was refused.
func (w *watch) fallBack(d *Target, t *tracer.Transition) {
	if t.From != tracer.SynSent || t.Owner.PID == 0 {
		return
	}
	key := processPort{t.NetNS, t.Owner.PID, t.Remote.Port()}
	switch v4 := t.Remote.Addr().Is4(); {
	case !v4 && t.Reason == tracer.ReasonRefused:
		if len(w.refusals) == mostWaiting {
			maps.DeleteFunc(w.refusals, func(_ processPort, r refusal) bool { return t.Ktime-r.at > closeToFIN })
		}
		if len(w.refusals) == mostWaiting {
			w.noRoom++
			return
		}
		w.refusals[key] = refusal{t.Ktime, d}
	case v4 && t.To == tracer.Established && exact(t):
		r, known := w.refusals[key]
		began := t.Ktime - t.Duration
		if !known || began < r.at || began > r.at+fallBackAfter {
			return
		}
		delete(w.refusals, key)
		if r.target.Fallback == nil {
			r.target.Fallback = d
		}
		if r.target.Fallback == d {
			r.target.FellBack++
		}
	}
}

// fellBack reports whether the refusals over IPv6 and the connections over IPv4 go together: nearly
// each of the one kind has one of the other, and nothing connects over IPv6.
func (d *Target) fellBack() bool {
	const share = 0.9
	n := float64(d.FellBack)
	return n > 0 && d.Connected == 0 && n >= share*float64(d.Refused) && n >= share*float64(d.Fallback.Connected)
}
