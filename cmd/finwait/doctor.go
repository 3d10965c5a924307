package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"finwait/internal/doctor"
	"finwait/internal/text"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
)

// exitFound is that of doctor --fail-on.
const exitFound = 3

type doctorOptions struct {
	filters  filterFlags
	out      outputFlags
	choice   doctor.Choice
	only     values
	ignore   values
	set      values
	window   time.Duration
	snapshot bool
	all      bool
	list     bool
	explain  string
	failOn   string
	lang     string
	root     string
}

func newDoctor(stderr io.Writer) *cobra.Command {
	var o doctorOptions
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what is wrong with the TCP connections of this host, or that nothing is",
		Example: `  # Is anything wrong? It looks for ten seconds.
  finwait doctor --for 10s
  # What can be said at once?
  finwait doctor --snapshot
  # What does a finding mean, and what mends it?
  finwait doctor --explain close-wait-leak
  # What is looked for?
  finwait doctor --list
  # For a script: exit code 3 if there is a risk, or worse.
  finwait doctor --snapshot --fail-on failing --json`,
		Long: `Look at the sockets, the settings and the counters of every network namespace
that can be entered, and say what is wrong, with the evidence, the cause and the
fix; or that nothing is. It changes nothing.

For the time of --for it watches every transition; it reads the counters at both
ends of that time, and the sockets at the last. Ctrl-C ends it early. --snapshot
reads once, and needs no BPF: what takes two readings or a watch is listed as not
checked. So is what a missing capability hides, and what was not checked for any
other reason.

The worst comes first. A finding is failing (calls fail, or segments are
dropped), will_fail, slow, risk, note, or ok: what many take for a fault, and
is none. "inferred" is what was concluded and not seen. On a terminal only as
many findings are shown as have room; --all, a pipe and JSON show all of them.
--explain has a page about each. Filters narrow the sockets and the transitions,
not the counters.`,
		Args: rejectArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), stderr)
		},
	}
	fs := cmd.Flags()
	o.filters.registerConnections(fs)
	o.out.register(fs)
	durationVar(fs, &o.window, "for", 10*time.Second, "look for this `time`")
	fs.BoolVar(&o.snapshot, "snapshot", false, "read once, and say at once what that shows")
	fs.BoolVar(&o.all, "all", false, "show all findings on a terminal, too")
	fs.BoolVar(&o.list, "list", false, "list the findings that there are, and their thresholds")
	fs.StringVar(&o.explain, "explain", "", "explain a finding by its `id`")
	fs.Var(&o.only, "only", "look for these `ids` only")
	fs.Var(&o.ignore, "ignore", "leave these `ids` out")
	fs.Var(&o.set, "set", "set a threshold: `id.threshold=value`")
	fs.StringVar(&o.failOn, "fail-on", "", "exit with 3 if a finding is of this `severity`, or worse")
	fs.StringVar(&o.lang, "lang", "", "`language` of the texts: en or zh; otherwise that of LC_ALL, LC_MESSAGES or LANG")
	fs.StringVar(&o.root, "root", "/", "`directory` below which the files of sysctls are")
	ids := make([]string, 0, len(doctor.Rules()))
	for _, r := range doctor.Rules() {
		ids = append(ids, r.ID)
	}
	for _, flag := range []string{"only", "ignore", "explain"} {
		completeWords(cmd, flag, ids)
	}
	completeWords(cmd, "fail-on", doctor.SeverityWords())
	completeWords(cmd, "lang", []string{"en", "zh"})
	return cmd
}

func (o *doctorOptions) check() error {
	o.choice = doctor.Choice{Only: o.only, Ignore: o.ignore, Set: o.set}
	if err := o.out.check(); err != nil {
		return err
	}
	switch {
	case o.window <= 0:
		return fmt.Errorf("--for %v: there is nothing to wait for; --snapshot reads once", o.window)
	case o.lang != "" && o.lang != "en" && o.lang != "zh":
		return fmt.Errorf("no language is called %q; there are en and zh", o.lang)
	}
	if o.failOn != "" {
		if _, err := doctor.ParseSeverity(o.failOn); err != nil {
			return err
		}
	}
	_, err := doctor.Examine(&doctor.Input{}, o.choice) // it checks ids and thresholds
	return err
}

// language is that of --lang, or for text that of the locale. JSON is English unless --lang is given.
func (o *doctorOptions) language() *doctor.Language {
	if o.lang != "" || o.out.output == "json" {
		return doctor.LanguageOf(o.lang)
	}
	return localeLanguage()
}

func localeLanguage() *doctor.Language {
	for _, name := range []string{"LC_ALL", "LC_MESSAGES", "LANG"} {
		if v := os.Getenv(name); v != "" {
			return doctor.LanguageOf(v)
		}
	}
	return doctor.LanguageOf("")
}

func (o *doctorOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	if err := o.check(); err != nil {
		return usage(err)
	}
	lang := o.language()
	out := newOutput(stdout)
	switch {
	case o.list:
		return doctor.List(out, lang)
	case o.explain != "":
		rule, err := doctor.RuleOf(o.explain)
		if err != nil {
			return usage(err)
		}
		return doctor.Explain(out, lang, rule)
	}
	if err := checkProc(); err != nil {
		return err
	}
	log := logger(stderr)
	filter, err := o.filters.filter()
	if err != nil {
		return usage(err)
	}
	c := doctor.NewCollector(doctor.Source{Filter: filter, NetNS: o.filters.spaces, Owners: socketOwners(log), Walk: socketWalk, Log: log, Root: o.root})
	if err := o.wait(ctx, c, log); err != nil {
		return err
	}
	in, err := c.Take()
	if err != nil {
		return err
	}
	report, err := doctor.Examine(in, o.choice)
	if err != nil {
		return err
	}
	if err := o.show(out, stdout, lang, in, report); err != nil {
		return err
	}
	if worst, found := report.Worst(); found && o.failOn != "" {
		if limit, _ := doctor.ParseSeverity(o.failOn); worst >= limit {
			return &exitError{code: exitFound}
		}
	}
	return nil
}

// wait is the window between the two readings.
func (o *doctorOptions) wait(ctx context.Context, c *doctor.Collector, log *zerolog.Logger) error {
	if o.snapshot {
		return nil
	}
	if err := c.Begin(); err != nil {
		return err
	}
	log.Info().Msgf("looking for %v; Ctrl-C ends it with what was seen so far", o.window)
	select {
	case <-ctx.Done():
	case <-time.After(o.window):
	}
	return nil
}

func (o *doctorOptions) show(out *bufio.Writer, stdout io.Writer, lang *doctor.Language, in *doctor.Input, report *doctor.Report) error {
	if o.out.output == "json" {
		if err := doctor.WriteJSON(out, lang, report); err != nil {
			return err
		}
		return out.Flush()
	}
	wide, high := text.Size(stdout)
	t := &doctor.Text{W: out, Lang: lang, Colour: text.Coloured(stdout, o.out.color), Width: wide, Lines: high, All: o.all}
	return t.Report(in, report)
}
