package jsonl

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"finwait/tracer"
)

// A must is a field that is always there.
type must[T any] struct {
	value T
	set   bool
}

func (m *must[T]) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil // not set
	}
	m.set = true
	return json.Unmarshal(b, &m.value)
}

func (m *must[T]) there() bool { return m.set }

// A nullable is a field that is always there too, and null where the value is not known.
type nullable[T any] struct {
	value *T
	set   bool
}

func (n *nullable[T]) UnmarshalJSON(b []byte) error {
	n.set = true
	return json.Unmarshal(b, &n.value)
}

func (n *nullable[T]) there() bool { return n.set }

// A state is read in the one spelling in which it is written.
type state struct{ tracer.State }

func (s *state) UnmarshalText(word []byte) error {
	if err := s.State.UnmarshalText(word); err != nil {
		return err
	}
	if s.String() != string(word) {
		return fmt.Errorf("%q is written %v", word, s.State)
	}
	return nil
}

// An addr is an address without a zone, which the kernel's tuples do not have.
type addr struct{ netip.Addr }

func (a *addr) UnmarshalText(text []byte) error {
	if err := a.Addr.UnmarshalText(text); err != nil {
		return err
	}
	if !a.IsValid() || a.Zone() != "" {
		return fmt.Errorf("%q is no address", text)
	}
	return nil
}

// A field is the name of a must or a nullable.
type field struct {
	name  string
	value interface{ there() bool }
}

// missing is an error that names the first field that is not there.
func missing(fields []field) error {
	for _, f := range fields {
		if !f.value.there() {
			return fmt.Errorf("no %s", f.name)
		}
	}
	return nil
}

// ends is what transitions, segments and raw events have.
type ends struct {
	Time       must[time.Time]  `json:"time"`
	Ktime      must[int64]      `json:"ktime_ns"`
	NetNS      must[uint32]     `json:"netns"`
	NSCookie   must[uint64]     `json:"netns_cookie"`
	LocalAddr  must[addr]       `json:"local_addr"`
	LocalPort  nullable[uint16] `json:"local_port"`
	RemoteAddr must[addr]       `json:"remote_addr"`
	RemotePort must[uint16]     `json:"remote_port"`
	ScopeID    *uint32          `json:"scope_id"`
	Interface  *string          `json:"interface"`
}

func (c *ends) fields() []field {
	return []field{
		{"time", &c.Time}, {"ktime_ns", &c.Ktime}, {"netns", &c.NetNS}, {"netns_cookie", &c.NSCookie},
		{"local_addr", &c.LocalAddr}, {"local_port", &c.LocalPort}, {"remote_addr", &c.RemoteAddr}, {"remote_port", &c.RemotePort},
	}
}

// common is what transitions and raw events have beside.
type common struct {
	ends
	Cookie must[uint64] `json:"cookie"`
	From   must[state]  `json:"from"`
}

func (c *common) fields() []field {
	return append(c.ends.fields(), field{"cookie", &c.Cookie}, field{"from", &c.From})
}

// local has port 0 while the kernel has not chosen one. That is null, and was once
// written as 0.
func (c *ends) local() netip.AddrPort {
	var port uint16
	if c.LocalPort.value != nil {
		port = *c.LocalPort.value
	}
	return netip.AddrPortFrom(c.LocalAddr.value.Addr, port)
}

func (c *ends) scope() (s tracer.Scope, err error) {
	if c.Interface != nil {
		s.Interface = *c.Interface
	}
	if c.ScopeID != nil {
		s.ID = *c.ScopeID
	}
	if c.ScopeID != nil && s.ID == 0 || s.ID == 0 && s.Interface != "" || c.Interface != nil && s.Interface == "" {
		return s, fmt.Errorf("interface %q does not go with scope_id %d", s.Interface, s.ID)
	}
	return s, nil
}

func (c *ends) remote() netip.AddrPort {
	return netip.AddrPortFrom(c.RemoteAddr.value.Addr, c.RemotePort.value)
}

type process struct {
	PID  must[uint32] `json:"pid"`
	Comm must[string] `json:"comm"`
	Hex  *string      `json:"comm_hex"`
}

// tracer gives the zero value for null.
func (p *process) tracer() (out tracer.Process, err error) {
	if p == nil {
		return out, nil
	}
	if err := missing([]field{{"pid", &p.PID}, {"comm", &p.Comm}}); err != nil {
		return out, fmt.Errorf("a process has %w", err)
	}
	name := []byte(p.Comm.value)
	if p.Hex != nil {
		if name, err = hex.DecodeString(*p.Hex); err != nil {
			return out, fmt.Errorf("comm_hex: %w", err)
		}
		var shown string // as comm
		if err := json.Unmarshal(appendString(nil, name), &shown); err != nil || shown != p.Comm.value || utf8.Valid(name) {
			return out, fmt.Errorf("comm_hex %s does not belong to comm %q", *p.Hex, p.Comm.value)
		}
	}
	switch {
	case p.PID.value == 0:
		return out, errors.New("a process has pid 0")
	case len(name) >= len(out.Comm) || strings.ContainsRune(string(name), 0):
		return out, fmt.Errorf("comm %q: the kernel keeps up to %d bytes, none of them 0", name, len(out.Comm)-1)
	}
	out.PID = p.PID.value
	copy(out.Comm[:], name)
	return out, nil
}
