//go:build linux

package live_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"finwait/internal/sandbox"
	"finwait/tracer"
)

// startStacks opens a tracer with stacks. It is open, and what uses the namespace is seen.
func startStacks(t *testing.T, ns *sandbox.NS, cfg tracer.Config) *recorder {
	t.Helper()
	cfg.Filter.NetNS = []uint64{ns.Cookie}
	kept := newRecorder(t)
	start(t, cfg, kept)
	return kept
}

func needsAMD64(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("skipped: stacks of programs are known on amd64 only")
	}
}

//go:noinline
func closeHere(s *sandbox.Sock) { s.Close() }

// A Go program, this one, closes a connection. Its own frames are known from the system call
// up to where its goroutine begins. What arrives at the other end has a stack in the kernel, but
// none in a program.
func TestStackOfGo(t *testing.T) {
	t.Parallel()
	needsAMD64(t)
	ns := sandbox.New(t)
	kept := startStacks(t, ns, tracer.Config{Stacks: tracer.StacksBoth})
	p := ns.Pair(sandbox.Families[0])
	closeHere(p.Client)
	p.Server.WaitState(uint8(tracer.CloseWait))
	p.Server.Close()
	kept.chain(p.Server.Cookie)

	closed := stackAt(t, kept, p.Client.Cookie, tracer.FinWait1)
	names := symbols(closed.User)
	at := slices.IndexFunc(names, func(s string) bool { return strings.HasSuffix(s, "live_test.closeHere") })
	if closed.UserTruncated || closed.PID != uint32(os.Getpid()) || at < 0 || !strings.Contains(names[0], "syscall") ||
		!strings.HasPrefix(names[len(names)-1], "runtime.goexit") {
		t.Errorf("process %d, truncated %v, frames\n%+v", closed.PID, closed.UserTruncated, closed.User)
	}
	if at > 0 && !strings.HasSuffix(names[at-1], "(*Sock).Close") {
		t.Errorf("closeHere is above %s", names[at-1])
	}
	if kernel := kernelNames(closed); !slices.Contains(kernel, "__tcp_close") ||
		!strings.HasPrefix(kernel[len(kernel)-1], "entry_SYSCALL_64") || !strings.Contains(kernel[0], "state") {
		t.Errorf("frames of the kernel %q", kernel)
	}
	arrived := stackAt(t, kept, p.Server.Cookie, tracer.CloseWait)
	if kernel := kernelNames(arrived); arrived.User != nil || arrived.PID != 0 || !slices.Contains(kernel, "tcp_v4_rcv") {
		t.Errorf("a FIN has arrived: frames of the kernel %q, of a program %v", kernel, arrived.User)
	}
}

// What was not asked for is not there.
func TestStackOfTheKernel(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("skipped: TestStackOfGo has the kernel's, too")
	}
	ns := sandbox.New(t)
	kept := startStacks(t, ns, tracer.Config{Stacks: tracer.StacksKernel})
	p := ns.Pair(sandbox.Families[0])
	p.Client.Close()
	if st := stackAt(t, kept, p.Client.Cookie, tracer.FinWait1); !slices.Contains(kernelNames(st), "__tcp_close") || st.User != nil {
		t.Errorf("frames of the kernel %q, of a program %v", kernelNames(st), st.User)
	}
	if none := follow(t, ns.Cookie); len(none.snapshot()) > 0 {
		t.Fatal("this recorder is new")
	} else {
		p.Server.Close()
		if last := none.chain(p.Server.Cookie).last(); last.Stack != nil {
			t.Errorf("a tracer without stacks gives %+v", last.Stack)
		}
	}
}

// A transition that is told later than it happened has no stack: that of the teller would be
// wrong. The filter waits until connect() has chosen a port.
func TestStackOfWhatIsToldLate(t *testing.T) {
	t.Parallel()
	needsAMD64(t)
	ns := sandbox.New(t)
	const port = 40000
	ns.Sysctl("ip_local_port_range", "40000 40000")
	kept := startStacks(t, ns, tracer.Config{Stacks: tracer.StacksBoth, Filter: tracer.Filter{LocalPorts: []tracer.PortRange{tracer.Port(port)}}})
	listener := ns.Socket(sandbox.Families[0]).Bind(port + 1).Listen()
	client := ns.Socket(sandbox.Families[0]).Connect(listener.Local)
	if st := stackAt(t, kept, client.Cookie, tracer.SynSent); st.Kernel != nil || st.User != nil {
		t.Errorf("told late: frames of the kernel %q, of a program %q", kernelNames(st), symbols(st.User))
	}
	if st := stackAt(t, kept, client.Cookie, tracer.Established); len(st.Kernel) == 0 {
		t.Errorf("told at once: %+v", st)
	}
}

