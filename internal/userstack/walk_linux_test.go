package userstack

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

func self(t testing.TB) Process {
	t.Helper()
	ticks, err := startTime(uint32(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	return Process{PID: uint32(os.Getpid()), Started: time.Duration(ticks) * 10 * time.Millisecond}
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
	frames, truncated := NewReader().Walk(self(t), Registers{IP: pc, SP: base, BP: base + 16}, memory)
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
	for name, c := range map[string]struct {
		process Process
		regs    Registers
		memory  []byte
		frames  int
	}{
		"nobody":       {Process{PID: 1 << 30}, Registers{IP: pc, SP: base}, loop, 1},
		"another life": {Process{PID: uint32(os.Getpid()), Started: 1}, Registers{IP: pc, SP: base}, loop, 1},
		"nowhere":      {self(t), Registers{}, nil, 1},
		"no memory":    {self(t), Registers{IP: pc, SP: base}, nil, 1},
		"the end":      {self(t), Registers{IP: pc, SP: ^uint64(0)}, loop, 2},
		"in a circle":  {self(t), Registers{IP: pc, SP: base, BP: base}, loop, 2},
	} {
		frames, truncated := NewReader().Walk(c.process, c.regs, c.memory)
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
	f, c, err := openFile(path, fileID{}, false)
	if err == nil {
		f.Close()
		t.Fatal("a file with another inode number was opened")
	}
	var st os.FileInfo
	if st, err = os.Stat(path); err != nil {
		t.Fatal(err)
	}
	id := inodeOf(st)
	m := mapping{path: path, file: id}
	if f, c, err = m.open(uint32(os.Getpid())); err != nil {
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
	m := module{symbols: []function{
		{"__close", 0x100, 0x140}, {"__libc_close", 0x100, 0x140}, {"close", 0x100, 0x140}, {"next", 0x200, 0x210},
	}}
	for addr, want := range map[uint64]string{0xff: "", 0x100: "close", 0x13f: "close", 0x140: "", 0x200: "next", 0x210: ""} {
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
		for _, s := range m.symbols {
			if strings.Contains(s.name, "\x00") {
				t.Errorf("a name with a zero byte: %q", s.name)
			}
			m.function(s.start)
			break
		}
	})
}
func inodeOf(info os.FileInfo) fileID {
	st := info.Sys().(*syscall.Stat_t)
	return fileID{st.Dev, st.Ino}
}
