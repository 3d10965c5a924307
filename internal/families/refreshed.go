package families

import "strconv"

// How many series there are of what packages list that this one does not import. TestEstimate compares.
const (
	nVerdicts = 3
	nMaps     = 4
)

// ofRefresh leaves the family out until the first refresh, and if the last one failed: what is not
// known has no series.
func ofRefresh(fn func(*Refreshed, *emitter)) func(*reading, *emitter) {
	return func(r *reading, e *emitter) {
		if r.refreshed != nil {
			fn(r.refreshed, e)
		}
	}
}

// refreshedFamilies are those that a scrape does not read.
func refreshedFamilies() []*Family {
	one := always(1)
	return []*Family{
		{
			Name: "finwait_refresh_timestamp_seconds", Kind: Gauge,
			Help:  "When the audit, findings, namespaces, ports and maps below were read, in Unix time. They are missing if that failed.",
			usual: one, most: one,
			collect: ofRefresh(func(r *Refreshed, e *emitter) { e.gauge(float64(r.At.UnixMilli()) / 1e3) }),
		},
		{
			Name: "finwait_refresh_duration_seconds", Kind: Gauge,
			Help:  "How long that took.",
			usual: one, most: one,
			collect: ofRefresh(func(r *Refreshed, e *emitter) { e.gauge(r.Took.Seconds()) }),
		},
		{
			Name: "finwait_findings", Kind: Gauge, Labels: []string{"id", "severity"},
			Help:  "Findings of finwait doctor --snapshot, which /findings explains. 0: it was looked for and not found. No series: it could not be looked for.",
			usual: func(o *Options) int { return o.Rules },
			most:  func(o *Options) int { return 2 * o.Rules },
			collect: ofRefresh(func(r *Refreshed, e *emitter) {
				for _, f := range r.Findings {
					e.gauge(float64(f.Count), f.ID, f.Severity)
				}
			}),
		},
		{
			Name: "finwait_findings_not_checked", Kind: Gauge,
			Help:  "Findings that could not be looked for, or only in part: one reading does not show them, or a capability is missing.",
			usual: one, most: one,
			collect: ofRefresh(func(r *Refreshed, e *emitter) { e.gauge(float64(r.NotChecked)) }),
		},
		{
			Name: "finwait_namespaces", Kind: Gauge, Labels: []string{"visited"},
			Help:  "Network namespaces, by whether finwait could enter them. What it could not enter is missing in findings and ports, and sockets there that were open before finwait are counted from their next transition on.",
			usual: always(2), most: always(2),
			collect: ofRefresh(func(r *Refreshed, e *emitter) {
				e.gauge(float64(r.Visited), strconv.FormatBool(true))
				e.gauge(float64(r.Unvisited), strconv.FormatBool(false))
			}),
		},
		{
			Name: "finwait_ports_used_max", Kind: Gauge,
			Help:  "Local ports that are used towards one destination: the one for which the largest part of the usable ports is. /findings names it if that is a risk.",
			usual: one, most: one,
			collect: ofPorts(func(r *Refreshed, e *emitter) { e.gauge(float64(r.PortsUsed)) }),
		},
		{
			Name: "finwait_ports_usable", Kind: Gauge,
			Help:  "Local ports that connect() can choose from in the network namespace of that destination.",
			usual: one, most: one,
			collect: ofPorts(func(r *Refreshed, e *emitter) { e.gauge(float64(r.PortsUsable)) }),
		},
		{
			Name: "finwait_ports_used_ratio_max", Kind: Gauge,
			Help:  "The former divided by the latter.",
			usual: one, most: one,
			collect: ofPorts(func(r *Refreshed, e *emitter) { e.gauge(float64(r.PortsUsed) / float64(r.PortsUsable)) }),
		},
		{
			Name: "finwait_audit_counters", Kind: Gauge, Labels: []string{"verdict"},
			Help:  "Comparisons of a counter of the kernel, in one network namespace, with what finwait has counted since it found the namespace. disagrees: finwait or the kernel is wrong.",
			usual: always(nVerdicts), most: always(nVerdicts),
			collect: ofRefresh(func(r *Refreshed, e *emitter) {
				for verdict, n := range r.Audit {
					e.gauge(float64(n), verdict)
				}
			}),
		},
		{
			Name: "finwait_map_entries", Kind: Gauge, Labels: []string{"map"},
			Help:  "Entries of a hash of the BPF programs. Those of sockets and minisocks have only the records whose place in an array was taken.",
			usual: always(nMaps), most: always(nMaps),
			collect: ofRefresh(func(r *Refreshed, e *emitter) {
				for _, m := range r.Maps {
					e.gauge(float64(m.Entries), m.Name)
				}
			}),
		},
		{
			Name: "finwait_map_capacity", Kind: Gauge, Labels: []string{"map"},
			Help:  "Entries that it has room for.",
			usual: always(nMaps), most: always(nMaps),
			collect: ofRefresh(func(r *Refreshed, e *emitter) {
				for _, m := range r.Maps {
					e.gauge(float64(m.Capacity), m.Name)
				}
			}),
		},
	}
}

func ofPorts(fn func(*Refreshed, *emitter)) func(*reading, *emitter) {
	return ofRefresh(func(r *Refreshed, e *emitter) {
		if r.PortsKnown && r.PortsUsable > 0 {
			fn(r, e)
		}
	})
}
