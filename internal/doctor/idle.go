package doctor

import (
	"time"

	"finwait/tracer"
)

// Cuts are connections whose data was answered with an RST.
type Cuts struct {
	N       uint64
	Silence time.Duration // the least for which nothing had been heard of the peer before

	// When the first one was cut, and when the peer was last heard on any of them: CLOCK_MONOTONIC.
	first, heard time.Duration
}

func (c *Cuts) add(t *tracer.Transition) {
	if t.From != tracer.Established || t.To != tracer.Closed || t.Reason != tracer.ReasonReset || t.Detail != tracer.DetailDataUnacked ||
		t.Metrics == nil || !t.Metrics.Known || t.Metrics.Silence < 0 {
		return
	}
	silence := t.Metrics.Silence
	if c.N == 0 || silence < c.Silence {
		c.Silence = silence
	}
	if c.N == 0 || t.Ktime < c.first {
		c.first = t.Ktime
	}
	c.heard = max(c.heard, t.Ktime-silence)
	c.N++
}

// once reports whether all of them were silent when the first one was cut: then one moment, such as a
// restart of the peer, is enough to explain them.
func (c *Cuts) once() bool { return c.heard < c.first }

// idleRules are about connections that are open and not used.
var idleRules = []*Rule{
	{
		ID: "idle-cut", Worst: Failing, Needs: NeedStream,
		Thresholds: []Threshold{{"least", 3, "connections that were reset"}, {"idle", 30, "seconds for which nothing was heard of the peer before, each time"}},
		Find: func(in *Input, t Limits) (found []Finding) {
			in.targets(func(d *Target) {
				c := &d.Cuts
				if c.N == 0 || float64(c.N) < t["least"] || c.Silence < t.duration("idle") {
					return
				}
				keepalive := Field{"keepalive_time", nil}
				if n, known := d.Space.number("net.ipv4.tcp_keepalive_time"); known && time.Duration(n)*time.Second >= c.Silence {
					keepalive.Value = n
				}
				f := d.finding("idle-cut", Failing, d.Owner, Field{"resets", c.N}, Field{"silence", c.Silence}, Field{"once", c.once()}, keepalive)
				f.Inferred = true
				found = append(found, f)
			})
			return found
		},
	},
}
