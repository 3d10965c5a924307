package userstack

import (
	"bytes"
	"slices"
	"strings"

	"github.com/go-delve/delve/pkg/dwarf/frame"
)

// A place is what a module says of one of its addresses.
type place struct {
	function  function // empty: not known
	row       *row     // how to go up from there; nil: no table says
	signal    bool     // the kernel's frame, around a signal handler
	isGo      bool     // by frame pointers, as it is a function of Go
	outermost bool     // nobody has called it
}

// A row says where the caller's registers are, from one place in a function on (DWARF 5, 6.4).
type row struct {
	base     uint8 // the register from which the frame is reckoned
	distance int64 // from it to the canonical frame address
	rules    [registers]rule
}

type rule struct {
	kind   kind
	offset int64
}

type kind uint8

const (
	lost     kind = iota // nothing is known of the register
	same                 // it is as it was
	saved                // it is in memory, at this offset from the canonical frame address
	distance             // it is the canonical frame address and this offset
	moved                // it is in the register of this number
)

// mostPlaces bounds what is kept of a module. If there are more, all is forgotten.
const mostPlaces = 1 << 14

// place looks an address up, unless it has done so before.
func (m *module) place(addr uint64) *place {
	if p := m.places[addr]; p != nil {
		return p
	}
	p := new(place)
	p.function, _ = m.function(addr)
	if fde, err := m.frames.FDEForPC(addr); err == nil {
		if p.signal = slices.Contains([]byte(fde.CIE.Augmentation), 'S'); !p.signal {
			p.row, p.outermost = rowOf(fde, addr)
		}
	} else if p.isGo = m.isGo && p.function.name != ""; p.isGo {
		p.outermost = strings.TrimSuffix(p.function.name, ".abi0") == "runtime.goexit"
	}
	if m.places == nil || len(m.places) >= mostPlaces {
		m.places = make(map[uint64]*place)
	}
	m.places[addr] = p
	return p
}

// rowOf runs the table of a function up to an address. It gives nil if that cannot be done.
func rowOf(fde *frame.FrameDescriptionEntry, addr uint64) (r *row, outermost bool) {
	defer func() { // package frame trusts its input
		if recover() != nil {
			r, outermost = nil, false
		}
	}()
	if !tableFits(fde) {
		return nil, false
	}
	at, err := fde.EstablishFrame(addr)
	if err != nil || at.CFA.Rule != frame.RuleCFA || at.CFA.Reg >= registers {
		return nil, false
	}
	r = &row{base: uint8(at.CFA.Reg), distance: at.CFA.Offset}
	for reg := range uint64(registers) {
		of, listed := at.Regs[reg]
		to := &r.rules[reg]
		switch {
		case reg == rip && listed && of.Rule == frame.RuleUndefined:
			return nil, true // there is no caller (DWARF 5, 6.4.4)
		case reg == rip && (!listed || of.Rule != frame.RuleOffset):
			return nil, false
		case reg == rsp && !listed:
			to.kind = distance
		case callerSaves(reg):
		// Package frame takes a restored register for undefined: it is as it was.
		case !listed, of.Rule == frame.RuleSameVal, of.Rule == frame.RuleUndefined:
			to.kind = same
		case of.Rule == frame.RuleOffset:
			*to = rule{saved, of.Offset}
		case of.Rule == frame.RuleValOffset:
			*to = rule{distance, of.Offset}
		case of.Rule == frame.RuleRegister && of.Reg < registers:
			*to = rule{moved, int64(of.Reg)}
		}
	}
	return r, false
}

// tableFits reports whether a table can be run with little memory: DW_CFA_remember_state
// copies all rules. Of the programs that were looked at, the largest table has 2.5 KiB.
func tableFits(fde *frame.FrameDescriptionEntry) bool {
	const rememberState, most, mostCopies = 0x0a, 4 << 10, 1 << 18
	size := len(fde.Instructions) + len(fde.CIE.InitialInstructions)
	return size <= most && bytes.Count(fde.Instructions, []byte{rememberState})*size <= mostCopies
}

// callerSaves reports whether a function may change this register.
func callerSaves(reg uint64) bool {
	switch reg {
	case rbx, rbp, rsp, r12, r13, r14, r15, rip:
		return false
	}
	return true
}
