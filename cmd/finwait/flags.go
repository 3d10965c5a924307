package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"strconv"
	"strings"

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
		why = errors.New("not a duration such as 500ms, 10s or 1m30s")
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
		if err == nil && flag.Value.String() == "" {
			err = usage(fmt.Errorf("--%s %q: %w", flag.Name, "", errEmptyValue))
		}
	})
	return err
}
