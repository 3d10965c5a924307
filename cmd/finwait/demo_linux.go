package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"finwait/internal/confine"
	"finwait/internal/demo"
	"finwait/internal/privilege"
	"finwait/internal/scenario"
	"finwait/internal/text"
	"finwait/tracer"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
)

type demoOptions struct {
	fast bool
	out  outputFlags
}

func newDemo(stderr io.Writer) *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo [NAME]",
		Short: "Show how TCP connections end, each way made for real",
		Example: `  # Which ways are there?
  finwait demo
  # What is an orphan in FIN_WAIT_2?
  finwait demo orphan
  # How do both ends close, without the minute of TIME_WAIT?
  finwait demo close --fast`,
		Long: `Show how TCP connections end. Without a name, or with the name list, demo lists
the ways. With a name, it
makes such a connection on real sockets, in a network namespace of its own, which
it removes afterwards. While that happens, it draws both ends: the time, the state
of each end, how long the state before lasted, and the segment that the end sent
or received. If both ends report a segment, it has two lines: one where it leaves,
one where it arrives.

A real TIME_WAIT lasts 60 to 65 s. demo waits for it; with --fast it does not.
If a demonstration cannot run on this machine, demo says why.`,
		Args: rejectMoreArgs,
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
			if len(args) == 0 {
				names = append(names, cobra.CompletionWithDesc("list", "List the ways"))
				for _, sc := range scenario.All() {
					names = append(names, cobra.CompletionWithDesc(sc.Name, sc.Sentence))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), args, cmd.OutOrStdout(), stderr)
		},
	}
	fs := cmd.Flags()
	fs.BoolVar(&o.fast, "fast", false, "do not wait for a TIME_WAIT to expire")
	o.out.register(fs)
	cmd.AddCommand(newDemoLoad(stderr))
	return cmd
}

func rejectMoreArgs(cmd *cobra.Command, args []string) error {
	return rejectArgs(cmd, args[min(1, len(args)):])
}

func scenarioNames() []string {
	var names []string
	for _, sc := range scenario.All() {
		names = append(names, sc.Name)
	}
	return names
}

func (o *demoOptions) run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if err := o.out.check(); err != nil {
		return usage(err)
	}
	out := bufio.NewWriter(stdout)
	js := demo.NewJSON(out)
	var s demo.Sink = js
	if o.out.output == "text" {
		s = demo.NewLadder(out, text.Coloured(stdout, o.out.color))
	}
	all := scenario.All()
	if len(args) == 0 || args[0] == "list" {
		if err := s.List(all); err != nil {
			return err
		}
		return out.Flush()
	}
	i := slices.IndexFunc(all, func(sc scenario.Scenario) bool { return sc.Name == args[0] })
	if i < 0 {
		return usage(fmt.Errorf("no demonstration is called %q: there are %s", args[0], strings.Join(scenarioNames(), " ")))
	}
	js.Fast = o.fast && all[i].Minute()
	return o.play(ctx, &all[i], s, logger(stderr))
}

// play runs one scenario and shows it.
func (o *demoOptions) play(ctx context.Context, sc *scenario.Scenario, s demo.Sink, log *zerolog.Logger) error {
	if err := checkProc(); err != nil {
		return err
	}
	st, err := scenario.Open()
	if err != nil {
		return err
	}
	defer st.Close()
	live, err := attach(tracer.Config{Filter: tracer.Filter{NetNS: []uint64{st.Cookie}}, Logger: *log}, func(u privilege.Use) string {
		if u.Name != privilege.Syslog { // nothing in its namespace is older
			return ""
		}
		return u.Without
	})
	if err != nil {
		return err
	}
	defer live.Close()
	namespace := []string{privilege.SysAdmin, privilege.NetAdmin, privilege.NetRaw}
	if err := giveUp(live, confine.Need{Capabilities: namespace, Files: true}, log); err != nil {
		return err
	}

	show := demo.NewShow(s)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	tracing, stop := context.WithCancel(context.Background())
	defer stop()
	traced := make(chan error, 1)
	go func() {
		err := live.Run(tracing, func(t *tracer.Transition) error {
			if !st.See(t) {
				return nil
			}
			return show.Transition(t)
		})
		cancel(err) // it runs until it is stopped, or something is wrong
		traced <- err
	}()
	go show.Stream(tracing, func() time.Duration { now, _ := live.Now(); return now }, cancel)
	played := st.Play(ctx, sc, o.fast, show.Note)
	stop()
	if err := errors.Join(<-traced, show.Release(1<<63-1)); err != nil {
		return err
	}
	if errors.Is(played, context.Canceled) {
		if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
			return cause
		}
		return errors.New("interrupted: the namespace is removed")
	}
	if stats, err := live.Stats(); played != nil && err == nil && stats.Lost.Total() > 0 {
		log.Warn().Uint64("lost", stats.Lost.Total()).Msg("transitions of this host were lost, perhaps some of these: try again")
	}
	return show.End(sc, st.Seen(), played)
}
