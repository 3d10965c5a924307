package main

import (
	"encoding"
	"fmt"
	"slices"
	"strings"

	"finwait/internal/text"
	"finwait/tracer"

	"github.com/rs/zerolog"
)

// parse reads the word of a value of one of the tracer's vocabularies.
func parse[T any, P interface {
	*T
	encoding.TextUnmarshaler
}](word string) (v T, err error) {
	err = P(&v).UnmarshalText([]byte(word))
	return v, err
}

// wordsOf are the words of a vocabulary, without "".
func wordsOf[T fmt.Stringer](values []T) (words []string) {
	for _, v := range values {
		if w := v.String(); w != "" {
			words = append(words, w)
		}
	}
	return words
}

// list writes them as people do: "auto, fentry or tracepoint".
func list[T fmt.Stringer](values []T) string {
	words := wordsOf(values)
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// losses says what losses mean for what was shown or counted, as done says. A filter
// is asked before the ring buffer: what that has no room for matches. Any other loss
// can be of a connection that does not.
func losses(lost tracer.Lost, seen uint64, filtered bool, done string) string {
	share := fmt.Sprintf("%s transitions of the host were lost of %s seen (%s)", text.Count(lost.Total()), text.Count(seen), text.Share(lost.Total(), seen))
	switch {
	case !filtered:
		return share + ": what was " + done + " is not all that happened"
	case lost.RingFull > 0:
		return share + fmt.Sprintf("; %s of them match: what was %s is not all", text.Count(lost.RingFull), done)
	}
	return share + "; some may belong to what is " + done
}

// logLost adds what was lost by each cause, but for those of which the command can lose nothing.
func logLost(e *zerolog.Event, lost tracer.Lost, but ...tracer.Loss) *zerolog.Event {
	for cause, n := range lost.All() {
		if !slices.Contains(but, cause) {
			e.Uint64(cause.String(), n)
		}
	}
	return e
}
