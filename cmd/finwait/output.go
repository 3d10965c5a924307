package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"finwait/internal/text"

	"github.com/spf13/pflag"
)

// What --output and --color take.
var (
	formats = []string{"text", "json"}
	colours = []string{"auto", "always", "never"}
)

// outputFlags say how data is shown.
type outputFlags struct {
	output   string
	json     bool
	color    string
	noHeader bool
}

func (o *outputFlags) register(fs *pflag.FlagSet) {
	fs.StringVarP(&o.output, "output", "o", "text", "output `format`: text or json")
	fs.BoolVar(&o.json, "json", false, "the same as --output json")
	fs.StringVar(&o.color, "color", "auto", "colour: `when`: auto, always or never")
}

// registerTable is register, for what has column titles.
func (o *outputFlags) registerTable(fs *pflag.FlagSet) {
	o.register(fs)
	fs.BoolVar(&o.noHeader, "no-header", false, "leave out the line of column titles")
}

// form is how text is written to stdout.
func (o *outputFlags) form(stdout io.Writer) text.Form {
	return text.Form{Colour: text.Coloured(stdout, o.color), NoHead: o.noHeader, Width: terminal(stdout)}
}

// terminal gives the width that the terminal of an output has now; nil: it is no terminal.
func terminal(stdout io.Writer) func() int {
	if !text.IsTerminal(stdout) {
		return nil
	}
	return func() int { return text.Width(stdout) }
}

func (o *outputFlags) check() error {
	if o.json {
		o.output = "json"
	}
	switch {
	case checkFormat(o.output) != nil:
		return checkFormat(o.output)
	case !slices.Contains(colours, o.color):
		return fmt.Errorf("colour %q: there are auto, always and never", o.color)
	}
	return nil
}

func checkFormat(format string) error {
	if !slices.Contains(formats, format) {
		return fmt.Errorf("output format %q: there are text and json", format)
	}
	return nil
}

// blockedLimit is how long finwait waits for an output that takes no data, after a
// signal has asked it to end.
const blockedLimit = 5 * time.Second

// A stdoutWriter waits for its writer, such as a pipe that nobody reads, without a
// limit; after ctx is done it waits for blockedLimit at most.
type stdoutWriter struct {
	io.Writer
	ctx context.Context
}

// Unwrap is the writer below, which may be a terminal.
func (w *stdoutWriter) Unwrap() io.Writer { return w.Writer }

// Write must not be called again after an error: p may still be read from.
func (w *stdoutWriter) Write(p []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	written := make(chan result, 1)
	go func() {
		n, err := w.Writer.Write(p)
		written <- result{n, err}
	}()
	select {
	case r := <-written:
		return r.n, r.err
	case <-w.ctx.Done():
	}
	select {
	case r := <-written:
		return r.n, r.err
	case <-time.After(blockedLimit):
		return 0, fmt.Errorf("the output is cut short: it was not taken for %v after the signal to end", blockedLimit)
	}
}
