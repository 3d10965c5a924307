package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

//go:embed init.sh
var initScript []byte

// jobLimit is for the tests of one set of hooks, or for any other job. vmLimit is for
// everything that a machine does, including its boot.
const (
	jobLimit = 780 * time.Second
	vmLimit  = 1680 * time.Second
)

// A file is a file of an initramfs.
type file struct {
	name string
	mode uint32
	data []byte
}

const (
	modeDir  = 0o040755
	modeExec = 0o100755
)

// pack makes a cpio archive (Documentation/driver-api/early-userspace/buffer-format.rst).
func pack(files []file) []byte {
	var b bytes.Buffer
	pad := func() {
		for b.Len()%4 != 0 {
			b.WriteByte(0)
		}
	}
	for i, f := range append(files, file{name: "TRAILER!!!"}) {
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
			i+1, f.mode, 0, 0, 1, 0, len(f.data), 0, 0, 0, 0, len(f.name)+1, 0, f.name)
		pad()
		b.Write(f.data)
		pad()
	}
	return b.Bytes()
}

// userland builds the static programs that run in the machines.
func userland(arch string) ([]file, error) {
	tmp, err := os.MkdirTemp("", "finwait-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	files := []file{{"bin", modeDir, nil}, {"modules", modeDir, nil}, {"init", modeExec, initScript}}
	for name, args := range map[string][]string{
		"live.test":    {"test", "-c", "./internal/test/live"},
		"tracer.test":  {"test", "-c", "./tracer"},
		"finwait.test": {"test", "-c", "./cmd/finwait"},
		"confine.test": {"test", "-c", "./internal/confine"},
		"finwait":      {"build", "./cmd/finwait"},
	} {
		out := filepath.Join(tmp, name)
		build := exec.Command("go", append(args[:len(args)-1:len(args)-1], "-ldflags=-s -w", "-o", out, args[len(args)-1])...)
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch)
		if _, err := output(build); err != nil {
			return nil, err
		}
		data, err := os.ReadFile(out)
		if err != nil {
			return nil, err
		}
		files = append(files, file{name, modeExec, data})
	}
	return files, nil
}

// machine returns the emulator of a kernel, and its arguments. The kernel prints to the console,
// and the job to another serial port.
func machine(k kernel, console, result string) (qemu, cmdline string, args []string) {
	if k.arch == "arm64" {
		return emulators[k.arch].program, "console=ttyAMA0 RESULT=hvc0", []string{
			"-machine", "virt", "-cpu", "max,pauth=off,sve=off", // these features are the slowest to emulate
			"-serial", "file:" + console,
			"-device", "virtio-serial-pci", "-chardev", "file,id=result,path=" + result, "-device", "virtconsole,chardev=result",
		}
	}
	// The emulation of cmpxchg16b sometimes fails, and can panic the kernel, so it is left
	// out. From 6.19 on it is needed: without it kmalloc_nolock() returns nothing, and BPF can
	// keep no data about a socket.
	// The other features are slow to emulate: page tables of five levels (la57), copies of
	// single bytes (erms), protection of user memory (smap), more state of each task (avx,
	// xsave).
	cpu := "max,-la57,-erms,-smap,-avx,-xsave"
	if compareVersions(k.series, "6.18") < 0 {
		cpu += ",-cx16"
	}
	return emulators[k.arch].program, "console=ttyS0 RESULT=ttyS1", []string{
		"-cpu", cpu, "-serial", "file:" + console, "-serial", "file:" + result,
	}
}

// boot runs a job on a kernel in a virtual machine and returns what the job printed.
// The two emulated CPUs take turns on one CPU of the host. On two CPUs of the host each would
// wait for the other most of the time. A CPU that runs code while the other patches it can
// also panic the kernel (Oops: int3).
func boot(ctx context.Context, k kernel, dir string, userland []file, job, run, log string) (string, error) {
	files := slices.Clone(userland)
	shell, err := os.ReadFile(filepath.Join(dir, "busybox"))
	if err != nil {
		return "", err
	}
	files = append(files, file{"bin/busybox", modeExec, shell})
	for _, name := range modules {
		if data, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
			files = append(files, file{"modules/" + name, 0o100644, data})
		}
	}
	initrd, result := log+".initrd", log+".result"
	defer os.Remove(initrd)
	if err := os.WriteFile(initrd, pack(files), 0o644); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, vmLimit)
	defer cancel()
	qemu, cmdline, args := machine(k, log+".console", result)
	cmdline += fmt.Sprintf(" panic=-1 quiet mitigations=off rcupdate.rcu_expedited=1 JOB=%s LIMIT=%d", job, int(jobLimit.Seconds()))
	if run != "" {
		cmdline += " RUN=" + run
	}
	vm := exec.CommandContext(ctx, qemu, append(args,
		"-accel", "tcg,thread=single", "-smp", "2", "-m", "2G",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", filepath.Join(dir, "vmlinuz"), "-initrd", initrd, "-append", cmdline)...)
	if _, err := output(vm); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("not done after %v", vmLimit)
		}
		return "", err
	}
	b, err := os.ReadFile(result)
	return string(b), err
}
