package userstack

import (
	"bytes"
	"cmp"
	"debug/elf"
	"debug/gosym"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sort"
	"strings"
	"unsafe"

	"github.com/go-delve/delve/pkg/dwarf/frame"
)

// A module is what an ELF file says of its functions. All addresses are the file's own
// (virtual addresses): where it was mapped is added by its user.
type module struct {
	buildID string // in hex; "": none
	loads   []elf.ProgHeader
	symbols []symbol // by address
	frames  frame.FrameDescriptionEntries
	isGo    bool
	places  map[uint64]*place // those that were looked up
	held    int               // bytes of memory, about
}

// A symbol is a function of which the file says the size. Its name stays in the file's table:
// many names can share the bytes of it.
type symbol struct {
	start, end uint64
	table      []byte
	at         uint32
}

// A function is a symbol with its name.
type function struct {
	name       string
	start, end uint64
}

// Bounds of what is read of a file, which anybody may have made.
const (
	mostSections = 4 << 10 // and the same number of KiB of their names
	mostSymbols  = 1 << 20
	mostTable    = 32 << 20 // bytes of a table of symbols, of names, or of Go's functions
	mostFrames   = 16 << 20 // bytes of .eh_frame
	longestName  = 4 << 10
	// mostGoNames bounds the bytes of all names of Go's functions, which can share theirs.
	mostGoNames = 64 << 20
)

// readModule reads an ELF file of amd64. What cannot be read of it is missing in the module.
func readModule(f *os.File) (m *module, err error) {
	defer func() { // the readers of debug/elf, gosym and frame trust their input
		if r := recover(); r != nil {
			m, err = nil, fmt.Errorf("read %s: %v", f.Name(), r)
		}
	}()
	if err := checkSections(f); err != nil {
		return nil, err
	}
	file, err := elf.NewFile(f)
	if err != nil {
		return nil, err
	}
	m = &module{held: 4 << 10}
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
	for _, typ := range []elf.SectionType{elf.SHT_SYMTAB, elf.SHT_DYNSYM} {
		m.addSymbols(file, file.SectionByType(typ))
	}
	if m.isGo && file.SectionByType(elf.SHT_SYMTAB) == nil {
		m.addGoFunctions(file, table)
	}
	slices.SortStableFunc(m.symbols, func(a, b symbol) int { return cmp.Compare(a.start, b.start) })
	m.addFrames(file.Section(".eh_frame"))
	return m, nil
}

// checkSections refuses a file of another architecture, and one whose sections would take
// more memory than those of any program: package elf copies the name of each.
func checkSections(f io.ReaderAt) error {
	var head elf.Header64
	if err := binary.Read(io.NewSectionReader(f, 0, 64), binary.LittleEndian, &head); err != nil {
		return err
	}
	if string(head.Ident[:4]) != elf.ELFMAG || elf.Class(head.Ident[elf.EI_CLASS]) != elf.ELFCLASS64 ||
		elf.Data(head.Ident[elf.EI_DATA]) != elf.ELFDATA2LSB || elf.Machine(head.Machine) != elf.EM_X86_64 {
		return errors.New("not an ELF file of amd64")
	}
	if head.Shoff == 0 {
		return nil
	}
	if head.Shnum == 0 || head.Shnum > mostSections || head.Shstrndx >= head.Shnum || head.Phnum > mostSections {
		return errors.New("an ELF file with more sections than any program has")
	}
	var names elf.Section64
	at := int64(head.Shoff) + int64(head.Shstrndx)*int64(head.Shentsize)
	if err := binary.Read(io.NewSectionReader(f, at, 64), binary.LittleEndian, &names); err != nil {
		return err
	}
	if names.Size*uint64(head.Shnum) > mostSections<<10 {
		return errors.New("an ELF file with longer names of sections than any program has")
	}
	return nil
}

// data reads a section, if it is not too large, nor compressed.
func (m *module) data(s *elf.Section, most uint64) []byte {
	if s == nil || s.Type == elf.SHT_NOBITS || s.Flags&elf.SHF_COMPRESSED != 0 || s.Size > most {
		return nil
	}
	b, err := s.Data()
	if err != nil {
		return nil
	}
	m.held += len(b)
	return b
}

func buildID(file *elf.File) string {
	b := new(module).data(file.Section(".note.gnu.build-id"), 1<<10)
	// namesz, descsz, type, "GNU\0", and the id (elf(5))
	if len(b) < 16 {
		return ""
	}
	if size := binary.LittleEndian.Uint32(b[4:]); uint64(size) <= uint64(len(b)-16) {
		return hex.EncodeToString(b[16 : 16+size])
	}
	return ""
}

// addSymbols adds the functions of a table of symbols (elf(5)).
func (m *module) addSymbols(file *elf.File, s *elf.Section) {
	const size = 24 // elf.Sym64
	if s == nil || s.Link == 0 || int(s.Link) >= len(file.Sections) {
		return
	}
	names, table := m.data(file.Sections[s.Link], mostTable), m.data(s, mostTable)
	if names == nil {
		return
	}
	for ; len(table) >= size && len(m.symbols) < mostSymbols; table = table[size:] {
		le := binary.LittleEndian
		typ, section := elf.ST_TYPE(table[4]), elf.SectionIndex(le.Uint16(table[6:]))
		start, length := le.Uint64(table[8:]), le.Uint64(table[16:])
		if (typ != elf.STT_FUNC && typ != elf.STT_GNU_IFUNC) || section == elf.SHN_UNDEF || length == 0 {
			continue
		}
		m.symbols = append(m.symbols, symbol{start, start + length, names, le.Uint32(table)})
	}
	m.held += len(m.symbols) * int(unsafe.Sizeof(symbol{}))
}

