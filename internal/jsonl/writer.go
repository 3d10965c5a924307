// Package jsonl writes one JSON object a line, and reads transitions, raw events,
// summaries and totals back into equal values. The README describes the fields.
package jsonl

import (
	"io"
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"

	"finwait/internal/label"
	"finwait/tracer"

	"github.com/rs/zerolog"
)

// TimeFormat is how times are written: UTC, with nanoseconds.
const TimeFormat = "2006-01-02T15:04:05.000000000Z07:00"

var null = []byte("null")

// A Writer writes objects. It is a sink of transitions and raw events; other
// objects begin with Event. After an error of the writer below nothing more is
// written, and Err gives that error.
type Writer struct {
	Fields Fields      // of transitions that have metrics
	Names  label.Names // of transitions and connections; nil: nobody asks for names

	tally   Tally // of the transitions that were written
	raw     bool  // raw events were written
	w       *firstError
	log     zerolog.Logger
	scratch []byte
	line    []byte

	second int64  // Unix time
	prefix []byte // of TimeFormat for that second; empty: of none yet
}

// NewWriter writes to w, which should be buffered.
func NewWriter(w io.Writer) *Writer {
	first := &firstError{w: w}
	return &Writer{
		w: first, log: zerolog.New(first),
		scratch: make([]byte, 0, 64), line: make([]byte, 0, 1024), prefix: make([]byte, 0, 32),
	}
}

// A firstError keeps the first error of a writer and drops what comes after it:
// zerolog would print the error to the process' stderr and go on.
type firstError struct {
	w   io.Writer
	err error
}

func (f *firstError) Write(p []byte) (int, error) {
	if f.err == nil {
		_, f.err = f.w.Write(p)
	}
	return len(p), nil
}

// Tally is that of the transitions that were written.
func (w *Writer) Tally() *Tally { return &w.tally }

// Err is the first error of the writer below.
func (w *Writer) Err() error { return w.w.err }

// Event begins an object; its Send writes it.
func (w *Writer) Event() *zerolog.Event { return w.log.Log() }

// appendTime appends t, which is in UTC, in TimeFormat. Most times are within the
// second of the one before, whose beginning is kept.
func (w *Writer) appendTime(b []byte, t time.Time) []byte {
	if sec := t.Unix(); sec != w.second || len(w.prefix) == 0 {
		w.second, w.prefix = sec, t.AppendFormat(w.prefix[:0], "2006-01-02T15:04:05")
	}
	b = append(append(b, w.prefix...), ".000000000Z"...)
	for ns, i := t.Nanosecond(), len(b)-2; ns > 0; ns, i = ns/10, i-1 {
		b[i] += byte(ns % 10)
	}
	return b
}

func family(local netip.AddrPort) string {
	if local.Addr().Is4() {
		return "ipv4"
	}
	return "ipv6"
}

// Endpoints adds the fields family, local_addr, local_port, remote_addr and remote_port.
// local_port is null while the kernel has not chosen it. A link-local address has
// scope_id and interface, too.
func (w *Writer) Endpoints(e *zerolog.Event, local, remote netip.AddrPort, scope tracer.Scope) {
	e.Str("family", family(local))
	w.scratch = local.Addr().AppendTo(w.scratch[:0])
	Known(e.Bytes("local_addr", w.scratch), "local_port", local.Port() != 0, uint64(local.Port()))
	w.scratch = remote.Addr().AppendTo(w.scratch[:0])
	e.Bytes("remote_addr", w.scratch).Uint16("remote_port", remote.Port())
	if scope.ID == 0 {
		return
	}
	e.Uint32("scope_id", scope.ID)
	if scope.Interface == "" {
		Null(e, "interface")
	} else {
		e.RawJSON("interface", appendString(make([]byte, 0, 32), []byte(scope.Interface)))
	}
}

// Process adds an object with pid and comm; null if the process is not known.
func (w *Writer) Process(e *zerolog.Event, key string, p *tracer.Process) {
	if p.PID == 0 {
		e.RawJSON(key, null)
		return
	}
	w.line = append(appendProcess(w.line[:0], p), '}')
	e.RawJSON(key, w.line)
}

// Owner adds the owner of a connection; null if it is not known.
func (w *Writer) Owner(e *zerolog.Event, key string, o *tracer.Owner) {
	w.line = appendOwner(w.line[:0], o)
	e.RawJSON(key, w.line)
}

func appendOwner(b []byte, o *tracer.Owner) []byte {
	if o.PID == 0 {
		return append(b, null...)
	}
	b = appendProcess(b, &o.Process)
	b = strconv.AppendUint(append(b, `,"uid":`...), uint64(o.UID), 10)
	b = strconv.AppendUint(append(b, `,"cgroup_id":`...), o.CgroupID, 10)
	return append(strconv.AppendBool(append(b, `,"holder":`...), o.Holder), '}')
}

// Holder adds the owner of a socket who is known as its holder only.
func (w *Writer) Holder(e *zerolog.Event, key string, p *tracer.Process) {
	if p.PID == 0 {
		e.RawJSON(key, null)
		return
	}
	w.line = append(appendProcess(w.line[:0], p), `,"holder":true}`...)
	e.RawJSON(key, w.line)
}

// appendProcess leaves the object open.
func appendProcess(b []byte, p *tracer.Process) []byte {
	b = strconv.AppendUint(append(b, `{"pid":`...), uint64(p.PID), 10)
	return appendComm(append(b, `,"comm":`...), p.Comm.Bytes())
}

// Known adds a number; null if it is not known.
func Known(e *zerolog.Event, key string, known bool, n uint64) *zerolog.Event {
	if known {
		return e.Uint64(key, n)
	}
	return Null(e, key)
}

// Null adds a field whose value is not known.
func Null(e *zerolog.Event, key string) *zerolog.Event { return e.RawJSON(key, null) }

// Name adds a name, and, if it is not UTF-8, comm_hex with its bytes.
func Name(e *zerolog.Event, key string, name []byte) *zerolog.Event {
	e.RawJSON(key, appendString(make([]byte, 0, 64), name))
	if !utf8.Valid(name) {
		e.Hex("comm_hex", name)
	}
	return e
}

// Word adds a word; null if it is "".
func Word(e *zerolog.Event, key, value string) {
	if value == "" {
		Null(e, key)
	} else {
		e.Str(key, value)
	}
}

// Lost adds an object with a count for each cause of loss.
func Lost(e *zerolog.Event, lost tracer.Lost) *zerolog.Event {
	causes := zerolog.Dict()
	for cause, n := range lost.All() {
		causes.Uint64(cause.String(), n)
	}
	return e.Dict("lost", causes)
}
