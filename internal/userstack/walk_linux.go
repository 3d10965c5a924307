// Package userstack goes up the stack of a program, of which the registers and a part of
// the memory were copied, and names the functions.
//
// A C library and most programs are compiled without frame pointers. Where the caller's
// frame is, their unwind tables say (.eh_frame: Linux Standard Base, and System V ABI for
// AMD64, 3.7). Go has no such table, but frame pointers.
package userstack

import (
	"encoding/binary"
	"time"
)

// The numbers of registers in DWARF (System V ABI for AMD64, figure 3.36).
const (
	rbx = 3
	rbp = 6
	rsp = 7
	r12 = 12
	r13 = 13
	r14 = 14
	r15 = 15
	rip = 16 // the return address
	// registers is how many are numbered so.
	registers = 17
)

// Registers are those of amd64 that a function leaves as they were, and where it is.
type Registers struct {
	IP, SP, BP, BX, R12, R13, R14, R15 uint64
}

// A Process is one program that a process runs: execve() begins another.
type Process struct {
	PID     uint32        // as finwait sees it in /proc
	Started time.Duration // CLOCK_BOOTTIME
	Stack   uint64        // where its stack begins, which execve() chooses at random
}

// A Frame is a place in a program.
type Frame struct {
	Address uint64
	Module  string // path of the file, as the process sees it; "": the address is in no file, or it is not known
	BuildID string // of the file, in hex; "": not known, or it has none
	Symbol  string // function; "": not known
	// Offset is how far into the function the address is. Without a Symbol it is the
	// file's own address of the place (which addr2line takes); 0: not known.
	Offset uint64
}

// MostFrames bounds the frames of a stack.
const MostFrames = 64

// Bounds of what a Reader keeps. If there is more, it forgets all.
const (
	mostProcesses = 512
	mostModules   = 256
	mostHeld      = 256 << 20 // bytes of all modules, about
	mostMapped    = 64 << 20  // bytes of all mappings, about
)

// A Reader keeps what it has read of processes and files. It is for one goroutine.
type Reader struct {
	processes map[Process]*process
	mapped    int                 // bytes of their mappings, about
	modules   map[content]*module // nil: the file cannot be read
	held      int                 // bytes of them, about
}

// A process is what was read of one.
type process struct {
	maps    []mapping
	size    int                // bytes of maps, about
	pages   uint64             // that could be run when the mappings were read
	modules map[fileID]*module // nil: the file cannot be read
}

// NewReader gives a Reader that knows nothing yet.
func NewReader() *Reader {
	return &Reader{processes: make(map[Process]*process), modules: make(map[content]*module)}
}

// Walk gives the frames of a stack, innermost first. memory is what lies from regs.SP on,
// pages how many pages of the process could be run then. truncated: the stack goes on, and it
// is not known how.
func (r *Reader) Walk(p Process, pages uint64, regs Registers, memory []byte) (frames []Frame, truncated bool) {
	w := walk{reader: r, process: r.look(p, pages), pid: p.PID, base: regs.SP, memory: memory}
	w.regs = [registers]uint64{
		rbx: regs.BX, rbp: regs.BP, rsp: regs.SP, r12: regs.R12, r13: regs.R13, r14: regs.R14, r15: regs.R15, rip: regs.IP,
	}
	w.known = 1<<rbx | 1<<rbp | 1<<rsp | 1<<r12 | 1<<r13 | 1<<r14 | 1<<r15 | 1<<rip
	for len(w.frames) < MostFrames {
		if more, whole := w.step(); !more {
			return w.frames, !whole
		}
	}
	return w.frames, true
}

// look reads the mappings of a process. A library that was unloaded may have left its place to
// another, so they are read each time. Of a process that is gone they are those of the last
// time, if there were as many pages then that could be run; otherwise there are none.
func (r *Reader) look(p Process, pages uint64) *process {
	known := r.processes[p]
	if known == nil {
		known = &process{modules: make(map[fileID]*module)}
		if len(r.processes) >= mostProcesses || r.mapped > mostMapped {
			clear(r.processes)
			r.mapped = 0
		}
		r.processes[p] = known
	}
	if !r.read(p, pages, known) && pages != known.pages {
		return &process{modules: known.modules}
	}
	return known
}

// read reports whether it could read them.
func (r *Reader) read(p Process, pages uint64, known *process) bool {
	maps, size, err := readMaps(p.PID)
	// Is it still the same program, now that its mappings have been read?
	if err != nil || !isNow(p) {
		return false
	}
	r.mapped += size - known.size
	known.maps, known.size, known.pages = maps, size, pages
	return true
}

// module reads the file of a mapping, unless it has read it before. It gives nil if it cannot.
func (r *Reader) module(known *process, pid uint32, m *mapping) *module {
	if m.file == (fileID{}) {
		return nil
	}
	mod, read := known.modules[m.file]
	if read {
		return mod
	}
	f, c, err := m.open(pid)
	if err == nil {
		if mod, read = r.modules[c]; !read {
			mod, _ = readModule(f)
			if len(r.modules) >= mostModules || r.held > mostHeld {
				clear(r.modules)
				clear(r.processes) // they have them, too
				r.held, r.mapped = 0, 0
			}
			r.modules[c] = mod
			if mod != nil {
				r.held += mod.held
			}
		}
		f.Close()
	}
	known.modules[m.file] = mod
	return mod
}

