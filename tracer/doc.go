// Package tracer follows every TCP socket of a Linux host from state to state, in
// every network namespace, and says how long each state lasted and why it ended.
//
// The kernel's tracepoint sock:inet_sock_set_state reports full sockets only. A
// socket that closes is replaced by a small one, a minisock (struct
// inet_timewait_sock), which holds FIN_WAIT_2 and TIME_WAIT and which that
// tracepoint does not report. The eBPF programs of this package follow both, so that
// a connection is one chain of transitions from its first state to CLOSED.
//
// # Use
//
// New loads the programs and attaches them. Run hands over one Transition after the
// other. Totals reads what the kernel counted: transitions, reasons, and how long
// states lasted. Close detaches. Config and Filter pick what is traced; a filter is
// applied in the kernel. The zero Config traces everything.
//
// # Requirements
//
// The kernel must be Linux 5.15 or later (MinimumKernel), with BTF
// (CONFIG_DEBUG_INFO_BTF) and the BPF JIT. On other systems the package builds, and
// New fails with ErrNotLinux.
//
// New needs CAP_BPF and CAP_PERFMON, and CAP_SYSLOG for the addresses in
// /proc/kallsyms: without these only HooksFentry can be used, and some reasons are
// ReasonKilled. CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH show the owners of sockets
// that are older than the tracer, CAP_SYS_ADMIN the older sockets of other network
// namespaces. Once New has returned no capability is needed, from Linux 5.19 on or
// with kernel.unprivileged_bpf_disabled=0. The package gives no capability up.
//
// Without a capability that it needs, New fails with a *PermissionError that names
// it. It fails with an *UnsupportedError for what the kernel lacks, a *HooksError for
// hooks that the kernel refuses, and a *FilterError for a filter that can never
// match. ErrNoProc, ErrNoSys, ErrNoBTF, ErrSeccomp and ErrUserNamespace tell apart
// what a container lacks. Features tells what the kernel has.
//
// # Concurrency
//
// Run, or RunRaw with Config.Raw, can be called once. The handler and Config.Idle
// are called by the goroutine that called Run. While Run runs, other goroutines may
// call Stats, Totals, Groups, NetNS, NetNSTotals, Hooks and Close. Close ends Run,
// which then returns nil.
//
// A Transition or RawEvent is valid until the handler returns: the next one is
// written to the same memory. A copy of the struct can be kept; nothing in it points
// elsewhere. What Totals and Groups return is the caller's.
//
// After Close, Stats is what it was when the tracer was closed. The totals are gone:
// read them before.
//
// # Losses
//
// Every transition that the programs see is filtered, delivered or lost: Stats.Seen
// is the sum of Filtered, Delivered and all of Lost. Lost counts by cause. A handler
// that is too slow fills the ring buffer (LossRingFull); totals have such
// transitions all the same. Of a transition that is lost for another cause, nothing
// is known: the socket's next transition can be without a duration. LossMissed is
// a lower bound: the kernel does not report every run of a program that it skips.
//
// # Precision
//
// Transition.Duration is the time spent in the state that was left, by
// CLOCK_MONOTONIC. Transition.Precision says how far it can be relied upon. It is
// PrecisionExact if both ends were seen. PrecisionJiffy: the start was worked out
// from a kernel timer, to the tick. PrecisionAtLeast: the socket was in that state
// before the tracer first saw it. PrecisionUnknown: the start was not seen, and
// Duration is 0. Durations has those of the first two.
//
// What was not seen is never guessed: an Owner or a Process without a PID and
// RoleUnknown say that it was not seen, ReasonNone that there is nothing to say, and
// ReasonKilled that the cause is unknown.
package tracer
