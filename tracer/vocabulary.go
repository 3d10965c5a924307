package tracer

import (
	"fmt"
	"slices"
	"strings"
)

// A vocabulary is a closed list of values and their words. String, MarshalText,
// UnmarshalText and the exported list of all values read it, and so do flags, JSON,
// help and completion: a new value is one line in one list.
type vocabulary[T ~uint8 | ~uint16 | ~uint32] struct {
	// words has the word of each value from first on, without a gap. The word "" is
	// that of a value that says nothing, such as ReasonNone.
	words []string
	first T

	// unknown is the error for a word that is not in the list: a format of that word
	// (%q) and of the list (%s). between and last separate the words of the list.
	unknown       string
	between, last string
}

// has reports whether v is a value of the vocabulary.
func (l *vocabulary[T]) has(v T) bool { return v >= l.first && uint64(v) < uint64(len(l.words)) }

// word gives the word of v, and "unknown" for what is no value of the vocabulary.
func (l *vocabulary[T]) word(v T) string {
	if l.has(v) {
		return l.words[v]
	}
	return "unknown"
}

// all lists the values in the order of their numbers.
func (l *vocabulary[T]) all() []T {
	all := make([]T, 0, len(l.words))
	for v := l.first; l.has(v); v++ {
		all = append(all, v)
	}
	return all
}

// marshal fails for what is no value of the vocabulary: unmarshal could not read it.
func (l *vocabulary[T]) marshal(v T) ([]byte, error) {
	if !l.has(v) {
		return nil, fmt.Errorf("%T %d has no word", v, v)
	}
	return []byte(l.words[v]), nil
}

// unmarshal sets *v to the value that has this word, and leaves it alone if none has.
func (l *vocabulary[T]) unmarshal(v *T, word []byte) error {
	for _, known := range l.all() {
		if l.words[known] == string(word) {
			*v = known
			return nil
		}
	}
	return l.refuse(word)
}

// refuse makes the error for a word that is not in the list.
func (l *vocabulary[T]) refuse(word []byte) error {
	words := slices.DeleteFunc(slices.Clone(l.words), func(w string) bool { return w == "" })
	list, end := strings.Join(words[:len(words)-1], l.between), words[len(words)-1]
	return fmt.Errorf(l.unknown, word, list+l.last+end)
}