// A walk is one way up a stack.
type walk struct {
	reader  *Reader
	process *process
	pid     uint32
	regs    [registers]uint64
	known   uint32 // bits: these registers are known
	base    uint64 // address of memory
	memory  []byte
	frames  []Frame
	exact   bool // the address is no return address, as the caller is a signal
}

// word reads what is at an address of the copied part of the stack.
func (w *walk) word(addr uint64) (uint64, bool) {
	at := addr - w.base
	if addr < w.base || at > uint64(len(w.memory)) || uint64(len(w.memory))-at < 8 {
		return 0, false
	}
	return binary.LittleEndian.Uint64(w.memory[at:]), true
}

// step adds the frame of the program counter, and goes up to its caller. more: there is one.
// whole: there is none.
func (w *walk) step() (more, whole bool) {
	f := Frame{Address: w.regs[rip]}
	innermost := len(w.frames) == 0
	// A return address is that of the next instruction, which may be another function's.
	at := f.Address
	if !innermost && !w.exact {
		at--
	}
	p := w.place(&f, at)
	w.frames = append(w.frames, f)
	switch {
	case p == nil:
		return false, false
	case p.outermost:
		return false, true
	case p.signal:
		return w.bySignal(), false
	case p.row != nil:
		return w.byTable(p.row)
	case p.isGo:
		return w.byFramePointer(innermost), false
	}
	return false, false
}

// place says where an address is; nil if that is not known.
func (w *walk) place(f *Frame, at uint64) *place {
	m, ok := find(w.process.maps, at)
	if !ok {
		return nil
	}
	f.Module = m.path
	mod := w.reader.module(w.process, w.pid, &m)
	if mod == nil {
		return nil
	}
	f.BuildID = mod.buildID
	addr, ok := mod.address(at - m.start + m.offset)
	if !ok {
		return nil
	}
	p := mod.place(addr)
	f.Symbol, f.Offset = p.function.name, addr+(f.Address-at)-p.function.start
	return p
}

// byFramePointer goes up from a frame of Go. Whatever makes a system call there is in
// assembly, and has no frame of its own: the return address is on top of the stack.
func (w *walk) byFramePointer(innermost bool) bool {
	frame := w.regs[rbp]
	if innermost {
		ret, ok := w.word(w.regs[rsp])
		w.regs[rip] = ret
		w.regs[rsp] += 8
		return ok && ret != 0
	}
	saved, ok := w.word(frame)
	ret, ok2 := w.word(frame + 8)
	if !ok || !ok2 || ret == 0 || w.known&(1<<rbp) == 0 || frame < w.regs[rsp] {
		return false
	}
	w.regs[rip], w.regs[rbp], w.regs[rsp] = ret, saved, frame+16
	w.known = 1<<rip | 1<<rbp | 1<<rsp
	return true
}

// bySignal goes up from the function that a signal handler returns to. There the stack
// pointer is at the kernel's struct ucontext, in which the registers of the interrupted
// function are (arch/x86/include/uapi/asm/sigcontext.h: struct sigcontext_64).
func (w *walk) bySignal() bool {
	const registersAt = 40 // struct ucontext.uc_mcontext
	context := w.regs[rsp] + registersAt
	var regs [registers]uint64
	for reg, at := range map[int]uint64{
		r12: 32, r13: 40, r14: 48, r15: 56, rbp: 80, rbx: 88, rsp: 120, rip: 128,
	} {
		v, ok := w.word(context + at)
		if !ok {
			return false
		}
		regs[reg] = v
	}
	w.regs, w.exact = regs, true
	w.known = 1<<rbx | 1<<rbp | 1<<rsp | 1<<r12 | 1<<r13 | 1<<r14 | 1<<r15 | 1<<rip
	return regs[rip] != 0
}

// byTable goes up from a frame that an unwind table describes.
func (w *walk) byTable(r *row) (more, whole bool) {
	if w.known&(1<<r.base) == 0 {
		return false, false
	}
	cfa := w.regs[r.base] + uint64(r.distance)
	if cfa <= w.regs[rsp] {
		return false, false
	}
	regs, known := w.regs, uint32(0)
	for reg, rule := range r.rules {
		switch rule.kind {
		case same:
			known |= w.known & (1 << reg)
		case saved:
			if v, ok := w.word(cfa + uint64(rule.offset)); ok {
				regs[reg] = v
				known |= 1 << reg
			}
		case distance:
			regs[reg] = cfa + uint64(rule.offset)
			known |= 1 << reg
		case moved:
			regs[reg] = w.regs[rule.offset]
			known |= w.known >> rule.offset & 1 << reg
		}
	}
	if known&(1<<rip) == 0 {
		return false, false
	}
	w.regs, w.known, w.exact = regs, known, false
	return w.regs[rip] != 0, w.regs[rip] == 0
}
