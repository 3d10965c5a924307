package sink

import (
	"strconv"

	"finwait/internal/text"
	"finwait/tracer"
)

// sideWidth is that of the first column of a stack, which stands below its transition.
const sideWidth = 6

// stack writes a line a frame, innermost first. of: the process that stands above.
func (s *Text) stack(st *tracer.Stack, of uint32) error {
	if st == nil {
		return nil
	}
	if st.Of&tracer.StacksKernel != 0 {
		if len(st.Kernel) == 0 {
			if err := s.frame("kernel", []byte("-")); err != nil {
				return err
			}
		}
		for i := range st.Kernel {
			if err := s.frame(side("kernel", i), []byte(st.Kernel[i].String())); err != nil {
				return err
			}
		}
	}
	if st.Of&tracer.StacksUser == 0 {
		return nil
	}
	if len(st.User) == 0 {
		return s.frame("user", []byte("-"))
	}
	first := 0
	if st.PID != of {
		first = -1
		if err := s.frame("user", strconv.AppendUint([]byte("of pid "), uint64(st.PID), 10)); err != nil {
			return err
		}
	}
	for i := range st.User {
		var buf [256]byte
		if err := s.frame(side("user", i-first), appendUser(buf[:0], &st.User[i])); err != nil {
			return err
		}
	}
	if st.UserTruncated {
		return s.frame("", []byte("... (truncated)"))
	}
	return nil
}

// side says whose frames follow, before the first of them.
func side(whose string, i int) string {
	if i == 0 {
		return whose
	}
	return ""
}

func (s *Text) frame(side string, what []byte) error {
	l := s.side
	l.Begin()
	l.Pad(s.times.Width() + 1)
	l.Cell(text.Dim, []byte(side), sideWidth)
	l.Cell("", what, 0)
	return l.End()
}

// appendUser writes "close+0x17 (/usr/lib/libc.so.6)". Without a function it writes the
// file, the file's own address and what else identifies the file.
func appendUser(b []byte, f *tracer.UserFrame) []byte {
	switch {
	case f.Symbol != "":
		b = append(text.AppendPrintable(b, f.Symbol), "+0x"...)
		b = strconv.AppendUint(b, f.Offset, 16)
		return append(text.AppendPrintable(append(b, " ("...), f.Module), ')')
	case f.Module != "" && f.Offset != 0:
		b = append(text.AppendPrintable(b, f.Module), "+0x"...)
		b = strconv.AppendUint(b, f.Offset, 16)
		if f.BuildID != "" {
			b = append(append(append(b, " (build id "...), f.BuildID...), ')')
		}
		return b
	}
	b = strconv.AppendUint(append(b, "0x"...), f.Address, 16)
	if f.Module != "" {
		b = append(text.AppendPrintable(append(b, " ("...), f.Module), ')')
	}
	return b
}
