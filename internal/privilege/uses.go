// Package privilege says which capabilities finwait makes use of, what for, and
// whether the process has them. Package confine gives them up.
package privilege

import "strings"

// Capabilities (linux/capability.h) that finwait makes use of.
const (
	BPF           = "CAP_BPF"
	Perfmon       = "CAP_PERFMON"
	Syslog        = "CAP_SYSLOG"
	SysPtrace     = "CAP_SYS_PTRACE"
	DACReadSearch = "CAP_DAC_READ_SEARCH"
	SysAdmin      = "CAP_SYS_ADMIN"
	NetAdmin      = "CAP_NET_ADMIN"
	NetRaw        = "CAP_NET_RAW"
	Kill          = "CAP_KILL"
	DACOverride   = "CAP_DAC_OVERRIDE"
)

// A Use says what a capability is for.
type Use struct {
	Name     string // such as CAP_BPF
	Since    string // the first kernel that has it
	For      string
	Required bool // without it there is no tracing
	// Without is what the output of tracing lacks without it, and Unlisted what ls lacks that
	// cannot use BPF; "": nothing.
	Without, Unlisted string
}

// Uses are those that trace, stat and ls make use of, the most needed first.
func Uses() []Use {
	return []Use{
		{BPF, "5.8", "load the programs and their maps", true, "", ""},
		{Perfmon, "5.8", "let them read kernel memory, and attach them", true, "", ""},
		{Syslog, "2.6.37", "read the addresses in /proc/kallsyms; only the fentry hooks can do without", false,
			"why minisocks end before their time, listeners close, and FIN_WAIT_1, FIN_WAIT_2 and CLOSING are cut short (killed is said)", ""},
		{SysPtrace, "2.2", "see in which network namespaces other users' processes are", false,
			"the namespaces that only other users' processes lead to, until their sockets move",
			"owners of other users' sockets, and the network namespaces that only their processes lead to"},
		{DACReadSearch, "2.2", "list other users' descriptors, where ls cannot use BPF", false,
			"", "owners of other users' sockets"},
		{SysAdmin, "2.2", "enter other network namespaces", false,
			"what other network namespaces held before finwait, until it moves, and their audit", "other network namespaces"},
	}
}

// Missing are those of the required capabilities that the process has not got.
func Missing() (names []string) {
	for _, u := range Uses() {
		if u.Required && !Has(u.Name) {
			names = append(names, u.Name)
		}
	}
	return names
}

// Setcap is the command, but for the file, that gives a binary what tracing takes
// with any hooks, or all that is of use.
func Setcap(all bool) string {
	var names []string
	for _, u := range Uses() {
		if all || u.Required || u.Name == Syslog {
			names = append(names, strings.ToLower(u.Name))
		}
	}
	return "setcap " + strings.Join(names, ",") + "=ep"
}
