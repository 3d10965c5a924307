package tracer

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"finwait/internal/privilege"

	"golang.org/x/sys/unix"
)

// checkPlace says if finwait cannot trace where it is, whatever its privileges are: a file
// system is missing that all else reads, or capabilities do not count.
func checkPlace() error {
	// Mounted with subset=pid, /proc has processes only (proc(5)).
	if _, err := os.Stat("/proc/sys/kernel"); errors.Is(err, os.ErrNotExist) {
		return ErrNoProc
	}
	if _, err := os.Stat("/sys/kernel"); errors.Is(err, os.ErrNotExist) {
		return ErrNoSys
	}
	if ns, err := os.Readlink("/proc/self/ns/user"); err == nil && ns != initialUserNamespace {
		return ErrUserNamespace
	}
	return nil
}

// mayUseBPF asks bpf(2) to look something up in no map. This takes no memory and creates
// nothing. The kernel says EBADF; any other answer tells who did not let the call through.
func mayUseBPF() error {
	// The first member of union bpf_attr for BPF_MAP_LOOKUP_ELEM is map_fd (linux/bpf.h).
	attr := [4]uint64{0: 1<<32 - 1}
	_, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_MAP_LOOKUP_ELEM, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	runtime.KeepAlive(&attr)
	switch errno {
	case unix.EPERM, unix.EACCES, unix.ENOSYS:
	default:
		return nil
	}
	switch {
	case underSeccomp():
		return fmt.Errorf("%w (%v)", ErrSeccomp, errno)
	case errno == unix.ENOSYS:
		return &UnsupportedError{Feature: "bpf(2)", Since: "3.18", Err: errno}
	}
	return &PermissionError{Missing: privilege.Missing(), Err: errno}
}

// initialUserNamespace is PROC_USER_INIT_INO (linux/proc_ns.h).
const initialUserNamespace = "user:[4026531837]"

// underSeccomp reports whether a filter judges the system calls of the process (seccomp(2)).
func underSeccomp() bool { return statusHas("Seccomp:\t2") }

// noNewPrivs is why the capabilities of finwait's file were not given to the process, if so.
func noNewPrivs() error {
	if statusHas("NoNewPrivs:\t1") {
		return errors.New("no_new_privs is set (allowPrivilegeEscalation: false), under which capabilities of the file do not count")
	}
	return nil
}

// statusHas looks for a line in what the kernel says of the process (proc_pid_status(5)).
func statusHas(line string) bool {
	status, err := os.ReadFile("/proc/self/status")
	return err == nil && strings.Contains(string(status), "\n"+line+"\n")
}

// countsMemlock reports whether the kernel counts BPF maps against RLIMIT_MEMLOCK. Since
// 5.11 memory cgroups have them. No type tells this, so the version has to.
func countsMemlock() bool {
	var (
		u            unix.Utsname
		major, minor int
	)
	if err := unix.Uname(&u); err != nil {
		return false
	}
	_, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	return err == nil && (major < 5 || major == 5 && minor < 11)
}