// Where in a program is a connection closed? The same source, compiled in several ways: with
// frame pointers and without, without symbols, linked statically, in a root directory, mount
// namespace and pid namespace of its own, and deleted since it was started.
func TestStackOfPrograms(t *testing.T) {
	t.Parallel()
	needsAMD64(t)
	cc := compiler(t)
	for name, c := range map[string]struct {
		flags  []string
		attr   *syscall.SysProcAttr
		before func(t *testing.T, program string) // before it closes
		names  []string                           // nil: none of the program's own
	}{
		"frame pointers":    {flags: []string{"-fno-omit-frame-pointer"}, names: []string{"finish", "handle", "main"}},
		"no frame pointers": {flags: []string{"-fomit-frame-pointer"}, names: []string{"finish", "handle", "main"}},
		"no symbols":        {flags: []string{"-s"}},
		"static":            {flags: []string{"-static"}, names: []string{"finish", "handle", "main"}},
		"position":          {flags: []string{"-static", "-no-pie"}, names: []string{"finish", "handle", "main"}},
		"root of its own": {
			flags: []string{"-static"}, names: []string{"finish", "handle", "main"},
			attr: &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID},
		},
		"deleted": {
			names:  []string{"finish", "handle", "main"},
			before: func(t *testing.T, program string) { remove(t, program) },
		},
		"replaced": {
			names: []string{"finish", "handle", "main"},
			before: func(t *testing.T, program string) {
				remove(t, program)
				write(t, program, "another file")
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			program := filepath.Join(dir, "closer")
			compile(t, cc, program, "closer.c", c.flags...)
			want := append([]string{"close"}, c.names...)
			ns := sandbox.New(t)
			kept := startStacks(t, ns, tracer.Config{Stacks: tracer.StacksBoth})
			cmd := exec.Command(program)
			if cmd.SysProcAttr = c.attr; c.attr != nil {
				cmd.SysProcAttr.Chroot = dir
				cmd.Path = "/closer"
			}
			say := startTalking(t, ns, cmd)
			if c.before != nil {
				c.before(t, program)
			}
			say()
			st := stackOf(t, kept, uint32(cmd.Process.Pid), tracer.FinWait1)
			got := symbols(st.User)
			if st.UserTruncated || len(got) < len(want) || !slices.Equal(got[:len(want)], want) || st.PID != uint32(cmd.Process.Pid) {
				t.Fatalf("process %d, truncated %v, frames %q, want %q first", st.PID, st.UserTruncated, got, want)
			}
			if c.names == nil {
				if f := st.User[1]; f.Symbol != "" || filepath.Base(f.Module) != "closer" || f.Offset == 0 {
					t.Errorf("without symbols the caller of close is %+v", f)
				}
			}
			for _, f := range st.User {
				if id := noteOf(t, f.Module, program, c.before != nil); id != "?" && f.BuildID != id {
					t.Errorf("build id of %s %q, want %q", f.Module, f.BuildID, id)
				}
			}
		})
	}
}

// The same process runs another program, linked to the same addresses, and a library takes the
// place of another one: the names are those of what is there.
func TestStackOfWhatHasChanged(t *testing.T) {
	t.Parallel()
	needsAMD64(t)
	cc := compiler(t)
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	fixed := []string{"-static", "-no-pie"}
	compile(t, cc, path("first"), "closer.c", fixed...)
	compile(t, cc, path("second"), "closer.c", append(fixed, "-Dhandle=handle_again", "-Dfinish=finish_again")...)
	compile(t, cc, path("loader"), "closer.c", "-DLIBRARIES", "-ldl")
	for _, name := range []string{"one", "two"} {
		compile(t, cc, path(name), "library.c", "-shared", "-fPIC", "-DNAME=close_in_"+name)
	}
	for name, c := range map[string]struct {
		args   []string
		frames [2]string // that the first and the second time have
	}{
		"execve": {[]string{path("first"), path("second")}, [2]string{"close finish handle main", "close finish_again handle_again main"}},
		"dlclose": {
			[]string{path("loader"), path("one"), path("two")}, [2]string{"close close_in_one end main", "close close_in_two end main"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := sandbox.New(t)
			kept := startStacks(t, ns, tracer.Config{Stacks: tracer.StacksUser})
			cmd := exec.Command(c.args[0], c.args[1:]...)
			say := startTalking(t, ns, cmd)
			for turn, want := range c.frames {
				say()
				if turn == 1 && name == "execve" {
					say() // the first one is what makes it another program
				}
				got := nthStack(t, kept, tracer.FinWait1, turn)
				have := strings.Join(symbols(got.User), " ")
				// What calls end() is inlined, or not.
				have = strings.ReplaceAll(strings.ReplaceAll(have, " by_library", ""), " finish_by", "")
				if !strings.HasPrefix(have, want+" ") || got.UserTruncated {
					t.Errorf("time %d: truncated %v, frames %q, want %q first", turn+1, got.UserTruncated, have, want)
				}
			}
		})
	}
}

