package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"finwait/internal/confine"
	"finwait/internal/sink"
	"finwait/internal/source"
	"finwait/internal/text"
	"finwait/tracer"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
)

// hintAfter is how long finwait waits for a first transition before it says so.
const hintAfter = 2 * time.Second

// errEnough ends a run that has shown what --count asked for.
var errEnough = errors.New("enough transitions")

type traceOptions struct {
	tracing  tracingFlags
	out      outputFlags
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
		Long: `Print every TCP state transition as it happens: the owner, the two addresses, the
state that the socket leaves and the state that it enters, how long it was in the
first, and why that ended. Ctrl-C ends the run and prints how many transitions
were seen and how many were lost.

The start of a state with the duration "-" was not seen. ">" before a duration
means: at least so long. "~" means: exact to the kernel's tick (jiffy) only.
Durations are measured with the monotonic clock. If somebody sets the wall
clock, they do not change. The time that the machine is suspended does not count.

finwait help reasons explains the words in the column WHY.`,
		Args: rejectArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), stderr)
		},
	}
	fs := cmd.Flags()
	o.tracing.register(cmd)
	o.out.register(fs)
	fs.BoolVar(&o.raw, "raw", false, "show each event of the kernel as it comes, and do not work out what it means")
	fs.Uint32Var(&o.ring, "ring-bytes", 0, "size of the ring buffer in `bytes`, for events that are not written yet: a power of two; 0 means 8 MiB")
	fs.Uint64Var(&o.count, "count", 0, "end after `N` transitions")
	fs.DurationVar(&o.duration, "duration", 0, "end after this time")
	return cmd
}

func (o *traceOptions) check() error {
	if err := o.out.check(); err != nil {
		return err
	}
	switch {
	case o.raw && o.tracing.filters.picksTransitions():
		return errors.New("--raw shows what the hooks saw, not transitions: --state, --from, --to and --min-duration do not go with it")
	case o.duration < 0:
		return fmt.Errorf("duration %v is negative", o.duration)
	}
	return nil
}

func (o *traceOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	if err := o.check(); err != nil {
		return usage(err)
	}
	log := logger(stderr)
	cfg, err := o.tracing.config(log, (*tracer.Filter).Check)
	if err != nil {
		return err
	}
	out := newOutput(stdout)
	cfg.RingBytes, cfg.Raw, cfg.NoTotals, cfg.Idle = o.ring, o.raw, true, out.Flush
	live, err := attach(cfg, missingForTrace)
	if err != nil {
		return err
	}
	defer live.Close()
	if err := giveUp(live, confine.Need{}, log); err != nil {
		return err
	}
	if o.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.duration)
		defer cancel()
	}
	return o.show(ctx, live, sink.New(o.out.output, out, text.Coloured(stdout, o.out.color)), out, log)
}

// show shows everything that comes from a source, and accounts for it.
func (o *traceOptions) show(ctx context.Context, from source.Source, to sink.Sink, out *bufio.Writer, log *zerolog.Logger) error {
	err := o.follow(ctx, from, to, log)
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	if err := from.Close(); err != nil {
		return err
	}
	return conclude(from, to, out, log)
}

// follow hands everything that the source reports to the sink.
func (o *traceOptions) follow(ctx context.Context, from source.Source, to sink.Sink, log *zerolog.Logger) error {
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
		return from.RunRaw(ctx, func(r *tracer.RawEvent) error { return counted(to.Raw(r)) })
	}
	return from.Run(ctx, func(t *tracer.Transition) error { return counted(to.Transition(t)) })
}

// conclude writes the accounts: where every transition went.
func conclude(from source.Source, to sink.Sink, out *bufio.Writer, log *zerolog.Logger) error {
	st, err := from.Stats()
	if err != nil {
		return err
	}
	if err := to.End(st, from.Hooks()); err != nil {
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
	logLost(e, st.Lost).Stringer("hooks", from.Hooks()).Msg(msg)
	return nil
}