// name is "" if the table has none there.
func (s *symbol) name() string {
	if uint64(s.at) >= uint64(len(s.table)) {
		return ""
	}
	b := s.table[s.at:]
	b = b[:min(len(b), longestName)]
	if end := bytes.IndexByte(b, 0); end >= 0 {
		return string(b[:end])
	}
	return ""
}

// addGoFunctions adds those of a Go program without symbols. Its table has them by their
// distance from the start of Go's code, which may not be the start of the section. Where that
// is, the program says (runtime.moduledata, since 1.26), or the table itself (from 1.18 on).
func (m *module) addGoFunctions(file *elf.File, section *elf.Section) {
	b := m.data(section, mostTable)
	if !goNamesFit(b) {
		return
	}
	text := file.Section(".text")
	start, known := goModule(file, section.Addr, text)
	if !known {
		start = binary.LittleEndian.Uint64(b[24:]) // runtime.pcHeader.textStart
		known = start != 0
	}
	if text != nil && !known {
		start = text.Addr
	}
	t, err := gosym.NewTable(nil, gosym.NewLineTable(b, start))
	if err != nil {
		return
	}
	// The linker of Go starts a program there. That of C does not: then it is not known.
	if first := t.PCToFunc(file.Entry); !known && (first == nil || first.Name != "_rt0_amd64_linux") {
		return
	}
	for _, f := range t.Funcs {
		m.symbols = append(m.symbols, symbol{f.Entry, f.End, append([]byte(f.Name), 0), 0})
		m.held += len(f.Name)
	}
	m.held += len(m.symbols) * int(unsafe.Sizeof(symbol{}))
}

// goNamesFit reports whether this is a table of functions, as Go has it since 1.18
// (runtime.pcHeader), whose names do not take too much memory: package gosym copies each.
func goNamesFit(b []byte) bool {
	const header, go118, go120 = 72, 0xfffffff0, 0xfffffff1
	if len(b) < header {
		return false
	}
	le := binary.LittleEndian
	if magic := le.Uint32(b); magic != go118 && magic != go120 {
		return false
	}
	functions, from, to := le.Uint64(b[8:]), le.Uint64(b[32:]), le.Uint64(b[40:])
	if from > to || to > uint64(len(b)) || functions > mostSymbols {
		return false
	}
	longest := 0
	for names := b[from:to]; len(names) > 0; {
		n := bytes.IndexByte(names, 0)
		if n < 0 {
			n = len(names) - 1
		}
		longest = max(longest, n)
		names = names[n+1:]
	}
	// Names that do not share bytes take what the table has.
	return longest <= longestName && (functions*uint64(longest) <= mostGoNames || functions*uint64(longest) <= 64*(to-from))
}

// goModule reads where Go's code starts. table: the address that is written there first.
func goModule(file *elf.File, table uint64, code *elf.Section) (start uint64, ok bool) {
	b := new(module).data(file.Section(".go.module"), 1<<16)
	const minpc, text, etext = 160, 176, 184 // of runtime.moduledata
	le := binary.LittleEndian
	if len(b) < etext+8 || le.Uint64(b) != table || code == nil {
		return 0, false
	}
	start, end, first := le.Uint64(b[text:]), le.Uint64(b[etext:]), le.Uint64(b[minpc:])
	if start < code.Addr || end > code.Addr+code.Size || first < start || first >= end {
		return 0, false
	}
	return start, true
}

// addFrames adds nothing if the section cannot be read.
func (m *module) addFrames(s *elf.Section) {
	defer func() {
		if recover() != nil {
			m.frames = nil
		}
	}()
	b := m.data(s, mostFrames)
	if b == nil {
		return
	}
	all, err := frame.Parse(b, binary.LittleEndian, 0, 8, s.Addr)
	if err != nil {
		return
	}
	m.frames = frame.FrameDescriptionEntries{}.Append(all) // sorts it
	m.held += len(m.frames) * 128
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
	for looked := 0; i > 0 && looked < mostAliases; looked++ {
		i--
		s := &m.symbols[i]
		if ok && s.start != best.start {
			break
		}
		if addr >= s.end {
			continue
		}
		if name := s.name(); name != "" && (!ok || plainer(name, best.name)) {
			best, ok = function{name, s.start, s.end}, true
		}
	}
	return best, ok
}

// mostAliases is how many symbols before an address are looked at: names of one function, and
// functions that another one has in it.
const mostAliases = 64

func plainer(a, b string) bool {
	underscores := func(s string) int { return len(s) - len(strings.TrimLeft(s, "_")) }
	return cmp.Or(cmp.Compare(underscores(a), underscores(b)), cmp.Compare(len(a), len(b)), strings.Compare(a, b)) < 0
}
