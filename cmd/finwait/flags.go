package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// errEmptyValue: an empty value is rarely meant, as of a variable of a script that is not set.
var errEmptyValue = errors.New("an empty value: give it one, or leave the flag out")

// values are those of a flag that takes several: separated by commas, or by giving
// the flag again. A value with a comma in it stands in double quotes.
type values []string

// String is empty, for a flag that has no default.
func (v *values) String() string { return strings.Join(*v, ",") }

// Type is a word for the help, where the flag's usage has none.
func (v *values) Type() string { return "values" }

// Set adds values.
func (v *values) Set(s string) error {
	r := csv.NewReader(strings.NewReader(s))
	r.LazyQuotes = true // the name of a process may have one
	lines, err := r.ReadAll()
	switch {
	case s == "":
		return errEmptyValue
	case err != nil || len(lines) != 1:
		return errors.New("a value with a comma or a line's end in it stands in double quotes")
	}
	for _, value := range lines[0] {
		if value == "" {
			return errEmptyValue
		}
	}
	*v = append(*v, lines[0]...)
	return nil
}

// wrongFlag is the error for a flag that cannot be parsed. What Go's packages say of
// numbers and durations is for programmers.
func wrongFlag(_ *cobra.Command, err error) error {
	var wrong *pflag.InvalidValueError
	if !errors.As(err, &wrong) {
		return usage(err)
	}
	flag, value := wrong.GetFlag(), wrong.GetValue()
	why := errors.Unwrap(wrong)
	switch {
	case value == "":
		why = errEmptyValue
	case flag.Value.Type() == "duration":
		why = errors.New("not a duration such as 500ms, 10s, 1m30s, or a number of seconds")
	case errors.Is(why, strconv.ErrRange):
		why = errors.New("the number is out of range")
	case errors.Is(why, strconv.ErrSyntax) && flag.Value.Type() == "bool":
		why = errors.New("there are true and false")
	case errors.Is(why, strconv.ErrSyntax) && flag.Value.Type() == "int":
		why = errors.New("not a whole number")
	case errors.Is(why, strconv.ErrSyntax):
		why = errors.New("not a whole number of 0 or more")
	}
	return usage(fmt.Errorf("--%s %q: %w", flag.Name, value, why))
}

// rejectEmpty refuses flags with an empty value that their own parsers take.
func rejectEmpty(cmd *cobra.Command, _ []string) (err error) {
	cmd.Flags().Visit(func(flag *pflag.Flag) {
		if err == nil && flag.Value.String() == "" && flag.Value.Type() != "duration" {
			err = usage(fmt.Errorf("--%s %q: %w", flag.Name, "", errEmptyValue))
		}
	})
	return err
}

// A span is a flag for a duration: 500ms, 1m30s, or a number of seconds, as sleep(1) and
// vmstat(8) take it.
type span struct{ to *time.Duration }

// durationVar adds such a flag.
func durationVar(fs *pflag.FlagSet, to *time.Duration, name string, usual time.Duration, usage string) {
	*to = usual
	fs.Var(&span{to}, name, usage)
}

// String gives the duration as Go writes it; "" for 0, so that help has no default then.
func (s *span) String() string {
	if s.to == nil || *s.to == 0 {
		return ""
	}
	return s.to.String()
}

// Type is a word for the help, and for wrongFlag.
func (s *span) Type() string { return "duration" }

// Set takes a duration.
func (s *span) Set(text string) (err error) {
	*s.to, err = parseSpan(text)
	return err
}

func parseSpan(text string) (time.Duration, error) {
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		if n > math.MaxInt64/float64(time.Second) || n != n {
			return 0, strconv.ErrRange
		}
		return time.Duration(n * float64(time.Second)), nil
	}
	return time.ParseDuration(text)
}
