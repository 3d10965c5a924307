package tracer

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"testing"
	"time"

	"finwait/internal/ktime"
	generator "finwait/internal/load"
	"finwait/internal/sandbox"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// What a minisock costs when so many others are followed: time of the programs
// per connection, and memory of the map per minisock, with and without owners.
func BenchmarkMinisocks(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("loading BPF programs needs root")
	}
	for _, totals := range []bool{true, false} {
		for _, n := range []uint32{10_000, 100_000, 1_000_000} {
			b.Run(fmt.Sprintf("totals=%v/%d", totals, n), func(b *testing.B) { benchmarkMinisocks(b, totals, n) })
		}
	}
}

func benchmarkMinisocks(b *testing.B, totals bool, n uint32) {
	tr, err := New(Config{TotalsOnly: totals, NoTotals: !totals, Minisocks: 1 << 20})
	if err != nil {
		b.Fatal(err)
	}
	defer tr.Close()
	slots, records := tr.coll.Maps[bpfMapMinisockSlots], tr.coll.Maps[bpfMapMinisocks]
	spilled := n - min(n, slots.MaxEntries())
	take(b, slots, n-spilled)
	fill(b, records, spilled)
	if err := tr.coll.Variables[bpfVarMinisocksSpilled].Set(spilled); err != nil {
		b.Fatal(err)
	}
	ns := sandbox.New(b)
	defer ns.Remove()
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		b.Fatal(err)
	}
	defer stats.Close()
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	go func() { _ = tr.Run(ctx, func(*Transition) error { return nil }) }()
	before := runtimes(b, tr)
	made, err := generator.Run(ctx, generator.Config{Count: b.N, NetNS: ns.Path()}, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(runtimes(b, tr)-before)/float64(made.Made), "ns/connection")
	b.ReportMetric(0, "ns/op")
	var memory uint64
	for _, m := range []*ebpf.Map{slots, records} {
		info, err := m.Info()
		if err != nil {
			b.Fatal(err)
		}
		bytes, ok := info.Memlock()
		if !ok {
			return
		}
		memory += bytes
	}
	b.ReportMetric(float64(memory)/1e6, "MB")
}

// foreign is a cookie that no socket is given.
const foreign = 1 << 63

// aRecord is a struct mini_info of a minisock whose timer is never due.
func aRecord(size uint32) []byte {
	value := make([]byte, size)
	binary.NativeEndian.PutUint64(value, foreign)    // cookie
	binary.NativeEndian.PutUint64(value[24:], 1)     // minisock
	binary.NativeEndian.PutUint64(value[32:], 1<<62) // expires
	return value
}

// take gives slots in the array to minisocks that no hook will ever ask for.
func take(b *testing.B, m *ebpf.Map, n uint32) {
	b.Helper()
	value := aRecord(m.ValueSize())
	for slot := range n {
		if err := m.Put(slot, value); err != nil {
			b.Fatal(err)
		}
	}
}

// fill adds records that no hook will ever ask for.
func fill(b *testing.B, m *ebpf.Map, n uint32) {
	b.Helper()
	const batch = 10_000
	keys := make([]uint64, batch)
	record := reflect.ArrayOf(int(m.ValueSize()), reflect.TypeFor[byte]())
	values := reflect.MakeSlice(reflect.SliceOf(record), batch, batch)
	for i := range batch {
		reflect.Copy(values.Index(i), reflect.ValueOf(aRecord(m.ValueSize())))
	}
	for done := uint32(0); done+batch <= n; done += batch {
		for i := range keys {
			keys[i] = foreign | uint64(done) + uint64(i)
		}
		if _, err := m.BatchUpdate(keys, values.Interface(), nil); err != nil {
			b.Fatal(err)
		}
	}
}

// runtimes is what the kernel has measured of all programs, in ns.
func runtimes(b *testing.B, tr *Tracer) (sum int64) {
	b.Helper()
	for name, prog := range tr.coll.Programs {
		if name == bpfProgExisting {
			continue // done, and closed
		}
		st, err := prog.Stats()
		if err != nil {
			b.Fatal(err)
		}
		sum += int64(st.Runtime)
	}
	return sum
}

// What looking for missed ends costs, with so many records: time of one run, and CPU time a
// second at the rate at which they run.
func BenchmarkSweep(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("loading BPF programs needs root")
	}
	for _, owners := range []bool{true, false} {
		for _, n := range []uint32{0, 60_000, 100_000, 200_000} {
			b.Run(fmt.Sprintf("minisocks/owners=%v/%d", owners, n), func(b *testing.B) {
				tr, err := New(Config{TotalsOnly: !owners})
				if err != nil {
					b.Fatal(err)
				}
				defer tr.Close()
				slots, records := tr.coll.Maps[bpfMapMinisockSlots], tr.coll.Maps[bpfMapMinisocks]
				spilled := n - min(n, slots.MaxEntries())
				take(b, slots, n-spilled)
				fill(b, records, spilled)
				if err := tr.coll.Variables[bpfVarMinisocksSpilled].Set(spilled); err != nil {
					b.Fatal(err)
				}
				benchmarkSweep(b, tr.coll.Programs[bpfProgSweepMinisocks], 1)
			})
		}
	}
}

// The same for full sockets, which are read one by one.
func BenchmarkSweepSockets(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("loading BPF programs needs root")
	}
	const connections = 3000
	tr, err := New(Config{TotalsOnly: true})
	if err != nil {
		b.Fatal(err)
	}
	defer tr.Close()
	ns := sandbox.New(b)
	ctx, stop := context.WithCancel(b.Context())
	made := make(chan struct{})
	go func() {
		defer close(made)
		_, _ = generator.Run(ctx, generator.Config{Count: connections, Hold: time.Hour, NetNS: ns.Path(), Workers: 12}, nil)
	}()
	time.Sleep(5 * time.Second)
	b.Run(fmt.Sprint(ns.States()[uint8(Established)]), func(b *testing.B) {
		benchmarkSweep(b, tr.coll.Programs[bpfProgSweepSockets], sweepsPerSockets)
	})
	stop()
	<-made
}

func benchmarkSweep(b *testing.B, p *ebpf.Program, sweeps int) {
	hz, err := ktime.HZ()
	if err != nil {
		b.Fatal(err)
	}
	every := time.Duration(sweeps) * sweepEvery(hz)
	cpu := func() time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began := cpu()
	for b.Loop() {
		if _, err := p.Run(nil); err != nil {
			b.Fatal(err)
		}
	}
	one := (cpu() - began) / time.Duration(b.N)
	b.ReportMetric(float64(one)/1e6, "ms/run")
	b.ReportMetric(float64(one)/1e6/every.Seconds(), "ms/s")
	b.ReportMetric(0, "ns/op")
}
