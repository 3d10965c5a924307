package main

import (
	"fmt"
	"strconv"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"finwait/tracer"

	"github.com/rs/zerolog"
)

// Names of processes and cgroups are whatever strangers call them. No output
// passes on what a terminal obeys: control characters, those of C1 too, and what
// turns the direction of writing round. JSON has nothing that is not UTF-8.

// appendPrintable writes a name for people: \x1b, \n, \u202e, and \xff for a
// byte that is not UTF-8. Backslashes stay as they are.
func appendPrintable(b []byte, name string) []byte {
	for len(name) > 0 {
		r, n := utf8.DecodeRuneInString(name)
		switch {
		case r == utf8.RuneError && n == 1:
			b = fmt.Appendf(b, `\x%02x`, name[0])
		case unicode.IsPrint(r):
			b = append(b, name[:n]...)
		default:
			quoted := strconv.QuoteRune(r)
			b = append(b, quoted[1:len(quoted)-1]...)
		}
		name = name[n:]
	}
	return b
}

func appendName(b []byte, c *tracer.Comm) []byte { return appendPrintable(b, c.String()) }

// nameJSON adds a name: U+FFFD for a byte that is not UTF-8, and \u escapes.
func nameJSON(e *zerolog.Event, key string, name []byte) *zerolog.Event {
	return e.RawJSON(key, appendJSON(make([]byte, 0, 64), name))
}

// appendJSON appends it as a string of JSON.
func appendJSON(b, name []byte) []byte {
	b = append(b, '"')
	for len(name) > 0 {
		r, n := utf8.DecodeRune(name)
		name = name[n:]
		switch {
		case r < utf8.RuneSelf && r >= ' ' && r != '"' && r != '\\' && r != '\x7f':
			b = append(b, byte(r))
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case unicode.IsPrint(r):
			b = utf8.AppendRune(b, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			b = fmt.Appendf(b, `\u%04x\u%04x`, high, low)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
	}
	return append(b, '"')
}
