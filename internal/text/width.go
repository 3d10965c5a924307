package text

import (
	"io"
	"os"

	"golang.org/x/term"
)

// The columns that a text for people has where its width is not known, and at most.
const (
	usualColumns = 80
	mostColumns  = 100
)

// Prose is how wide a text for people may be on w: as wide as its terminal, but no wider
// than is good to read, or 80 columns if w is no terminal.
func Prose(w io.Writer) int {
	if wide := Width(w); wide > 0 {
		return min(wide, mostColumns)
	}
	return usualColumns
}

// Width is how many columns the terminal w has now; 0 if w is no terminal, or does not say.
func Width(w io.Writer) int {
	wide, _ := Size(w)
	return wide
}

// Size is that of the terminal that w is, in columns and lines; 0 and 0 if it is none.
func Size(w io.Writer) (wide, high int) {
	if wrapped, ok := w.(interface{ Unwrap() io.Writer }); ok {
		w = wrapped.Unwrap()
	}
	f, ok := w.(*os.File)
	if !ok {
		return 0, 0
	}
	wide, high, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0, 0
	}
	return wide, high
}
