package metrics

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
func refreshedFamilies() []*family {
	one := always(1)
	return []*family{
		{
			name: "finwait_refresh_timestamp_seconds", kind: gauge,
			help:  "When the audit, findings, namespaces, ports and maps below were read, in Unix time. They are missing if that failed.",
			usual: one, most: one,
			collect: ofRefresh(func(r *Refreshed, e *emitter) { e.gauge(float64(r.At.UnixMilli()) / 1e3) }),
		},
		{
			name: "finwait_refresh_duration_seconds", kind: gauge,
			help:  "How long that took.",
			usual: one, most: one,
			collect: ofRefresh(func(r *Refreshed, e *emitter) { e.gauge(r.Took.Seconds()) }),
		},
		{
			name: "finwait_findings", kind: gauge, labels: []string{"id", "severity"},
			help:  "Findings of finwait doctor --snapshot, which /findings explains. 0: it was looked for and not found. No series: it could not be looked for.",
			usual: func(o *Options) int { return o.Rules },
			most:  func(o *Options) int { return 2 * o.Rules },
			collect: ofRefresh(func(r *Refreshed, e *emitter) {
				for _, f := range r.Findings {
					e.gauge(float64(f.Count), f.ID, f.Severity)
				}
			}),
		},
		{
			name: "finwait_findings_not_checked", kind: gauge,
			help:  "Findings that could not be looked for, or only in part: one reading does not show them, or a capability is missing.",
			usual: one, most: one,
			collect: ofRefresh(func(r *Refreshed, e *emitter) { e.gauge(float64(r.NotChecked)) }),
		},
		{
			name: "finwait_namespaces", kind: gauge, labels: []string{"visited"},
			help:  "Network namespaces, by whether finwait could enter them. What it could not enter is missing in findings and ports, and sockets there that were open before finwait are counted from their next transition on.",
			usual: always(2), most: always(2),
			collect: ofRefresh(func(r *Refreshed, e *emitter) {
				e.gauge(float64(r.Visited), strconv.FormatBool(true))
				e.gauge(float64(r.Unvisited), strconv.FormatBool(false))
			}),
		},
		{
			name: "finwait_ports_used_max", kind: gauge,
			help:  "Local ports that are used towards one destination: the one for which the largest part of the usable ports is. /findings names it if that is a risk.",
			usual: one, most: one,
			collect: ofPorts(func(r *Refreshed, e *emitter) { e.gauge(float64(r.PortsUsed)) }),
		},
		{
			name: "finwait_ports_usable", kind: gauge,
			help:  "Local ports that connect() can choose from in the network namespace of that destination.",
			usual: one, most: one,
			collect: ofPorts(func(r *Refreshed, e *emitter) { e.gauge(float64(r.PortsUsable)) }),
		},
		{
			name: "finwait_ports_used_ratio_max", kind: gauge,
			help:  "The former divided by the latter.",
			usual: one, most: one,
			collect: ofPorts(func(r *Refreshed, e *emitter) { e.gauge(float64(r.PortsUsed) / float64(r.PortsUsable)) }),
		},
		{
			name: "finwait_audit_counters", kind: gauge, labels: []string{"verdict"},
			help:  "Comparisons of a counter of the kernel, in one network namespace, with what finwait has counted since it found the namespace. disagrees: finwait or the kernel is wrong.",
			usual: always(nVerdicts), most: always(nVerdicts),
			collect: ofRefresh(func(r *Refreshed, e *emitter) {
				for verdict, n := range r.Audit {
					e.gauge(float64(n), verdict)
				}
			}),
		},
		{
			name: "finwait_map_entries", kind: gauge, labels: []string{"map"},
			help:  "Entries of a hash of the BPF programs. Those of sockets and minisocks have only the records whose place in an array was taken.",
			usual: always(nMaps), most: always(nMaps),
			collect: ofRefresh(func(r *Refreshed, e *emitter) {
				for _, m := range r.Maps {
					e.gauge(float64(m.Entries), m.Name)
				}
			}),
		},
		{
			name: "finwait_map_capacity", kind: gauge, labels: []string{"map"},
			help:  "Entries that it has room for.",
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