// A signal handler closes: the stack goes on to what the signal has interrupted.
func TestStackOfASignal(t *testing.T) {
	t.Parallel()
	needsAMD64(t)
	program := filepath.Join(t.TempDir(), "closer")
	compile(t, compiler(t), program, "closer.c")
	ns := sandbox.New(t)
	kept := startStacks(t, ns, tracer.Config{Stacks: tracer.StacksUser})
	startTalking(t, ns, exec.Command(program, "signal"))()
	st := nthStack(t, kept, tracer.FinWait1, 0)
	have := strings.Join(symbols(st.User), " ")
	if ok, _ := regexp.MatchString(`^close finish handle .*raise .*main .*_start$`, have); !ok || st.UserTruncated {
		t.Errorf("truncated %v, frames %q", st.UserTruncated, have)
	}
}

// What execve() closes has no stack: the registers are those of the new program.
func TestStackOfCloseOnExec(t *testing.T) {
	t.Parallel()
	needsAMD64(t)
	needsPython(t)
	const program = `
import os, socket, sys
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen()
c = socket.create_connection(s.getsockname())
sys.stdin.read(1)
os.execv("/bin/true", ["true"])
`
	ns := sandbox.New(t)
	kept := startStacks(t, ns, tracer.Config{Stacks: tracer.StacksBoth})
	cmd := exec.Command(python, "-c", program)
	startTalking(t, ns, cmd)()
	st := nthStack(t, kept, tracer.FinWait1, 0)
	if st.User != nil || len(st.Kernel) == 0 {
		t.Errorf("frames %q, of the kernel %q", symbols(st.User), kernelNames(st))
	}
}

// Debian's python3 has no symbols of its static functions, and no frame pointers. An extension
// module makes the call, by way of libffi.
func TestStackOfPython(t *testing.T) {
	t.Parallel()
	needsAMD64(t)
	needsPython(t)
	const program = `
import ctypes, socket, sys
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen()
libc = ctypes.CDLL(None)
while sys.stdin.read(1):
    c = socket.create_connection(s.getsockname()); a, _ = s.accept()
    libc.close(a.detach())
`
	ns := sandbox.New(t)
	kept := startStacks(t, ns, tracer.Config{Stacks: tracer.StacksUser})
	cmd := exec.Command(python, "-c", program)
	startTalking(t, ns, cmd)()
	st := stackOf(t, kept, uint32(cmd.Process.Pid), tracer.FinWait1)
	var modules []string
	for _, f := range st.User {
		if base := filepath.Base(f.Module); len(modules) == 0 || modules[len(modules)-1] != base {
			modules = append(modules, base)
		}
	}
	all := strings.Join(modules, " ")
	if ok, _ := regexp.MatchString(`^libc\.so\.6 libffi\S* _ctypes\S* python3\S* libc\.so\.6 python3\S*$`, all); !ok || st.UserTruncated {
		t.Errorf("truncated %v, modules %q, frames %q", st.UserTruncated, all, symbols(st.User))
	}
	if got := symbols(st.User); got[len(got)-1] != "_start" || !slices.Contains(got, "_PyEval_EvalFrameDefault") {
		t.Errorf("frames %q", got)
	}
	if st.Kernel != nil {
		t.Errorf("nobody asked for frames of the kernel: %v", st.Kernel)
	}
}

