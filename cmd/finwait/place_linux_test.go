package main

import (
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
// with this errno, and then become what its arguments say.
const asFiltered = "FINWAIT_TEST_SECCOMP"

func filtered(errno string) error {
	var n uint32
	if _, err := fmt.Sscan(errno, &n); err != nil {
		return err
	}
	load := unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS} // the number of the call: seccomp_data.nr
	program := []unix.SockFilter{
		load,
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_BPF, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | n},
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
		"seccomp, EPERM":            {nil, fmt.Sprintf("%s=%d", asFiltered, unix.EPERM), "trace", tracer.ErrSeccomp},
		"seccomp, ENOSYS":           {nil, fmt.Sprintf("%s=%d", asFiltered, unix.ENOSYS), "stat", tracer.ErrSeccomp},
		"seccomp and no privileges": {[]string{"setpriv", "--bounding-set=-bpf,-sys_admin", "--inh-caps=-bpf,-sys_admin"}, fmt.Sprintf("%s=%d", asFiltered, unix.EPERM), "trace", &tracer.PermissionError{Missing: []string{"CAP_BPF"}}},
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
			if len(lines) != 1 {
				t.Errorf("said %q", &stderr)
			}
		})
	}
}
