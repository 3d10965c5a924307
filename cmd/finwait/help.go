package main

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"

	"finwait/internal/doctor"
	"finwait/internal/reasons"
	"finwait/internal/text"
	"finwait/tracer"

	"github.com/spf13/cobra"
)

// newHelp is the help command. Cobra's own says nothing wrong of a command that does not exist.
func newHelp() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Explain a command, or the reasons for which connections end",
		Example: `  # How is ls used?
  finwait help ls`,
		Long: `Explain a command, as its flag --help does.

finwait help reasons explains the words with which finwait says why a state
ended, finwait help findings what finwait doctor finds.`,
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
			about, rest, err := cmd.Root().Find(args)
			if err == nil && len(rest) == 0 {
				for _, c := range about.Commands() {
					if c.IsAvailableCommand() {
						names = append(names, cobra.CompletionWithDesc(c.Name(), c.Short))
					}
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return usage(fmt.Errorf("no command and no topic is called %q", strings.Join(args, " ")))
			}
			about.InitDefaultHelpFlag() // so that its help lists it
			return about.Help()
		},
	}
	cmd.AddCommand(newHelpReasons(), newHelpFindings())
	return cmd
}

func newHelpFindings() *cobra.Command {
	return &cobra.Command{
		Use:   "findings [ID]...",
		Short: "Explain what finwait doctor finds",
		Example: `  # What can be found?
  finwait help findings
  # What does a finding mean, and what mends it?
  finwait help findings accept-stall`,
		Long: `List the findings of finwait doctor with their thresholds, or explain those with
an ID: what happens, what mends it and at which risk, and what does not.`,
		ValidArgsFunction: func(*cobra.Command, []string, string) (ids []cobra.Completion, _ cobra.ShellCompDirective) {
			lang := localeLanguage()
			for _, r := range doctor.Rules() {
				ids = append(ids, cobra.CompletionWithDesc(r.ID, lang.About(r.ID).Title))
			}
			return ids, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var rules []*doctor.Rule
			for _, id := range args {
				rule, err := doctor.RuleOf(id)
				if err != nil {
					return usage(err)
				}
				rules = append(rules, rule)
			}
			out := newOutput(cmd.OutOrStdout())
			if len(rules) == 0 {
				return doctor.List(out, localeLanguage())
			}
			for i, rule := range rules {
				if i > 0 {
					out.WriteByte('\n')
				}
				if err := doctor.Explain(out, localeLanguage(), rule); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func newHelpReasons() *cobra.Command {
	return &cobra.Command{
		Use:   "reasons [WORD]...",
		Short: "Explain the words with which finwait says why a state ended",
		Example: `  # What are the reasons, and what does each mean?
  finwait help reasons
  # Why was a connection aborted, with this detail?
  finwait help reasons aborted unread_data`,
		Long: `Explain the reasons and details with which finwait says why a state ended: what
happened, what it usually means, which counters of the kernel move, and which
demonstration shows it. With a WORD, such as aborted or unread_data, explain
only that. Both words of a line can be given, too.`,
		ValidArgsFunction: func(*cobra.Command, []string, string) (words []cobra.Completion, _ cobra.ShellCompDirective) {
			for _, e := range reasons.All() {
				words = append(words, cobra.CompletionWithDesc(e.Word(), e.What))
			}
			return words, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return explain(cmd.OutOrStdout(), reasons.All(), true)
			}
			var entries []reasons.Entry
			for _, word := range args {
				about := reasons.About(word)
				if len(about) == 0 {
					return usage(fmt.Errorf("no reason and no detail is called %q; the reasons are %s", word, list(tracer.Reasons())))
				}
				// Both words of a line, "aborted unread_data": not the other details.
				isNamed := func(e reasons.Entry) bool { return slices.Contains(args, e.Word()) }
				if slices.ContainsFunc(about[1:], isNamed) {
					about = about[:1]
				}
				entries = append(entries, about...)
			}
			return explain(cmd.OutOrStdout(), entries, false)
		},
	}
}

// explain writes the entries, after an introduction or without.
func explain(to io.Writer, entries []reasons.Entry, introduce bool) error {
	out := bufio.NewWriter(to)
	columns := text.Prose(to)
	if introduce {
		text.Indent(out, "", 0, columns, `Each line of finwait says why the state ended: with a reason and, where several causes `+
			`share a reason, with a detail. "Our" means this host. The counters are those of the connection's network namespace, and `+
			`nstat reads them there. finwait demo NAME shows a case on real sockets.`)
		out.WriteByte('\n')
	}
	for i, e := range entries {
		if i > 0 {
			out.WriteByte('\n')
		}
		title, indent := e.Reason.String(), 2
		if e.Detail != tracer.DetailNone {
			title, indent = "  "+title+" "+e.Detail.String(), 4
		}
		out.WriteString(title + "\n")
		text.Indent(out, "", indent, columns, e.What)
		text.Indent(out, "", indent, columns, e.Means)
		if len(e.Counters) > 0 {
			text.Indent(out, "", indent, columns, "Counters: "+strings.Join(e.Counters, ", "))
		}
		if e.Demo != "" {
			text.Indent(out, "", indent, columns, "See it: finwait demo "+e.Demo)
		}
	}
	return out.Flush()
}
