package userstack

import (
	"cmp"
	"debug/elf"
	"debug/gosym"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"sort"
	"strings"

	"github.com/go-delve/delve/pkg/dwarf/frame"
)

// A module is what an ELF file says of its functions. All addresses are the file's own
// (virtual addresses): where it was mapped is added by its user.
type module struct {
	buildID string // in hex; "": none
	loads   []elf.ProgHeader
	symbols []function // by address
	frames  frame.FrameDescriptionEntries
	isGo    bool
	places  map[uint64]*place // those that were looked up
}

type function struct {
	name       string
	start, end uint64
}

// Bounds of what is read of a file, which anybody may have made.
const (
	mostSymbols = 1 << 20
	mostFrames  = 16 << 20 // bytes of .eh_frame
	mostTable   = 64 << 20 // bytes of any other section
	// mostInstructions bounds the unwind table of one function, in bytes. Those of large
	// programs take up to 2.5 KiB.
	mostInstructions = 4 << 10
)

// readModule reads an ELF file of amd64. What cannot be read of it is missing in the module.
func readModule(f *os.File) (m *module, err error) {
	defer func() { // the readers of debug/elf, gosym and frame trust their input
		if r := recover(); r != nil {
			m, err = nil, fmt.Errorf("read %s: %v", f.Name(), r)
		}
	}()
	file, err := elf.NewFile(f)
	if err != nil {
		return nil, err
	}
	if file.Machine != elf.EM_X86_64 || file.Class != elf.ELFCLASS64 {
		return nil, errors.New("not an ELF file of amd64")
	}
	m = new(module)
	for _, p := range file.Progs {
		if p.Type == elf.PT_LOAD {
			m.loads = append(m.loads, p.ProgHeader)
		}
	}
	m.buildID = buildID(file)
	table := file.Section(".gopclntab")
	if table == nil {
		table = file.Section(".data.rel.ro.gopclntab") // of a position-independent program
	}
	m.isGo = table != nil
	m.symbols = symbols(file)
	if m.isGo && file.SectionByType(elf.SHT_SYMTAB) == nil {
		m.symbols = append(m.symbols, goFunctions(file, table)...)
	}
	slices.SortStableFunc(m.symbols, func(a, b function) int { return cmp.Compare(a.start, b.start) })
	if s := file.Section(".eh_frame"); s != nil && s.Type != elf.SHT_NOBITS && s.Size <= mostFrames {
		m.frames = unwindTable(s)
	}
	return m, nil
}

func buildID(file *elf.File) string {
	s := file.Section(".note.gnu.build-id")
	if s == nil || s.Size > 1<<10 {
		return ""
	}
	b, err := s.Data()
	// namesz, descsz, type, "GNU\0", and the id (elf(5))
	if err != nil || len(b) < 16 {
		return ""
	}
	if size := binary.LittleEndian.Uint32(b[4:]); uint64(size) <= uint64(len(b)-16) {
		return hex.EncodeToString(b[16 : 16+size])
	}
	return ""
}

// symbols are the functions of which the file says the size.
func symbols(file *elf.File) (all []function) {
	for typ, read := range map[elf.SectionType]func() ([]elf.Symbol, error){
		elf.SHT_SYMTAB: file.Symbols, elf.SHT_DYNSYM: file.DynamicSymbols,
	} {
		if s := file.SectionByType(typ); s == nil || s.Size > mostTable {
			continue
		}
		table, err := read()
		if err != nil || len(table) > mostSymbols {
			continue
		}
		for _, s := range table {
			typ := elf.ST_TYPE(s.Info)
			if (typ != elf.STT_FUNC && typ != elf.STT_GNU_IFUNC) || s.Section == elf.SHN_UNDEF || s.Size == 0 {
				continue
			}
			all = append(all, function{s.Name, s.Value, s.Value + s.Size})
		}
	}
	return all
}

// goFunctions are those of a Go program without symbols. Its table has them by their distance
// from the start of Go's code, which may not be the start of the section. Where that is, the
// program says (runtime.moduledata, since 1.26), or the table itself (from 1.18 on).
func goFunctions(file *elf.File, table *elf.Section) (all []function) {
	if table.Size > mostTable {
		return nil
	}
	b, err := table.Data()
	if err != nil || len(b) < 32 {
		return nil
	}
	start, known := goModule(file, table.Addr)
	if !known {
		start = binary.LittleEndian.Uint64(b[24:]) // runtime.pcHeader.textStart
		known = start != 0
	}
	text := file.Section(".text")
	if text != nil && !known {
		start = text.Addr
	}
	t, err := gosym.NewTable(nil, gosym.NewLineTable(b, start))
	if err != nil {
		return nil
	}
	// The linker of Go starts a program there. That of C does not: then it is not known.
	if first := t.PCToFunc(file.Entry); !known && (first == nil || first.Name != "_rt0_amd64_linux") {
		return nil
	}
	for _, f := range t.Funcs {
		all = append(all, function{f.Name, f.Entry, f.End})
	}
	return all
}

// goModule reads where Go's code starts. table: the address that is written there first.
func goModule(file *elf.File, table uint64) (text uint64, ok bool) {
	s := file.Section(".go.module")
	if s == nil || s.Size > 1<<16 {
		return 0, false
	}
	b, err := s.Data()
	const at = 176 // of runtime.moduledata.text
	if err != nil || len(b) < at+8 || binary.LittleEndian.Uint64(b) != table {
		return 0, false
	}
	return binary.LittleEndian.Uint64(b[at:]), true
}

// unwindTable is empty if the section cannot be read.
func unwindTable(s *elf.Section) (all frame.FrameDescriptionEntries) {
	defer func() {
		if recover() != nil {
			all = nil
		}
	}()
	b, err := s.Data()
	if err != nil {
		return nil
	}
	all, err = frame.Parse(b, binary.LittleEndian, 0, 8, s.Addr)
	if err != nil {
		return nil
	}
	return frame.FrameDescriptionEntries{}.Append(all) // sorts it
}

// address is where in the file's own addresses a byte of the file is.
func (m *module) address(offset uint64) (uint64, bool) {
	for _, p := range m.loads {
		if offset >= p.Off && offset-p.Off < p.Filesz {
			return offset - p.Off + p.Vaddr, true
		}
	}
	return 0, false
}

// function gives the one whose code an address is in. Of several names for the same code
// it takes the one that people use: close, not __close.
func (m *module) function(addr uint64) (best function, ok bool) {
	i := sort.Search(len(m.symbols), func(i int) bool { return m.symbols[i].start > addr })
	for i--; i >= 0; i-- {
		f := m.symbols[i]
		if ok && f.start != best.start {
			break
		}
		if addr < f.end && (!ok || plainer(f.name, best.name)) {
			best, ok = f, true
		}
		if !ok && addr-f.start > 1<<20 {
			break // functions do not lie in one another so deep
		}
	}
	return best, ok
}

func plainer(a, b string) bool {
	underscores := func(s string) int { return len(s) - len(strings.TrimLeft(s, "_")) }
	return cmp.Or(cmp.Compare(underscores(a), underscores(b)), cmp.Compare(len(a), len(b)), strings.Compare(a, b)) < 0
}
