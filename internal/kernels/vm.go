package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

//go:embed init.sh
var initScript []byte

// The time that a machine may take: for its job, or for the tests of one set of
// hooks, and for all, booting included.
const (
	jobLimit = 240 * time.Second
	vmLimit  = 540 * time.Second
)

// A file of an initramfs.
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
// The kernel takes several of them, one after the other.
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

// userland builds the programs that run in the machines, statically, and packs
// them with a shell.
func userland() ([]byte, error) {
	tmp, err := os.MkdirTemp("", "finwait-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	files := []file{{"bin", modeDir, nil}, {"modules", modeDir, nil}, {"init", modeExec, initScript}}
	for name, args := range map[string][]string{
		"live.test":   {"test", "-c", "./internal/live"},
		"tracer.test": {"test", "-c", "./tracer"},
		"finwait":     {"build", "./cmd/finwait"},
	} {
		out := filepath.Join(tmp, name)
		build := exec.Command("go", append(args[:len(args)-1:len(args)-1], "-ldflags=-s -w", "-o", out, args[len(args)-1])...)
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=amd64")
		if _, err := output(build); err != nil {
			return nil, err
		}
		data, err := os.ReadFile(out)
		if err != nil {
			return nil, err
		}
		files = append(files, file{name, modeExec, data})
	}
	path, err := exec.LookPath("busybox")
	if err != nil {
		return nil, errors.New("no busybox: apt-get install busybox-static")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return pack(append(files, file{"bin/busybox", modeExec, data})), nil
}

// processor is what to emulate. cmpxchg16b goes wrong now and then, up to a
// panic of the kernel, so leave it out; but from 6.19 on BPF can keep nothing about a
// socket without it, as kmalloc_nolock() returns nothing then.
func processor(k kernel) string {
	if compareVersions(k.series, "6.18") < 0 {
		return "max,-cx16"
	}
	return "max"
}

// boot runs a job on a kernel in a virtual machine and returns what it printed.
// The emulator runs anywhere, and as slowly. Its two CPUs take turns on one of the
// host's: side by side each waits for the other most of the time, and one that
// comes upon code while the other patches it can panic the kernel (Oops: int3).
func boot(ctx context.Context, k kernel, dir string, userland []byte, job, run, log string) (string, error) {
	var loaded []file
	for _, name := range modules {
		if data, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
			loaded = append(loaded, file{"modules/" + name, 0o100644, data})
		}
	}
	initrd, result := log+".initrd", log+".result"
	defer os.Remove(initrd)
	if err := os.WriteFile(initrd, append(bytes.Clone(userland), pack(loaded)...), 0o644); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, vmLimit)
	defer cancel()
	args := fmt.Sprintf("console=ttyS0 panic=-1 quiet mitigations=off rcupdate.rcu_expedited=1 JOB=%s LIMIT=%d", job, int(jobLimit.Seconds()))
	if run != "" {
		args += " RUN=" + run
	}
	vm := exec.CommandContext(ctx, "qemu-system-x86_64",
		"-accel", "tcg,thread=single", "-cpu", processor(k), "-smp", "2", "-m", "1G",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", filepath.Join(dir, "vmlinuz"), "-initrd", initrd, "-append", args,
		"-serial", "file:"+log+".console", "-serial", "file:"+result)
	if _, err := output(vm); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("not done after %v", vmLimit)
		}
		return "", err
	}
	b, err := os.ReadFile(result)
	return string(b), err
}
