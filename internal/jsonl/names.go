package jsonl

import (
	"encoding/hex"
	"fmt"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// appendString appends a name as a string of JSON. Names are untrusted: control
// characters, those of C1 included, and what changes the direction of writing are
// written as \u escapes. A byte that is not UTF-8 becomes U+FFFD.
func appendString(b, name []byte) []byte {
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

// appendComm appends the string, and, of a name that is not UTF-8, its bytes in
// hex as a field of their own: comm_hex.
func appendComm(b, comm []byte) []byte {
	b = appendString(b, comm)
	if !utf8.Valid(comm) {
		b = append(hex.AppendEncode(append(b, `,"comm_hex":"`...), comm), '"')
	}
	return b
}
