package markdown

import (
	"strings"
	"testing"
)

func TestWrap(t *testing.T) {
	for text, want := range map[string]string{
		"one\n  two": "one two\n\n",
		strings.Repeat("x", 50) + " " + strings.Repeat("y", 49): strings.Repeat("x", 50) + " " + strings.Repeat("y", 49) + "\n\n",
		strings.Repeat("x", 50) + " " + strings.Repeat("µ", 50): strings.Repeat("x", 50) + "\n" + strings.Repeat("µ", 50) + "\n\n",
		strings.Repeat("x", 120) + " y":                         strings.Repeat("x", 120) + "\ny\n\n",
	} {
		if got := Paragraph(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got, want := Item(strings.Repeat("x", 98)+" y"), "- "+strings.Repeat("x", 98)+"\n  y\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
