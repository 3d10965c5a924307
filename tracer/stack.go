package tracer

import (
	"fmt"
	"strconv"
	"strings"
)

// Stacks says which stacks come with transitions.
type Stacks uint8

// The stacks that can be asked for.
const (
	StacksNone   Stacks = 0
	StacksKernel Stacks = 1
	StacksUser   Stacks = 2
	StacksBoth   Stacks = StacksKernel | StacksUser
)

// A Stack is from where a transition was made: from where in the kernel, and from where in
// the program, if that is known. Innermost frames come first. It is valid as long as the
// transition.
type Stack struct {
	Of Stacks // which were asked for

	// Kernel is nil if there is none. A transition that is told later than it happened has
	// none: one that waited until its ports were known, and a FIN whose time is computed.
	Kernel []KernelFrame

	// User is nil unless the transition was made by a call of the process, on its own
	// thread. A segment that has arrived makes the others: whatever program it interrupts
	// has nothing to do with it. A process that is ending has no stack any more.
	User []UserFrame

	PID uint32 // whose User is, in the initial pid namespace; without User 0

	// UserTruncated: User ends early. The copy ends, or it is not known who the caller is.
	UserTruncated bool
}

// A KernelFrame is a place in the kernel.
type KernelFrame struct {
	Symbol  string // function; "": not known
	Offset  uint64 // into it
	Address uint64 // without a Symbol; otherwise 0
}

// String gives "tcp_close+0x1a", or the address in hex where the function is not known.
func (f KernelFrame) String() string {
	if f.Symbol == "" {
		return "0x" + strconv.FormatUint(f.Address, 16)
	}
	return f.Symbol + "+0x" + strconv.FormatUint(f.Offset, 16)
}

// UnmarshalText takes what String gives.
func (f *KernelFrame) UnmarshalText(text []byte) (err error) {
	var out KernelFrame
	symbol, digits, named := strings.Cut(string(text), "+0x")
	if named {
		out.Symbol = symbol
		out.Offset, err = strconv.ParseUint(digits, 16, 64)
	} else {
		digits, _ = strings.CutPrefix(symbol, "0x")
		out.Address, err = strconv.ParseUint(digits, 16, 64)
	}
	if err != nil || out.String() != string(text) {
		return fmt.Errorf("%q is no place in the kernel, such as tcp_close+0x1a", text)
	}
	*f = out
	return nil
}

// A UserFrame is a place in a program.
type UserFrame struct {
	Address uint64
	Module  string // path of the file, as the process sees it; "": the address is in no file, or that is not known
	BuildID string // of the file, in hex; "": not known, or it has none
	Symbol  string // function; "": not known

	// Offset is how far into the function the address is. Without a Symbol it is the
	// address in the file's own numbering, which addr2line(1) takes; 0: not known.
	Offset uint64
}
