package main

import (
	"encoding"
	"slices"

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

// logLost adds what was lost by each cause, but for those of which the command can lose nothing.
func logLost(e *zerolog.Event, lost tracer.Lost, but ...tracer.Loss) *zerolog.Event {
	for cause, n := range lost.All() {
		if !slices.Contains(but, cause) {
			e.Uint64(cause.String(), n)
		}
	}
	return e
}
