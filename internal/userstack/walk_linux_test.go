package userstack

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-delve/delve/pkg/dwarf/frame"
)

func self(t testing.TB) Process {
	t.Helper()
	ticks, stack, err := startOf(uint32(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	return Process{uint32(os.Getpid()), time.Duration(ticks) * 10 * time.Millisecond, stack}
}

//go:noinline
func here() uint64 {
	pc, _, _, _ := runtime.Caller(0)
	return uint64(pc)
}

// stackOf makes memory of words, and registers that point to its start.
func stackOf(words ...uint64) (base uint64, memory []byte) {
	for _, w := range words {
		memory = binary.LittleEndian.AppendUint64(memory, w)
	}
	return 0x7ffc0000, memory
}

// A frame of Go: the innermost function has none of its own, the others have frame pointers.
func TestWalkGo(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("skipped: stacks are known on amd64 only")
	}
	pc := here()
	base, memory := stackOf(pc, 0, 0, pc, 0, pc) // the caller, a local, then twice a frame pointer and a return address
	copy(memory[16:], binary.LittleEndian.AppendUint64(nil, base+32))
	frames, truncated := NewReader().Walk(self(t), 1, Registers{IP: pc, SP: base, BP: base + 16}, memory)
	if len(frames) != 4 || !truncated {
		t.Fatalf("%d frames, truncated %v: %+v", len(frames), truncated, frames)
	}
	for _, f := range frames {
		if f.Symbol != "finwait/internal/userstack.here" || f.Address != pc || f.Module == "" {
			t.Errorf("%+v", f)
		}
	}
}

// Whatever is in the registers and the memory, a walk ends, and says that it is truncated.
func TestWalkNonsense(t *testing.T) {
	pc := here()
	base, loop := stackOf(pc, 0x7ffc0000, pc)
	us := self(t)
	for name, c := range map[string]struct {
		process Process
		regs    Registers
		memory  []byte
		frames  int
	}{
		"nobody":          {Process{PID: 1 << 30}, Registers{IP: pc, SP: base}, loop, 1},
		"another life":    {Process{us.PID, 1, us.Stack}, Registers{IP: pc, SP: base}, loop, 1},
		"another program": {Process{us.PID, us.Started, us.Stack + 16}, Registers{IP: pc, SP: base}, loop, 1},
		"nowhere":         {self(t), Registers{}, nil, 1},
		"no memory":       {self(t), Registers{IP: pc, SP: base}, nil, 1},
		"the end":         {self(t), Registers{IP: pc, SP: ^uint64(0)}, loop, 2},
		"in a circle":     {self(t), Registers{IP: pc, SP: base, BP: base}, loop, 2},
	} {
		frames, truncated := NewReader().Walk(c.process, 1, c.regs, c.memory)
		if runtime.GOARCH == "amd64" && len(frames) != c.frames || !truncated {
			t.Errorf("%s: truncated %v, frames %+v, want %d", name, truncated, frames, c.frames)
		}
		if c.process != self(t) && frames[0].Module != "" {
			t.Errorf("%s: a module of a process that is gone: %+v", name, frames[0])
		}
	}
}

func TestParseMapping(t *testing.T) {
	for line, want := range map[string]mapping{
		"7f0fb2c26000-7f0fb2d7b000 r-xp 00026000 fe:01 1837                       /usr/lib/libc.so.6": {
			0x7f0fb2c26000, 0x7f0fb2d7b000, 0x26000, fileID{0xfe01, 1837}, "/usr/lib/libc.so.6",
		},
		`1000-2000 rwxp 00000000 103:02 5 /tmp/a\012b (deleted)`: {0x1000, 0x2000, 0, fileID{0x10302, 5}, "/tmp/a\nb"},
		"1000-2000 r-xp 00000000 00:00 0":                        {start: 0x1000, end: 0x2000},
		"1000-2000 r-xp 00000000 00:00 0          [vdso]":        {start: 0x1000, end: 0x2000},
	} {
		if m, ok := parseMapping([]byte(line)); !ok || m != want {
			t.Errorf("%s: %+v, %v", line, m, ok)
		}
	}
	for _, line := range []string{
		"", "1000-2000 rw-p 00000000 00:00 0", "1000 r-xp 0 0:0 0", "x-y r-xp 0 0:0 0", "1-2 r-xp 0 0 0", "1-2 r-xp", "1-2 r-xp 0 0:0 x /y",
	} {
		if m, ok := parseMapping([]byte(line)); ok {
			t.Errorf("%q is a mapping: %+v", line, m)
		}
	}
}

// The file of a mapping is opened only if it is the file that was mapped.
func TestOpen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "module")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	id := inodeOf(st)
	other := mapping{path: path, file: fileID{id.dev, id.inode + 1}}
	if f, _, err := other.open(uint32(os.Getpid())); err == nil {
		f.Close()
		t.Fatal("a file with another inode number was opened")
	}
	m := mapping{path: path, file: id}
	f, c, err := m.open(uint32(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if c.fileID != id || c.size != 1 {
		t.Errorf("opened %+v, want %+v", c, id)
	}
	// A pipe with its name would stop a reader.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfifo", path).CombinedOutput(); err != nil {
		t.Skipf("skipped: mkfifo: %v %s", err, out)
	}
	if f, _, err := m.open(uint32(os.Getpid())); err == nil {
		f.Close()
		t.Error("a pipe was opened")
	}
}

