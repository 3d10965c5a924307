package tracer

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"finwait/internal/privilege"
)

// The errors that New gives. Each is one sentence with the way out; a caller
// tells them apart with errors.Is and errors.As.
var (
	// ErrNotLinux: there is no eBPF on this system.
	ErrNotLinux = errors.New("finwait traces the Linux kernel; this system is not Linux")

	// ErrNoBTF: the kernel was built without CONFIG_DEBUG_INFO_BTF.
	ErrNoBTF = errors.New("this kernel has no BTF (/sys/kernel/btf/vmlinux): use one built with CONFIG_DEBUG_INFO_BTF=y, as distributions have it")

	// ErrNoProc: finwait reads kernel addresses, settings and processes in /proc.
	ErrNoProc = errors.New("/proc is not mounted here, or only its processes are: mount -t proc proc /proc, without subset=pid")

	// ErrNoSys: finwait reads the kernel's BTF and its CPUs in /sys.
	ErrNoSys = errors.New("/sys is not mounted here: mount -t sysfs sysfs /sys")

	// ErrSeccomp: bpf(2) is forbidden to the process, whatever its capabilities are. Older
	// container runtimes let it through for CAP_SYS_ADMIN only.
	ErrSeccomp = errors.New("a seccomp filter forbids bpf(2), though the capabilities are there: " +
		"let the container's seccomp profile allow bpf (or use seccomp=unconfined), or the unit's SystemCallFilter=; " +
		"older container runtimes also allow it with CAP_SYS_ADMIN")

	// ErrUserNamespace: bpf(2) asks for the capabilities of the initial user namespace.
	ErrUserNamespace = errors.New("in a user namespace (a rootless container, unshare --user) no capability counts for bpf(2): " +
		"run it outside, as root of the host")

	// ErrLockdown: the kernel is locked down and lets no BPF program read its memory.
	ErrLockdown = errors.New("kernel lockdown is in confidentiality mode, which forbids BPF to read kernel memory: boot with lockdown=integrity")

	// ErrMemlock: a kernel before 5.11 counts BPF maps against RLIMIT_MEMLOCK.
	ErrMemlock = errors.New("the memlock limit is too low for the BPF maps, which count against it before Linux 5.11: raise it with ulimit -l unlimited, or give finwait CAP_SYS_RESOURCE")

	// ErrNoJIT: a program with functions and tail calls has to be compiled.
	ErrNoJIT = errors.New("the kernel does not compile BPF programs: sysctl net.core.bpf_jit_enable=1")

	// ErrHiddenSymbols: the address of the timewait timer, by which the tracepoint hooks know it, cannot be read.
	ErrHiddenSymbols = errors.New("/proc/kallsyms hides kernel addresses, so the tracepoint hooks cannot follow TIME_WAIT: run as root, or give finwait CAP_SYSLOG; kernel.kptr_restrict=2 hides them from everybody")
)

// A PermissionError says which capabilities are missing.
type PermissionError struct {
	Missing []string // such as CAP_BPF
	Err     error    // what the kernel said, or what else is in the way; may be nil
}

func (e *PermissionError) Error() string {
	if len(e.Missing) == 0 {
		return fmt.Sprintf("the kernel does not permit it although CAP_BPF and CAP_PERFMON are there; a security module such as SELinux, or a seccomp filter, can forbid bpf(2): %v", e.Err)
	}
	if os.Geteuid() == 0 {
		return fmt.Sprintf("not permitted without %s, which this root has not got: give them to the container or the unit", strings.Join(e.Missing, " and "))
	}
	out := fmt.Sprintf("not permitted without %s: run as root, or %s on the binary", strings.Join(e.Missing, " and "), privilege.Setcap(false))
	if e.Err != nil {
		out += "; " + e.Err.Error()
	}
	return out
}

func (e *PermissionError) Unwrap() error { return e.Err }

// An UnsupportedError names something that the kernel lacks.
type UnsupportedError struct {
	Feature string // such as "bpf_get_socket_cookie() in tracing programs"
	Since   string // the first kernel that has it, such as "5.12"
	Err     error  // what the kernel said; may be nil
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("this kernel has no %s, which came with Linux %s: use a kernel from %s on", e.Feature, e.Since, MinimumKernel)
}

func (e *UnsupportedError) Unwrap() error { return e.Err }

// A HooksError says that the kernel does not let programs be attached to one of
// its functions, as HooksFentry asks for.
type HooksError struct {
	Function string
	Err      error // what the kernel said
}

func (e *HooksError) Error() string {
	return fmt.Sprintf("the kernel refuses the fentry hook on %s(): %v: use the tracepoint hooks, or auto", e.Function, e.Err)
}

func (e *HooksError) Unwrap() error { return e.Err }

// MinimumKernel is the first kernel series that finwait can run on.
const MinimumKernel = "5.15"

// A FilterError is a filter that can never match.
type FilterError struct {
	Why string
}

func (e *FilterError) Error() string { return "this filter can never match: " + e.Why }
