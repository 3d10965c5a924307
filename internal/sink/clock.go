package sink

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Clock says how the time of a line is written.
type Clock uint8

// The ways in which it can be.
const (
	ClockLocal    Clock = iota // time of day
	ClockUTC                   // time of day, in UTC
	ClockDate                  // with the date
	ClockRelative              // seconds since the first line
	ClockDelta                 // seconds since the line before
)

var clocks = []string{"local", "utc", "date", "relative", "delta"}

// ClockWords are what ParseClock takes.
func ClockWords() []string { return clocks }

// ParseClock reads a word.
func ParseClock(word string) (Clock, error) {
	for i, w := range clocks {
		if w == word {
			return Clock(i), nil
		}
	}
	return 0, fmt.Errorf("no time is called %q: there are %s", word, strings.Join(clocks, ", "))
}

// width of the column.
func (c Clock) width() int {
	if c == ClockDate {
		return len(dateFormat)
	}
	return timeWidth
}

const dateFormat = "2006-01-02T15:04:05.000000"

// when writes the time of a line. Monotonic times make the differences: nobody can set them.
func (s *Text) when(b []byte, at time.Time, mono time.Duration) []byte {
	if !s.timed {
		s.timed, s.first, s.last = true, mono, mono
	}
	since := mono - s.first
	if s.options.Clock == ClockDelta {
		since = mono - s.last
	}
	s.last = mono
	switch s.options.Clock {
	case ClockUTC:
		return at.UTC().AppendFormat(b, timeFormat)
	case ClockDate:
		return at.Local().AppendFormat(b, dateFormat)
	case ClockRelative, ClockDelta:
		return strconv.AppendFloat(b, since.Seconds(), 'f', 6, 64)
	}
	return at.Local().AppendFormat(b, timeFormat)
}
