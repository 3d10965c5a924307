// Package markdown writes the documents that are made from the code: it wraps their text, and compares.
package markdown

import (
	"strings"
	"unicode/utf8"
)

// width is the longest line of a document, tables aside.
const width = 100

// Paragraph wraps a text and ends it with an empty line. Line breaks in it count as spaces.
func Paragraph(text string) string { return wrap("", text) + "\n" }

// Item wraps an item of a list.
func Item(text string) string { return wrap("- ", text) }

// wrap begins the first line with first, and indents the others as far.
func wrap(first, text string) string {
	var b strings.Builder
	line := first
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
			line += word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width:
			b.WriteString(line + "\n")
			line = strings.Repeat(" ", len(first)) + word
		default:
			line += " " + word
		}
	}
	return b.String() + line + "\n"
}
