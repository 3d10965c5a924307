package families

import "finwait/tracer"

// nPrograms is how many programs of one set of hooks there are at most.
const nPrograms = 10

// selfFamilies are about finwait.
func selfFamilies() []*Family {
	one := always(1)
	losses := func(o *Options) int {
		if o.Export {
			return len(tracer.Losses()) + 2
		}
		return len(tracer.Losses())
	}
	programs := func(fn func(*emitter, *tracer.ProgramStats)) func(*reading, *emitter) {
		return func(r *reading, e *emitter) {
			for i := range r.Programs {
				fn(e, &r.Programs[i])
			}
		}
	}
	return []*Family{
		{
			Name: "finwait_lost_total", Kind: Counter, Labels: []string{"cause"},
			Help:  "Transitions of the host that are missing in all other metrics, by cause; but ring_full, export and untracked are missing in log records only, which serve --otlp-logs sends. export counts records, and untracked connections for which there was no room.",
			usual: losses, most: losses,
			collect: func(r *reading, e *emitter) {
				for cause, n := range r.Whole.Lost.All() {
					e.count(float64(n), cause.String())
				}
				if r.LostExport != nil {
					e.count(float64(*r.LostExport), "export")
				}
				if r.Untracked != nil {
					e.count(float64(*r.Untracked), "untracked")
				}
			},
		},
		{
			Name: "finwait_program_attached", Kind: Gauge, Labels: []string{"program"},
			Help:  "1: the BPF program is attached. 0: this kernel does not have its hook, or does not need it.",
			usual: always(nPrograms), most: always(nPrograms),
			collect: programs(func(e *emitter, p *tracer.ProgramStats) {
				v := 0.0
				if p.Attached {
					v = 1
				}
				e.gauge(v, p.Name)
			}),
		},
		{
			Name: "finwait_program_skipped_total", Kind: Counter, Labels: []string{"program"},
			Help:  "How often the kernel did not run it, because it was running on that CPU. Another program takes over; what none took over is in finwait_lost_total.",
			usual: always(nPrograms), most: always(nPrograms),
			collect: programs(func(e *emitter, p *tracer.ProgramStats) {
				if p.Attached {
					e.count(float64(p.Skipped), p.Name)
				}
			}),
		},
		{
			Name: "finwait_program_runs_total", Kind: Counter, Labels: []string{"program"},
			Help:  "How often it was run, while the sysctl kernel.bpf_stats_enabled was 1. No series: the kernel has not counted.",
			usual: always(0), most: always(nPrograms),
			collect: programs(func(e *emitter, p *tracer.ProgramStats) {
				if p.Runs > 0 {
					e.count(float64(p.Runs), p.Name)
				}
			}),
		},
		{
			Name: "finwait_program_run_seconds_total", Kind: Counter, Labels: []string{"program"},
			Help:  "How long that took.",
			usual: always(0), most: always(nPrograms),
			collect: programs(func(e *emitter, p *tracer.ProgramStats) {
				if p.Runs > 0 {
					e.count(p.RunTime.Seconds(), p.Name)
				}
			}),
		},
		{
			Name: "finwait_hooks_info", Kind: Gauge, Labels: []string{"hooks"},
			Help:  "Always 1. The label is the set of hooks by which finwait follows TIME_WAIT.",
			usual: one, most: one,
			collect: func(r *reading, e *emitter) { e.gauge(1, r.Whole.Hooks.String()) },
		},
		{
			Name: "finwait_build_info", Kind: Gauge, Labels: []string{"version"},
			Help:  "Always 1. The label is finwait's version.",
			usual: one, most: one,
			collect: func(r *reading, e *emitter) { e.gauge(1, r.Version) },
		},
		{
			Name: "finwait_scrape_duration_seconds", Kind: Gauge,
			Help:  "How long this scrape took to read the totals.",
			usual: one, most: one,
			collect: func(r *reading, e *emitter) { e.gauge(r.took.Seconds()) },
		},
	}
}
