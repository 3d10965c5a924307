//go:build linux

package live_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"finwait/internal/testnet"
	"finwait/tracer"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Ten transitions make a connection over loopback, both ends counted; the
// client's TIME_WAIT ends later.
const transitionsPerConnection = 10

// emptyProgram attaches a program that does nothing to the tracepoint: what the
// kernel says that it takes is the price of being called and measured.
func emptyProgram(b *testing.B) {
	b.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "empty", Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: "inet_sock_set_state",
		License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		b.Fatal(err)
	}
	l, err := link.AttachTracing(link.TracingOptions{Program: prog})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close(); prog.Close() })
}

type cost struct {
	runs uint64
	time time.Duration
}

// costs sums up what the kernel measured, by program name, over programs that
// were not there before.
func costs(b *testing.B, before map[ebpf.ProgramID]bool) map[string]cost {
	b.Helper()
	out := make(map[string]cost)
	for id := range programs(b) {
		if before[id] {
			continue
		}
		prog, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // unloaded meanwhile
		}
		info, err := prog.Info()
		if err != nil {
			b.Fatal(err)
		}
		st, err := prog.Stats()
		prog.Close()
		if err != nil {
			b.Fatal(err)
		}
		c := out[info.Name]
		out[info.Name] = cost{c.runs + st.RunCount, c.time + st.Runtime}
	}
	return out
}

func programs(b *testing.B) map[ebpf.ProgramID]bool {
	b.Helper()
	ids := make(map[ebpf.ProgramID]bool)
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if err != nil {
			return ids
		}
		ids[next], id = true, next
	}
}

// BenchmarkKernel says what one transition costs in the kernel, net of an empty
// program on the same tracepoint in the same run, and what the other hooks add.
// Run it alone (make bench): the tests' own tracer is stopped for it.
func BenchmarkKernel(b *testing.B) {
	before := programs(b)
	emptyProgram(b)
	tr, err := tracer.New(tracer.Config{Hooks: hooks})
	if err != nil {
		b.Fatal(err)
	}
	defer tr.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { _ = tr.Run(ctx, func(*tracer.Transition) error { return nil }) }()
	ns := testnet.NewNS(b)
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		b.Fatal(err)
	}
	defer stats.Close()

	start := costs(b, before)
	b.ResetTimer()
	runWorkers(b, ns, b.N)
	b.StopTimer()
	end := costs(b, before)

	per := func(name string, per uint64) float64 {
		return float64((end[name].time - start[name].time).Nanoseconds()) / float64(per)
	}
	runs := end["set_state"].runs - start["set_state"].runs
	b.ReportMetric(per("empty", runs), "empty-ns/transition")
	b.ReportMetric(per("set_state", runs)-per("empty", runs), "set_state-ns/transition")
	var rest float64
	for _, name := range []string{"set_state_nested", "timer_start", "timer_cancel", "timer_expire_ent", "kfree_skb", "twsk_alloc", "twsk_schedule", "twsk_kill"} {
		if _, loaded := end[name]; !loaded {
			continue
		}
		n := per(name, runs)
		b.ReportMetric(n, name+"-ns/transition")
		rest += n
	}
	b.ReportMetric(rest, "others-ns/transition")
	b.ReportMetric(float64(runs)/float64(b.N), "transitions/op")
	st, err := tr.Stats()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(st.Lost.Total()), "lost")
}

// runWorkers makes n connections in processes of their own, one for each CPU.
func runWorkers(b *testing.B, ns *testnet.NS, n int) {
	b.Helper()
	const workers = 2
	var cmds []*exec.Cmd
	for range workers {
		cmds = append(cmds, startWorker(b, ns, strconv.Itoa(n/workers+1)))
	}
	for _, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkConnections is how fast connections can be made, with finwait and without.
func BenchmarkConnections(b *testing.B) {
	for _, mode := range []string{"untraced", "text", "json"} {
		b.Run(mode, func(b *testing.B) {
			ns := testnet.NewNS(b)
			var finwait *exec.Cmd
			if mode != "untraced" {
				finwait = trace(b, mode)
			}
			b.ResetTimer()
			runWorkers(b, ns, b.N)
			b.StopTimer()
			if finwait != nil {
				reader(b, finwait)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "connections/s")
		})
	}
}

// trace starts the real command, its output thrown away, and waits until it is attached.
func trace(b *testing.B, output string) *exec.Cmd {
	b.Helper()
	bin := filepath.Join(b.TempDir(), "finwait")
	if out, err := exec.Command("go", "build", "-o", bin, "finwait/cmd/finwait").CombinedOutput(); err != nil {
		b.Fatalf("build: %v\n%s", err, out)
	}
	cmd := exec.Command(bin, "--output", output)
	errs, err := cmd.StderrPipe()
	if err != nil {
		b.Fatal(err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	cmd.Stdout = null
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	null.Close()
	if _, err := errs.Read(make([]byte, 256)); err != nil { // it says that it traces
		b.Fatal(err)
	}
	go func() {
		buf := make([]byte, 4096)
		for {
			if _, err := errs.Read(buf); err != nil {
				return
			}
		}
	}()
	return cmd
}

// reader ends the command and reports the CPU time that each event took it,
// that of its start included.
func reader(b *testing.B, cmd *exec.Cmd) {
	b.Helper()
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		b.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		b.Fatal(err)
	}
	cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	b.ReportMetric(float64(cpu.Nanoseconds())/float64(transitionsPerConnection*b.N), "reader-ns/transition")
	b.ReportMetric(float64(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)/1024, "reader-MB")
}
