package text

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Clock says how times are written.
type Clock uint8

// The ways in which they can be.
const (
	ClockLocal    Clock = iota // time of day
	ClockUTC                   // time of day, in UTC
	ClockDate                  // with the date
	ClockNone                  // not at all
	ClockRelative              // seconds since finwait started
	ClockDelta                 // seconds since the line before
)

var clocks = []string{"local", "utc", "date", "none", "relative", "delta"}

// ClockWords are those that ParseClock takes. Lines that are not in the order of their times have
// no delta.
func ClockWords(delta bool) []string {
	if !delta {
		return clocks[:ClockDelta]
	}
	return clocks
}

// ParseClock reads one of some words.
func ParseClock(word string, words []string) (Clock, error) {
	for i, w := range words {
		if w == word {
			return Clock(i), nil
		}
	}
	return 0, fmt.Errorf("no time is called %q: there are %s", word, strings.Join(words, ", "))
}

// Times writes the times of lines.
type Times struct {
	Clock    Clock
	Began    time.Duration // when finwait started: CLOCK_MONOTONIC
	Decimals int           // of a second
	last     time.Duration // the time of the line before, if any
}

// Width is that of a column of times.
func (t *Times) Width() int {
	switch t.Clock {
	case ClockDate:
		return len("2006-01-02T15:04:05.") + t.Decimals
	case ClockRelative, ClockDelta:
		return len("12345.") + t.Decimals
	}
	return len("15:04:05.") + t.Decimals
}

// Append writes the time of a line. Monotonic times make the differences: nobody can set them.
func (t *Times) Append(b []byte, at time.Time, mono time.Duration) []byte {
	since := mono - t.Began
	if t.Clock == ClockDelta {
		since = mono - max(t.last, t.Began)
	}
	t.last = mono
	layout := "2006-01-02T15:04:05.000000"[:len("2006-01-02T15:04:05.")+t.Decimals]
	day := len("2006-01-02T")
	switch t.Clock {
	case ClockUTC:
		return at.UTC().AppendFormat(b, layout[day:])
	case ClockDate:
		return at.Local().AppendFormat(b, layout)
	case ClockRelative, ClockDelta:
		return strconv.AppendFloat(b, since.Seconds(), 'f', t.Decimals, 64)
	}
	return at.Local().AppendFormat(b, layout[day:])
}