// Of several names for one function it takes the plain one. A name goes no further than the
// function.
func TestFunction(t *testing.T) {
	names := []byte("\x00__close\x00__libc_close\x00close\x00next\x00unended")
	m := module{symbols: []symbol{
		{0x100, 0x140, names, 1}, {0x100, 0x140, names, 9}, {0x100, 0x140, names, 22}, {0x200, 0x210, names, 28},
		{0x300, 0x310, names, 33}, {0x400, 0x410, names, 99},
	}}
	for addr, want := range map[uint64]string{0xff: "", 0x100: "close", 0x13f: "close", 0x140: "", 0x200: "next", 0x210: "", 0x300: "", 0x400: ""} {
		if f, ok := m.function(addr); f.name != want || ok != (want != "") {
			t.Errorf("%#x is in %q, want %q", addr, f.name, want)
		}
	}
}

// A module of this program: its functions, and its build id as readelf shows it.
func TestReadModule(t *testing.T) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Skip("skipped: there is no /proc")
	}
	defer f.Close()
	m, err := readModule(f)
	if runtime.GOARCH != "amd64" {
		if err == nil {
			t.Error("a file of another architecture was read")
		}
		return
	}
	if err != nil || !m.isGo || len(m.symbols) == 0 {
		t.Fatalf("%v, %+v", err, m)
	}
}

// What is no ELF file, or a damaged one, is an error or has fewer functions. It never panics.
func FuzzReadModule(f *testing.F) {
	exe, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		f.Skip("skipped: there is no /proc")
	}
	libc, err := os.ReadFile("/lib/x86_64-linux-gnu/libc.so.6")
	if err != nil {
		libc = exe
	}
	f.Add(uint32(0), []byte("\x7fELF"))
	f.Add(uint32(64), []byte{0xff, 0xff, 0xff, 0xff})
	f.Add(uint32(1<<20), bytes.Repeat([]byte{0}, 4096))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, at uint32, garbage []byte) {
		b := bytes.Clone(libc)
		copy(b[int(at)%len(b):], garbage)
		path := filepath.Join(dir, "module")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		m, err := readModule(file)
		if err != nil || m == nil {
			return
		}
		for i, fde := range m.frames {
			if i%64 == 0 {
				m.place(fde.Begin())
			}
		}
		for i := range m.symbols {
			if name := m.symbols[i].name(); strings.Contains(name, "\x00") || len(name) > longestName {
				t.Errorf("a name of %d bytes: %q", len(name), name)
			}
			if i%64 == 0 {
				m.function(m.symbols[i].start)
			}
		}
	})
}
func inodeOf(info os.FileInfo) fileID {
	st := info.Sys().(*syscall.Stat_t)
	return fileID{st.Dev, st.Ino}
}

// Files that would take much memory are refused, or read in part.
func TestBounds(t *testing.T) {
	const functions = 20000
	table := make([]byte, 72, 72+100<<10)
	binary.LittleEndian.PutUint32(table, 0xfffffff1)
	binary.LittleEndian.PutUint64(table[8:], functions)
	binary.LittleEndian.PutUint64(table[32:], 72)
	for _, c := range []struct {
		names string
		fit   bool
	}{
		{strings.Repeat("main.main\x00", functions), true},
		{strings.Repeat("x", 100<<10), false},
		{strings.Repeat("x", 4000) + "\x00", false}, // shared by all
	} {
		b := append(table[:72:72], c.names...)
		binary.LittleEndian.PutUint64(b[40:], uint64(len(b)))
		if got := goNamesFit(b); got != c.fit {
			t.Errorf("names of %d bytes fit: %v", len(c.names), got)
		}
	}
	if goNamesFit(nil) || goNamesFit(make([]byte, 72)) {
		t.Error("no table fits")
	}
	many := &frame.FrameDescriptionEntry{Instructions: bytes.Repeat([]byte{0x0a}, 4096), CIE: &frame.CommonInformationEntry{}}
	if tableFits(many) {
		t.Error("a table that copies itself 4096 times fits")
	}
	head := elf.Header64{Machine: uint16(elf.EM_X86_64), Shoff: 64, Shnum: 4000, Shstrndx: 0, Shentsize: 64}
	copy(head.Ident[:], "\x7fELF\x02\x01")
	var file bytes.Buffer
	if err := errors.Join(binary.Write(&file, binary.LittleEndian, &head), binary.Write(&file, binary.LittleEndian, &elf.Section64{Size: 1 << 20})); err != nil {
		t.Fatal(err)
	}
	if err := checkSections(bytes.NewReader(file.Bytes())); err == nil {
		t.Error("4000 sections, with names of 1 MiB each, fit")
	}
}
