// Package tracer follows every TCP state transition of a Linux host with eBPF. For
// each it says how long the state that ended had lasted, why it ended, and whose
// socket it was.
//
// # What it follows
//
// The kernel's tracepoint sock:inet_sock_set_state reports full sockets only. When a
// socket enters TIME_WAIT, or an orphan FIN_WAIT_2, the kernel replaces it by a small
// timewait socket, the minisock, which no tracepoint reports. The tracer follows the
// minisock with hooks of its own ([HookSet]), so a connection goes from its first
// state to its last: FIN_WAIT_1, FIN_WAIT_2, TIME_WAIT, CLOSED. [Transition.Source]
// says which of the two held the state.
//
// [New] loads the programs, attaches them, and looks at the sockets that exist
// already. There are two ways to read what happens:
//
//   - [Tracer.Run] hands over each transition, through a ring buffer. If the reader is
//     too slow, transitions are lost, and counted as lost.
//   - [Tracer.Totals], [Tracer.Groups] and [Tracer.NetNSTotals] read what the programs
//     count in the kernel. A full ring buffer does not change totals.
//     [Config.TotalsOnly] leaves the ring buffer out, [Config.NoTotals] the totals.
//
// # What is true
//
// What was not seen is unknown, and never 0: see [Precision] for durations, and a PID
// of 0 for processes. Every transition is accounted for: [Tracer.Stats] says how many
// were seen, and seen = filtered + delivered + lost. [Lost] has the causes. Durations
// are differences of CLOCK_MONOTONIC, which stops while the machine is suspended.
//
// # When methods may be called
//
// Run or RunRaw can be called once. While it runs, other goroutines may call Stats,
// Totals, Groups, NetNS, NetNSTotals, Hooks and Close. Close ends Run. The function
// that Run calls gets a [Transition] that is valid until it returns: copy what you
// keep. It may call all these methods, and ends Run by an error. After Close, Stats
// gives the last accounts and Hooks the set; the other methods fail.
//
// # What it needs
//
// Linux from [MinimumKernel] on, with BTF (CONFIG_DEBUG_INFO_BTF) and the BPF JIT, on a
// little-endian machine. CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN; CAP_SYSLOG to read
// kernel addresses, without which only [HooksFentry] works. Other capabilities show
// more: see [New]. What is missing is a typed error that names it: [PermissionError],
// [UnsupportedError], [HooksError] and the variables beside them. [Features] lists what
// the kernel offers. On other systems everything compiles, and New fails with
// [ErrNotLinux].
//
// The package logs nothing, unless [Config.Logger] is set.
package tracer
