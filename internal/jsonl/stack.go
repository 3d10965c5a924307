package jsonl

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"finwait/tracer"

	"github.com/rs/zerolog"
)

// appendStack appends the fields that were asked for.
func appendStack(b []byte, st *tracer.Stack) []byte {
	if st == nil {
		return b
	}
	if st.Of&tracer.StacksKernel != 0 {
		b = appendKernelFrames(append(b, `,"kernel_stack":`...), st.Kernel)
	}
	if st.Of&tracer.StacksUser != 0 {
		b = appendUserFrames(append(b, `,"user_stack":`...), st.User)
		b = appendOwn(append(b, `,"user_stack_truncated":`...), st, strconv.AppendBool(nil, st.UserTruncated))
		b = appendOwn(append(b, `,"user_stack_pid":`...), st, strconv.AppendUint(nil, uint64(st.PID), 10))
	}
	return b
}

// stack adds the same fields to an event.
func (w *Writer) stack(e *zerolog.Event, st *tracer.Stack) {
	if st == nil {
		return
	}
	if st.Of&tracer.StacksKernel != 0 {
		e.RawJSON("kernel_stack", appendKernelFrames(nil, st.Kernel))
	}
	if st.Of&tracer.StacksUser != 0 {
		e.RawJSON("user_stack", appendUserFrames(nil, st.User))
		e.RawJSON("user_stack_truncated", appendOwn(nil, st, strconv.AppendBool(nil, st.UserTruncated)))
		e.RawJSON("user_stack_pid", appendOwn(nil, st, strconv.AppendUint(nil, uint64(st.PID), 10)))
	}
}

func appendKernelFrames(b []byte, frames []tracer.KernelFrame) []byte {
	for i := range frames {
		b = appendString(append(b, separator(i)), []byte(frames[i].String()))
	}
	return endList(b, len(frames))
}

func appendUserFrames(b []byte, frames []tracer.UserFrame) []byte {
	for i := range frames {
		f := &frames[i]
		b = appendKnown(append(append(b, separator(i)), `{"module":`...), f.Module)
		b = appendKnown(append(b, `,"build_id":`...), f.BuildID)
		b = appendKnown(append(b, `,"symbol":`...), f.Symbol)
		b = append(b, `,"offset":`...)
		if f.Symbol == "" && f.Offset == 0 {
			b = append(b, null...)
		} else {
			b = strconv.AppendUint(b, f.Offset, 10)
		}
		b = append(strconv.AppendUint(append(b, `,"address":"0x`...), f.Address, 16), `"}`...)
	}
	return endList(b, len(frames))
}

// appendOwn appends what is known of a stack; null if there is none.
func appendOwn(b []byte, st *tracer.Stack, value []byte) []byte {
	if len(st.User) == 0 {
		return append(b, null...)
	}
	return append(b, value...)
}

func separator(i int) byte {
	if i == 0 {
		return '['
	}
	return ','
}

// endList ends a list of n; null if it has nothing.
func endList(b []byte, n int) []byte {
	if n == 0 {
		return append(b, null...)
	}
	return append(b, ']')
}

func appendKnown(b []byte, s string) []byte {
	if s == "" {
		return append(b, null...)
	}
	return appendString(b, []byte(s))
}

// stack is what appendStack writes. Nobody may have asked for it.
type stack struct {
	Kernel    nullable[[]tracer.KernelFrame] `json:"kernel_stack"`
	User      nullable[[]userFrame]          `json:"user_stack"`
	Truncated nullable[bool]                 `json:"user_stack_truncated"`
	PID       nullable[uint32]               `json:"user_stack_pid"`
}

type userFrame struct {
	Module  nullable[string] `json:"module"`
	BuildID nullable[string] `json:"build_id"`
	Symbol  nullable[string] `json:"symbol"`
	Offset  nullable[uint64] `json:"offset"`
	Address must[address]    `json:"address"`
}

// An address is written in hex.
type address uint64

func (a *address) UnmarshalText(text []byte) error {
	digits, ok := strings.CutPrefix(string(text), "0x")
	n, err := strconv.ParseUint(digits, 16, 64)
	if !ok || err != nil {
		return fmt.Errorf("%q is no address", text)
	}
	*a = address(n)
	return nil
}

// tracer gives nil if nobody asked for stacks.
func (in *stack) tracer() (*tracer.Stack, error) {
	var st tracer.Stack
	if in.Kernel.set {
		st.Of |= tracer.StacksKernel
	}
	if in.User.set {
		st.Of |= tracer.StacksUser
	}
	none := in.User.value == nil
	if in.User.set != in.Truncated.set || in.User.set != in.PID.set || none != (in.Truncated.value == nil) || none != (in.PID.value == nil) {
		return nil, errors.New("user_stack does not go with user_stack_truncated and user_stack_pid")
	}
	if st.Of == tracer.StacksNone {
		return nil, nil
	}
	if in.Kernel.value != nil {
		if st.Kernel = *in.Kernel.value; len(st.Kernel) == 0 {
			return nil, errors.New("a stack that is not known is null")
		}
	}
	if in.User.value == nil {
		return &st, nil
	}
	if len(*in.User.value) == 0 {
		return nil, errors.New("a stack that is not known is null")
	}
	st.UserTruncated, st.PID = *in.Truncated.value, *in.PID.value
	for _, f := range *in.User.value {
		if err := missing([]field{{"module", &f.Module}, {"build_id", &f.BuildID}, {"symbol", &f.Symbol},
			{"offset", &f.Offset}, {"address", &f.Address}}); err != nil {
			return nil, fmt.Errorf("a frame has %w", err)
		}
		frame := tracer.UserFrame{Address: uint64(f.Address.value)}
		for _, s := range []struct {
			to   *string
			from *string
		}{{&frame.Module, f.Module.value}, {&frame.BuildID, f.BuildID.value}, {&frame.Symbol, f.Symbol.value}} {
			if s.from == nil {
				continue
			}
			if *s.to = *s.from; *s.to == "" {
				return nil, errors.New("what is not known of a frame is null")
			}
		}
		if f.Offset.value != nil {
			frame.Offset = *f.Offset.value
		}
		if (f.Offset.value == nil) != (frame.Symbol == "" && frame.Offset == 0) {
			return nil, errors.New("offset does not go with symbol")
		}
		st.User = append(st.User, frame)
	}
	return &st, nil
}

// UnmarshalJSON takes null for what no frame is.
func (f *userFrame) UnmarshalJSON(b []byte) error {
	type plain userFrame
	if string(b) == "null" {
		return errors.New("a frame is null")
	}
	return json.Unmarshal(b, (*plain)(f))
}
