package text

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"
	"unicode"

	"golang.org/x/text/width"
)

// Cells is how many columns of a terminal words take. A wide character, such as those of Chinese,
// takes two.
func Cells(words string) (n int) {
	for _, r := range words {
		n += cells(r)
	}
	return n
}

func cells(r rune) int {
	switch {
	case unicode.In(r, unicode.Mn, unicode.Me): // it is written over the character before it
		return 0
	case wide(r):
		return 2
	}
	return 1
}

func wide(r rune) bool {
	kind := width.LookupRune(r).Kind()
	return kind == width.EastAsianWide || kind == width.EastAsianFullwidth
}

// Wrap writes words in lines of at most so many columns. A longer word has a line of its own. A line
// may also end beside a wide character, because Chinese has no spaces; but not before a punctuation
// mark, nor after an opening bracket.
func Wrap(w *bufio.Writer, words string, columns int) {
	n := 0
	for word := range strings.FieldsSeq(words) {
		for i, part := range parts(word) {
			k, space := Cells(part), 0
			if i == 0 && n > 0 {
				space = 1
			}
			switch {
			case n > 0 && n+space+k > columns:
				w.WriteByte('\n')
				n = 0
			case space > 0:
				w.WriteByte(' ')
				n++
			}
			w.WriteString(part)
			n += k
		}
	}
	w.WriteByte('\n')
}

// parts are the pieces of a word between which a line may end.
func parts(word string) (all []string) {
	start, last := 0, rune(0)
	for i, r := range word {
		if i > 0 && (wide(last) || wide(r)) && cells(r) > 0 &&
			!unicode.In(r, unicode.Pe, unicode.Pf, unicode.Po) && !unicode.In(last, unicode.Ps, unicode.Pi) {
			all, start = append(all, word[start:i]), i
		}
		last = r
	}
	return append(all, word[start:])
}

// Indent writes words in lines of at most so many columns, each after indent spaces; in the first
// line head stands there.
func Indent(w *bufio.Writer, head string, indent, columns int, words string) {
	var b bytes.Buffer
	lines := bufio.NewWriter(&b)
	Wrap(lines, words, columns-indent)
	lines.Flush() // a bytes.Buffer does not fail
	for line := range strings.Lines(b.String()) {
		fmt.Fprintf(w, "%s%s%s", head, strings.Repeat(" ", max(0, indent-Cells(head))), line)
		head = ""
	}
}
