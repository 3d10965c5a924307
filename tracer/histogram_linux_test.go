package tracer

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"finwait/internal/histogram"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// The programs count a duration in the bucket that Go reads it from: the function
// that they call, run by the kernel, against histogram.Index.
func TestHistogramIndexOfThePrograms(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("loading BPF programs needs root")
	}
	spec, err := loadBpf()
	if err != nil {
		t.Fatal(err)
	}
	// Where one function has type information, all must.
	entry := &btf.Func{Name: "entry", Type: &btf.FuncProto{
		Return: &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed},
		Params: []btf.FuncParam{{Name: "skb", Type: &btf.Pointer{Target: (*btf.Void)(nil)}}},
	}}
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SocketFilter, License: "GPL",
		// bpf_skb_load_bytes(skb, 0, &ns, 8); return histogram_index(ns);
		Instructions: append(asm.Instructions{
			btf.WithFuncMetadata(asm.Mov.Imm(asm.R2, 0), entry),
			asm.Mov.Reg(asm.R3, asm.R10),
			asm.Add.Imm(asm.R3, -8),
			asm.Mov.Imm(asm.R4, 8),
			asm.StoreMem(asm.R10, -8, asm.R2, asm.DWord),
			asm.FnSkbLoadBytes.Call(),
			asm.LoadMem(asm.R1, asm.R10, -8, asm.DWord),
			asm.Call.Label("histogram_index"),
			asm.Return(),
		}, functionOf(t, spec, "histogram_index")...),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()

	check := func(ns uint64) {
		packet := make([]byte, 64)
		binary.NativeEndian.PutUint64(packet[14:], ns) // behind the Ethernet header
		got, err := prog.Run(&ebpf.RunOptions{Data: packet})
		if err != nil {
			t.Fatal(err)
		}
		if want := histogram.Index(ns); int(got) != want {
			t.Errorf("%d ns: the program's bucket is %d, Go's is %d", ns, got, want)
		}
	}
	for i := range histogram.Buckets {
		low, high := histogram.Bounds(i)
		check(low)
		check(low + (high-low)/2)
		check(high - 1)
	}
	check(math.MaxUint64)
	random := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		check(random.Uint64() >> random.IntN(64))
	}
}

// functionOf takes the instructions of a function out of a program that calls it.
func functionOf(t *testing.T, spec *ebpf.CollectionSpec, name string) asm.Instructions {
	t.Helper()
	for _, prog := range spec.Programs {
		var body asm.Instructions
		for _, ins := range prog.Instructions {
			ins = ins.WithSource(nil) // line numbers must be there for all functions or none
			switch f := btf.FuncMetadata(&ins); {
			case f != nil && f.Name == name:
				body = asm.Instructions{ins}
			case f != nil && body != nil:
				return body
			case body != nil:
				body = append(body, ins)
			}
		}
		if body != nil {
			return body
		}
	}
	t.Fatalf("no program calls %s", name)
	return nil
}
