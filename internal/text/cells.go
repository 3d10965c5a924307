package text

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"finwait/tracer"
)

// AppendPrintable writes a name for people: \x1b, \n, \u202e, and \xff for a byte
// that is not UTF-8. Names of processes and cgroups are untrusted: what is written
// never contains a control character, those of C1 included, nor a character that
// changes the direction of writing. Backslashes stay as they are.
func AppendPrintable(b []byte, name string) []byte {
	for len(name) > 0 {
		r, n := utf8.DecodeRuneInString(name)
		switch {
		case r == utf8.RuneError && n == 1:
			b = fmt.Appendf(b, `\x%02x`, name[0])
		case unicode.IsPrint(r):
			b = append(b, name[:n]...)
		default:
			quoted := strconv.QuoteRune(r)
			b = append(b, quoted[1:len(quoted)-1]...)
		}
		name = name[n:]
	}
	return b
}

// Printable is AppendPrintable for a string.
func Printable(name string) string { return string(AppendPrintable(nil, name)) }

// AppendName is AppendPrintable for the name of a process.
func AppendName(b []byte, c *tracer.Comm) []byte { return AppendPrintable(b, c.String()) }

// AppendPID writes the pid of a process, and nothing if there is none.
func AppendPID(b []byte, p *tracer.Process) []byte {
	if p.PID == 0 {
		return b
	}
	return strconv.AppendUint(b, uint64(p.PID), 10)
}

// AppendComm writes the name of a process, and nothing if there is none.
func AppendComm(b []byte, p *tracer.Process) []byte {
	if p.PID == 0 {
		return b
	}
	return AppendName(b, &p.Comm)
}

// AppendEndpoint writes an address and a port; "*" is a port that is not known. An
// interface has no control character nor "%" in its name (dev_valid_name()), but may
// have bytes that are not UTF-8.
func AppendEndpoint(b []byte, a netip.AddrPort, s tracer.Scope) []byte {
	if s.ID != 0 {
		s.Interface = Printable(s.Interface)
		a = s.Zoned(a)
	}
	if a.Port() != 0 {
		return a.AppendTo(b)
	}
	if a.Addr().Is6() {
		b = append(a.Addr().AppendTo(append(b, '[')), ']')
	} else {
		b = a.Addr().AppendTo(b)
	}
	return append(b, ":*"...)
}

// AppendDuration is AppendTime with its precision: ">" is at least, "~" is to the
// jiffy, "-" is a duration that is not known.
func AppendDuration(b []byte, d time.Duration, p tracer.Precision) []byte {
	if p == tracer.PrecisionUnknown {
		return append(b, '-')
	}
	return AppendTime(appendSign(b, p), d)
}

// AppendAge is AppendMillis with its precision.
func AppendAge(b []byte, d time.Duration, p tracer.Precision) []byte {
	if p == tracer.PrecisionUnknown {
		return append(b, '-')
	}
	return AppendMillis(appendSign(b, p), d)
}

func appendSign(b []byte, p tracer.Precision) []byte {
	switch p {
	case tracer.PrecisionAtLeast:
		return append(b, '>')
	case tracer.PrecisionJiffy:
		return append(b, '~')
	}
	return b
}

// inUnit gives a duration in the largest of us, ms and s that leaves a value of 1 or more.
func inUnit(d time.Duration) (value float64, unit string) {
	switch {
	case d < time.Millisecond:
		return float64(d) / float64(time.Microsecond), "us"
	case d < time.Second:
		return float64(d) / float64(time.Millisecond), "ms"
	}
	return d.Seconds(), "s"
}

// AppendTime writes a duration with three decimals: what was measured.
func AppendTime(b []byte, d time.Duration) []byte {
	value, unit := inUnit(d)
	return append(strconv.AppendFloat(b, value, 'f', 3, 64), unit...)
}

// AppendMillis writes a duration that is known to the ms or worse: no fraction of a ms, and of a
// minute or more no fraction of a second. What it leaves out makes the duration smaller.
func AppendMillis(b []byte, d time.Duration) []byte {
	switch {
	case d < time.Second:
		return append(strconv.AppendInt(b, d.Milliseconds(), 10), "ms"...)
	case d < time.Minute:
		return AppendTime(b, d.Truncate(time.Millisecond))
	}
	return append(strconv.AppendInt(b, int64(d/time.Second), 10), 's')
}

// Time is AppendTime for a string.
func Time(d time.Duration) string { return string(AppendTime(nil, d)) }

// Rough writes a duration with one decimal, as many as a bucket of a histogram is good for.
func Rough(d time.Duration) string {
	value, unit := inUnit(d)
	return strconv.FormatFloat(value, 'f', 1, 64) + unit
}

// Span writes a duration for a sentence: three digits, four of seconds.
func Span(d time.Duration) string {
	switch value, unit := inUnit(d); unit {
	case "s":
		return fmt.Sprintf("%.4g s", value)
	case "us":
		return fmt.Sprintf("%.3g µs", value)
	default:
		return fmt.Sprintf("%.3g %s", value, unit)
	}
}

// Count writes a number for a sentence: "4,120".
func Count(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Share writes n of all for a sentence, as per cent with two digits that say
// something: "0.29 %". What is not 0 is not written as 0, and what is not all not as 100.
func Share(n, all uint64) string {
	if n >= all {
		return "100 %"
	}
	share := 100 * float64(n) / float64(all)
	decimals := 0
	for limit := 10.0; n > 0 && share < limit && decimals < 18; limit /= 10 {
		decimals++
	}
	if share > 99 {
		return "more than 99 %"
	}
	return strconv.FormatFloat(share, 'f', decimals, 64) + " %"
}
