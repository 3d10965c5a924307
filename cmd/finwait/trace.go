package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"finwait/internal/privilege"
	"finwait/tracer"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
)

// hintAfter is how long a quiet host is left uncommented.
const hintAfter = 2 * time.Second

// errEnough ends a run that has shown what --count asked for.
var errEnough = errors.New("enough transitions")

type traceOptions struct {
	filters  filterFlags
	out      outputFlags
	hooks    string
	raw      bool
	ring     uint32
	count    uint64
	duration time.Duration
}

func newTrace(stderr io.Writer) *cobra.Command {
	var o traceOptions
	cmd := &cobra.Command{
		Use:   "trace",
		Short: "Print every transition as it happens",
		Long: `Print every TCP state transition as it happens: who, from where to where, from
which state to which, how long the state that was left had lasted, and why it
was left. Ctrl-C ends it with a summary of what was seen and what was lost.

A duration of "-" was not seen from its start. ">" before a duration says that
it lasted at least that long, "~" that it is exact to the kernel's tick only.
Durations are of the monotonic clock: setting the wall clock does not change
them, and they leave out the time that the machine is suspended.`,
		Args: rejectArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), stderr)
		},
	}
	fs := cmd.Flags()
	o.filters.register(fs)
	o.out.register(fs)
	fs.StringVar(&o.hooks, "hooks", tracer.HooksAuto.String(), "follow TIME_WAIT with these `hooks`: auto, fentry or tracepoint")
	fs.BoolVar(&o.raw, "raw", false, "show the kernel's events as they come, not what they mean")
	fs.Uint32Var(&o.ring, "ring-bytes", 0, "keep so many `bytes` of events that are not yet written, a power of two; 0: 8 MiB")
	fs.Uint64Var(&o.count, "count", 0, "end after `N` transitions")
	fs.DurationVar(&o.duration, "duration", 0, "end after this time")
	return cmd
}

func (o *traceOptions) check() error {
	if err := o.out.check(); err != nil {
		return err
	}
	switch {
	case o.raw && o.filters.picksTransitions():
		return errors.New("--raw shows what the hooks saw, not transitions: --state, --from, --to and --min-duration do not go with it")
	case o.duration < 0:
		return fmt.Errorf("duration %v is negative", o.duration)
	}
	return nil
}

// A sink shows what a Tracer tells.
type sink interface {
	transition(*tracer.Transition) error
	raw(*tracer.RawEvent) error
	summary(tracer.Stats, string) error
}

func (o *traceOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	if err := o.check(); err != nil {
		return usage(err)
	}
	filter, err := o.filters.filter()
	if err != nil {
		return usage(err)
	}
	if err := filter.Check(); err != nil {
		return usage(err)
	}
	hooks, err := parse[tracer.HookSet](o.hooks)
	if err != nil {
		return usage(err)
	}
	log := logger(stderr)
	out := bufio.NewWriterSize(stdout, 64<<10)
	var s sink = newTextSink(out, o.raw, colours(stdout, o.out.color))
	if o.out.output == "json" {
		s = newJSONSink(out)
	}

	tr, err := tracer.New(tracer.Config{Filter: filter, Hooks: hooks, RingBytes: o.ring, Raw: o.raw, NoTotals: true, Idle: out.Flush, Logger: *log})
	if err != nil {
		return err
	}
	defer tr.Close()
	warnLacking(log, untold)
	if err := confine(tr, privilege.Need{}, log); err != nil {
		return err
	}

	if o.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.duration)
		defer cancel()
	}
	err = o.follow(ctx, tr, s, log)
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	if err := tr.Close(); err != nil {
		return err
	}
	return conclude(tr, s, out, log)
}

// follow hands everything that the tracer tells to the sink.
func (o *traceOptions) follow(ctx context.Context, tr *tracer.Tracer, s sink, log *zerolog.Logger) error {
	log.Info().Msg("tracing TCP transitions; Ctrl-C ends it")
	hint := time.AfterFunc(hintAfter, func() {
		log.Info().Msg("waiting: no transition yet; make some with: curl -s http://localhost")
	})
	defer hint.Stop()

	var shown uint64
	counted := func(err error) error {
		if shown++; shown == 1 {
			hint.Stop()
		}
		if err == nil && shown == o.count {
			return errEnough
		}
		return err
	}
	if o.raw {
		return tr.RunRaw(ctx, func(r *tracer.RawEvent) error { return counted(s.raw(r)) })
	}
	return tr.Run(ctx, func(t *tracer.Transition) error { return counted(s.transition(t)) })
}

// conclude accounts for every transition.
func conclude(tr *tracer.Tracer, s sink, out *bufio.Writer, log *zerolog.Logger) error {
	st, err := tr.Stats()
	if err != nil {
		return err
	}
	if err := s.summary(st, tr.Hooks().String()); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	e := log.Info()
	msg := "every transition is accounted for"
	if st.Lost.Total() > 0 {
		e, msg = log.Warn(), "transitions were lost: what was shown is not all that happened"
	}
	e.Uint64("seen", st.Seen).Uint64("filtered", st.Filtered).Uint64("delivered", st.Delivered)
	logLost(e, st.Lost).Stringer("hooks", tr.Hooks()).Msg(msg)
	return nil
}

// colours says whether to colour what goes to w.
func colours(w io.Writer, when string) bool {
	switch when {
	case "always":
		return true
	case "never":
		return false
	}
	if out, ok := w.(*stdoutWriter); ok {
		w = out.Writer
	}
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	return isTerminal(f)
}
