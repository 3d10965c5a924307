package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"finwait/internal/ktime"
	"finwait/internal/privilege"
	"finwait/internal/scenario"
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
		Long: `Show how TCP connections end. Without a name it lists the ways; with one it makes
such a connection on real sockets, in a network namespace of its own that is
removed afterwards, and draws what both ends go through as it happens: when, the
state of each end, how long the state before lasted, and the segment that was
sent or received. Of a segment that both ends tell of there are two lines: one
where it leaves, one where it arrives.

A real TIME_WAIT lasts 60 to 65 s, and is waited for; not so with --fast.
A demonstration that cannot run here says why.`,
		Args: rejectMoreArgs,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return scenarioNames(), cobra.ShellCompDirectiveNoFileComp
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

// A demoSink shows a scenario.
type demoSink interface {
	list([]scenario.Scenario) error
	transition(*tracer.Transition) error
	note(at time.Duration, text string)
	release(until time.Duration) error // show what happened up to then
	end(name, result, text string) error
}

// How a scenario went.
const (
	asExpected = "as_expected"
	unexpected = "unexpected"
	notRun     = "not_run"
)

func (o *demoOptions) run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if err := o.out.check(); err != nil {
		return usage(err)
	}
	out := bufio.NewWriter(stdout)
	var s demoSink = newLadder(out, colours(stdout, o.out.color))
	js := &demoJSON{jsonSink: newJSONSink(out), out: out}
	if o.out.output == "json" {
		s = js
	}
	all := scenario.All()
	if len(args) == 0 {
		if err := s.list(all); err != nil {
			return err
		}
		return out.Flush()
	}
	i := slices.IndexFunc(all, func(sc scenario.Scenario) bool { return sc.Name == args[0] })
	if i < 0 {
		return usage(fmt.Errorf("no demonstration is called %q: there are %s", args[0], strings.Join(scenarioNames(), " ")))
	}
	js.fast = o.fast && all[i].Minute()
	return o.play(ctx, &all[i], s, logger(stderr))
}

// play runs one scenario and shows it.
func (o *demoOptions) play(ctx context.Context, sc *scenario.Scenario, s demoSink, log *zerolog.Logger) error {
	st, err := scenario.Open()
	if err != nil {
		return err
	}
	defer st.Close()
	tr, err := tracer.New(tracer.Config{Filter: tracer.Filter{NetNS: []uint32{st.Inode}}, Logger: *log})
	if err != nil {
		return err
	}
	defer tr.Close()
	warnLacking(log, func(u privilege.Use) string {
		if u.Name != privilege.Syslog { // nothing in its namespace is older
			return ""
		}
		return u.Without
	})
	namespace := []string{privilege.SysAdmin, privilege.NetAdmin, privilege.NetRaw}
	if err := confine(tr, privilege.Need{Capabilities: namespace, Files: true}, log); err != nil {
		return err
	}

	show := &demoShow{sink: s}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	tracing, stop := context.WithCancel(context.Background())
	defer stop()
	traced := make(chan error, 1)
	go func() {
		err := tr.Run(tracing, func(t *tracer.Transition) error {
			if !st.See(t) {
				return nil
			}
			return show.transition(t)
		})
		cancel(err) // it runs until it is stopped, or something is wrong
		traced <- err
	}()
	go show.stream(tracing, cancel)
	played := st.Play(ctx, sc, o.fast, show.note)
	stop()
	if err := errors.Join(<-traced, show.release(1<<63-1)); err != nil {
		return err
	}
	if errors.Is(played, context.Canceled) {
		if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
			return cause
		}
		return errors.New("interrupted: the namespace is removed")
	}
	if stats, err := tr.Stats(); played != nil && err == nil && stats.Lost.Total() > 0 {
		log.Warn().Uint64("lost", stats.Lost.Total()).Msg("transitions of this host were lost, perhaps some of these: try again")
	}
	return show.end(sc, st.Seen(), played)
}

// end says what it means.
func (d *demoShow) end(sc *scenario.Scenario, seen scenario.Seen, played error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var cannot *scenario.NotRunError
	switch {
	case errors.As(played, &cannot):
		return d.sink.end(sc.Name, notRun, cannot.Why)
	case played != nil:
		return errors.Join(d.sink.end(sc.Name, unexpected, played.Error()), fmt.Errorf("demo %s: %w", sc.Name, played))
	}
	return d.sink.end(sc.Name, asExpected, sc.Explain(seen))
}

// A demoShow hands what happens to the sink, from several goroutines.
type demoShow struct {
	mu   sync.Mutex
	sink demoSink
}

func (d *demoShow) transition(t *tracer.Transition) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sink.transition(t)
}

func (d *demoShow) note(at time.Duration, text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sink.note(at, text)
}

func (d *demoShow) release(until time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sink.release(until)
}

// A transition takes up to 50 ms from the kernel to here (tracer.Run): what is
// older is in order.
const settled = 150 * time.Millisecond

// stream shows what happens, in the order in which it did.
func (d *demoShow) stream(ctx context.Context, fail context.CancelCauseFunc) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now, _ := ktime.Now()
		if err := d.release(time.Duration(now) - settled); err != nil {
			fail(err)
			return
		}
	}
}

// demoJSON writes transitions as trace does, and one object at the end.
type demoJSON struct {
	*jsonSink
	out  *bufio.Writer
	fast bool // a minute was skipped
}

func (j *demoJSON) list(all []scenario.Scenario) error {
	for _, sc := range all {
		j.log.Log().Str("event", "demo_listed").Str("name", sc.Name).Str("sentence", sc.Sentence).Bool("minute", sc.Minute()).Send()
	}
	return j.w.err
}

func (j *demoJSON) note(time.Duration, string) {}

func (j *demoJSON) release(time.Duration) error { return j.out.Flush() }

func (j *demoJSON) end(name, result, text string) error {
	j.log.Log().Str("event", "demo").Str("name", name).Str("result", result).Bool("fast", j.fast).Str("text", text).Send()
	return errors.Join(j.w.err, j.out.Flush())
}
