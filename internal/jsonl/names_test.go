package jsonl

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// harmless: nothing in it but what is printed, and it is UTF-8.
func harmless(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

var hostileNames = []struct{ name, json string }{
	{"nginx", "nginx"},
	{"a \"b\" c\\d", "a \"b\" c\\d"},
	{"\x1b[2J\x07", "\x1b[2J\x07"},
	{"a\n\r\tb\x7f", "a\n\r\tb\x7f"},
	{"\u009b31m\u0085", "\u009b31m\u0085"}, // C1: CSI and NEL
	{"\u202ecod.exe\u2066", "\u202ecod.exe\u2066"},
	{"\u2028\u200b\ufeff", "\u2028\u200b\ufeff"},
	{"\U000e0041", "\U000e0041"},
	{"ünï 名", "ünï 名"},
	{"\ufffd", "\ufffd"},
	{"\xff\xfe\x9b", "\ufffd\ufffd\ufffd"},
	{"cut \xe5\x90", "cut \ufffd\ufffd"},
	{"\xed\xa0\x80", "\ufffd\ufffd\ufffd"}, // a surrogate
}

func TestHostileNames(t *testing.T) {
	for _, c := range hostileNames {
		var out bytes.Buffer
		Name(NewWriter(&out).Event(), "name", []byte(c.name)).Send()
		line := strings.TrimSuffix(out.String(), "\n")
		var got struct {
			Name string
			Hex  *string `json:"comm_hex"`
		}
		if err := json.Unmarshal([]byte(line), &got); err != nil || got.Name != c.json || !harmless(line) {
			t.Errorf("%q as JSON: %q, %q, %v, want %q", c.name, line, got.Name, err, c.json)
		}
		if (got.Hex == nil) != utf8.ValidString(c.name) {
			t.Errorf("%q: comm_hex in %s", c.name, line)
		}
	}
}

func FuzzNames(f *testing.F) {
	for _, c := range hostileNames {
		f.Add([]byte(c.name))
	}
	f.Fuzz(func(t *testing.T, name []byte) {
		b := appendString(nil, name)
		var got string
		if err := json.Unmarshal(b, &got); err != nil || !harmless(string(b)) {
			t.Fatalf("%q as JSON: %q: %v", name, b, err)
		}
		var want bytes.Buffer
		for _, r := range string(name) { // what is invalid becomes U+FFFD
			want.WriteRune(r)
		}
		if got != want.String() {
			t.Errorf("%q came out as %q", name, got)
		}
	})
}
