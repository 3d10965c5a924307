package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// harmless: nothing in it but what is printed, and it is UTF-8.
func harmless(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// An error can name a file that a stranger has named.
func TestHostileLog(t *testing.T) {
	var out bytes.Buffer
	logger(&out).Warn().Err(errors.New("open \x1b[2J\u009b")).Str("file", "\u202e\n").Msg("read \x1b]0;x\a\nERR forged")
	if line := strings.TrimSuffix(out.String(), "\n"); !harmless(line) {
		t.Errorf("%q", line)
	}
}
