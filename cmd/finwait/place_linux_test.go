package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"finwait/tracer"

	"golang.org/x/sys/unix"
)

// asFiltered makes this binary put itself under a seccomp filter that answers bpf(2)
// with an errno, of commands up to a number, and then become what its arguments say.
const asFiltered = "FINWAIT_TEST_SECCOMP"

func seccomp(errno unix.Errno, commands uint32) string {
	return fmt.Sprintf("%s=%d %d", asFiltered, errno, commands)
}

func filtered(by string) error {
	var errno, commands uint32
	if _, err := fmt.Sscan(by, &errno, &commands); err != nil {
		return err
	}
	const nr, arg0 = 0, 16 // in struct seccomp_data; of the argument its lower half, little-endian
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: nr},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_BPF, Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: arg0},
		{Code: unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K, K: commands, Jt: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | errno},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil { // who is not root may do it then
		return err
	}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&fprog)), 0, 0); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.Unsetenv(asFiltered); err != nil {
		return err
	}
	return syscall.Exec(self, os.Args, os.Environ())
}

// What is in the way is named, and no other cause.
func TestPlaces(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Fatal("this test traces the kernel: run it as root")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	without := func(dir string) []string {
		return []string{"unshare", "--mount", "sh", "-c", `mount -t tmpfs none "$0" && exec "$@"`, dir}
	}
	const all = 1<<32 - 1
	for name, c := range map[string]struct {
		in   []string // the command that finwait is run by
		env  string
		args string
		want error
	}{
		"no /proc":                  {without("/proc"), "", "trace", tracer.ErrNoProc},
		"no /proc, a namespace":     {without("/proc"), "", "stat --netns self", tracer.ErrNoProc},
		"no /proc, ls":              {without("/proc"), "", "ls", tracer.ErrNoProc},
		"no /proc, demo":            {without("/proc"), "", "demo close", tracer.ErrNoProc},
		"no /proc, load":            {without("/proc"), "", "demo load", tracer.ErrNoProc},
		"no /proc, features":        {without("/proc"), "", "features", tracer.ErrNoProc},
		"processes only":            {[]string{"unshare", "--mount", "sh", "-c", `mount -t proc -o subset=pid none /proc && exec "$0" "$@"`}, "", "trace", tracer.ErrNoProc},
		"no /sys":                   {without("/sys"), "", "trace", tracer.ErrNoSys},
		"no BTF":                    {without("/sys/kernel/btf"), "", "trace", tracer.ErrNoBTF},
		"a user namespace":          {[]string{"unshare", "--user", "--map-root-user"}, "", "trace", tracer.ErrUserNamespace},
		"seccomp, EPERM":            {nil, seccomp(unix.EPERM, all), "trace", tracer.ErrSeccomp},
		"seccomp, ENOSYS":           {nil, seccomp(unix.ENOSYS, all), "stat", tracer.ErrSeccomp},
		"seccomp and no privileges": {[]string{"setpriv", "--bounding-set=-bpf,-sys_admin", "--inh-caps=-bpf,-sys_admin"}, seccomp(unix.EPERM, all), "trace", &tracer.PermissionError{Missing: []string{"CAP_BPF"}}},
		// The check itself passes, and the memlock limit cannot be raised.
		"no maps": {[]string{"setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource"}, seccomp(unix.EPERM, unix.BPF_MAP_CREATE), "trace --hooks tracepoint", &tracer.PermissionError{Err: errors.New("")}},
	} {
		t.Run(name, func(t *testing.T) {
			args := append(append(append([]string{}, c.in...), self), strings.Fields(c.args)...)
			cmd := exec.Command(args[0], args[1:]...)
			cmd.Env = append(os.Environ(), asFinwait+"=1", c.env)
			var stdout, stderr strings.Builder
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			_ = cmd.Run()
			lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
			if last := lines[len(lines)-1]; cmd.ProcessState.ExitCode() != exitFailure || !strings.HasPrefix(last, "ERR "+c.want.Error()) {
				t.Errorf("%v: exit code %d, said %q, want %q", cmd.Args, cmd.ProcessState.ExitCode(), &stderr, c.want)
			}
			// The race detector's own lines have no level.
			if n := strings.Count(stderr.String(), "ERR ") + strings.Count(stderr.String(), "WRN "); n != 1 {
				t.Errorf("said %q", &stderr)
			}
		})
	}
}