// A connection that is handed over is closed by a program that is not its owner. It uses io_uring,
// by itself or by a thread of the kernel.
func TestStackOfIOUring(t *testing.T) {
	t.Parallel()
	needsAMD64(t)
	cc := compiler(t)
	program := filepath.Join(t.TempDir(), "uring")
	compile(t, cc, program, "uring.c", "-O2")
	for name, async := range map[string]bool{"by itself": false, "by a worker": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := sandbox.New(t)
			kept := startStacks(t, ns, tracer.Config{Stacks: tracer.StacksBoth, Handlers: true})
			p := ns.Pair(sandbox.Families[0])
			cmd := exec.Command(program)
			if async {
				cmd.Args = append(cmd.Args, "async")
			}
			f := p.Server.File()
			cmd.ExtraFiles = []*os.File{f}
			say := startTalking(t, ns, cmd)
			f.Close()
			p.Server.Close() // the program has it still
			p.Client.Write()
			p.Client.Close()
			c := kept.chain(p.Server.Cookie)
			say()
			if err := cmd.Wait(); err != nil {
				if code := cmd.ProcessState.ExitCode(); code == 77 {
					t.Skip("skipped: this kernel has no io_uring, or forbids it")
				}
				t.Fatal(err)
			}
			pid := uint32(cmd.Process.Pid)
			var closed *tracer.Transition
			for i := range c {
				if c[i].To == tracer.LastAck {
					closed = &c[i]
				}
			}
			if closed == nil {
				t.Fatalf("no LAST_ACK in\n%v", c)
			}
			if closed.Owner.PID != uint32(os.Getpid()) || closed.Closer.PID != pid || closed.Handler.PID != pid {
				t.Errorf("owner %d, closer %d, handler %d; process %d owns it, and %d has used and closed it",
					closed.Owner.PID, closed.Closer.PID, closed.Handler.PID, os.Getpid(), pid)
			}
			st := closed.Stack
			if async {
				if st.User != nil || !strings.Contains(strings.Join(kernelNames(st), " "), "io_") {
					t.Errorf("frames of a program %q, of the kernel %q", symbols(st.User), kernelNames(st))
				}
				return
			}
			if got := symbols(st.User); st.PID != pid || len(got) < 3 || got[0] != "syscall" || got[1] != "request" || got[2] != "main" {
				t.Errorf("process %d, frames %q; frames of the kernel %q", st.PID, got, kernelNames(st))
			}
		})
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// startTalking starts a program. say gives it a byte to read.
func startTalking(t *testing.T, ns *sandbox.NS, cmd *exec.Cmd) (say func()) {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	ns.Start(cmd)
	t.Cleanup(func() {
		in.Close()
		if cmd.ProcessState == nil {
			_ = cmd.Wait()
		}
		if errs.Len() > 0 {
			t.Logf("%s: %s", cmd.Path, errs.String())
		}
	})
	return func() {
		if _, err := io.WriteString(in, "."); err != nil {
			t.Fatal(err)
		}
	}
}

// compiler is a C compiler that is installed.
func compiler(t *testing.T) string {
	for _, name := range []string{"gcc", "clang-19", "cc"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	missingProgram(t, exec.ErrNotFound)
	return ""
}

const python = "/usr/bin/python3"

func needsPython(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(python); err != nil {
		missingProgram(t, err)
	}
}

// missingProgram skips a test, but not where everything must be tested.
func missingProgram(t *testing.T, err error) {
	t.Helper()
	if os.Getenv("CI") != "" && !testing.Short() {
		t.Fatal(err)
	}
	t.Skipf("skipped: %v", err)
}

func compile(t *testing.T, cc, program, source string, flags ...string) {
	t.Helper()
	args := append([]string{"-O2", "-Wl,--build-id", "-o", program, filepath.Join("testdata", source)}, flags...)
	if out, err := exec.Command(cc, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", source, err, out)
	}
}

// noteOf is the build id that readelf shows; "?" of a file that is not there.
func noteOf(t *testing.T, module, program string, gone bool) string {
	t.Helper()
	if module == "" || gone || filepath.Base(module) == "closer" && module != program {
		return "?"
	}
	var last error
	for _, name := range []string{"readelf", "llvm-readelf-19"} {
		out, err := exec.Command(name, "-n", module).Output()
		if err != nil {
			last = err
			continue
		}
		if m := regexp.MustCompile(`Build ID: ([0-9a-f]+)`).FindSubmatch(out); m != nil {
			return string(m[1])
		}
		return ""
	}
	missingProgram(t, last)
	return ""
}

// stackAt is the stack of the transition by which a socket has entered a state.
func stackAt(t *testing.T, kept *recorder, cookie uint64, to tracer.State) *tracer.Stack {
	t.Helper()
	tr := kept.find(t, func(x *tracer.Transition) bool { return x.Cookie == cookie && x.To == to })
	if tr.Stack == nil {
		t.Fatalf("no stack: %+v", tr)
	}
	return tr.Stack
}

// stackOf is that of the first transition to a state, of the process's sockets.
func stackOf(t *testing.T, kept *recorder, pid uint32, to tracer.State) *tracer.Stack {
	t.Helper()
	return kept.find(t, func(x *tracer.Transition) bool { return x.Owner.PID == pid && x.To == to }).Stack
}

// nthStack is that of the n-th transition to a state, from 0 on.
func nthStack(t *testing.T, kept *recorder, to tracer.State, n int) *tracer.Stack {
	t.Helper()
	seen := make(map[uint64]bool) // sockets
	tr := kept.find(t, func(x *tracer.Transition) bool {
		if x.To == to {
			seen[x.Cookie] = true
		}
		return x.To == to && len(seen) > n
	})
	return tr.Stack
}

func symbols(frames []tracer.UserFrame) (names []string) {
	for _, f := range frames {
		names = append(names, f.Symbol)
	}
	return names
}

func kernelNames(st *tracer.Stack) (names []string) {
	for _, f := range st.Kernel {
		names = append(names, f.Symbol)
	}
	return names
}
