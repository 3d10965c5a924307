package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"finwait/internal/confine"
	"finwait/internal/conns"
	"finwait/internal/ktime"
	"finwait/internal/text"
	"finwait/tracer"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
)

// When a connection is shown.
const (
	atEnd   = "end"
	atClose = "close"
)

type connsOptions struct {
	follower
	tracing  tracingFlags
	out      outputFlags
	opt      conns.Options
	at       string
	handlers bool
	names    nameFlag
	columns  columnFlags[conns.Entry]
	clock    string
	timed    bool // times are asked for
	duration time.Duration
	most     uint32
	shown    uint64
}

func newConns(stderr io.Writer) *cobra.Command {
	o := connsOptions{columns: columnFlags[conns.Entry]{all: conns.Columns}}
	cmd := &cobra.Command{
		Use:   "conns",
		Short: "Print one line for each connection, when it has ended",
		Example: `  # How long does each connection on port 443 take to connect, work and close?
  finwait conns --port 443 --at close
  # How many bytes do ten connections carry, and which program owns them?
  finwait conns --count 10 --json`,
		Long: `Print one line for each connection, when it has ended for good: after its
TIME_WAIT, which takes a minute. --at close does not wait for that; then "-" stands
for the bytes of an end that is in TIME_WAIT. Ctrl-C ends the run; --live then also
shows the connections that last.

--columns help says what the columns are. SENT, RECEIVED, RTT and RETR are as the
full socket had them last. --time says how OPENED is written: relative is seconds
since finwait started.

"-" is what was not seen, as of a connection that is older than finwait. missed=
counts transitions of the connection that were not seen: then the durations
around them are not known either.`,
		Args: rejectArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.timed = cmd.Flags().Changed("time")
			return o.run(cmd.Context(), cmd.OutOrStdout(), stderr)
		},
	}
	fs := cmd.Flags()
	o.tracing.registerConnections(cmd)
	o.out.registerTable(fs)
	fs.StringVar(&o.at, "at", atEnd, "show a connection `when`: end, after its TIME_WAIT, or close, before")
	completeWords(cmd, "at", []string{atEnd, atClose})
	fs.BoolVar(&o.opt.Live, "live", false, "in the end also show connections that last")
	durationVar(fs, &o.opt.MinDuration, "min-duration", 0, "time in ESTABLISHED, at least, as far as it is known")
	fs.Var(&o.tracing.filters.reasons, "reason", "`reason` of its end (finwait help reasons)")
	complete(cmd, "reason", tracer.Reasons())
	o.columns.register(cmd, "")
	fs.StringVar(&o.clock, "time", "local", "write the time OPENED in text `as`: "+strings.Join(text.ClockWords(false), ", "))
	completeWords(cmd, "time", text.ClockWords(false))
	o.names.register(fs)
	fs.BoolVar(&o.handlers, "handlers", false, "show the handler: the process that was first seen to read from the connection or write to it")
	fs.Uint64Var(&o.shown, "count", 0, "end after `N` connections")
	durationVar(fs, &o.duration, "duration", 0, "end after this time")
	fs.Uint32Var(&o.most, "max-connections", connsMost, "follow up to `N` connections at a time: each takes about 1 KiB")
	return cmd
}

func (o *connsOptions) check() error {
	switch {
	case o.out.check() != nil:
		return o.out.check()
	case o.columns.check(&o.out) != nil:
		return o.columns.check(&o.out)
	case o.columns.checkTime(o.clock, "opened") != nil:
		return o.columns.checkTime(o.clock, "opened")
	case o.columns.without(o.inColumns()) != nil:
		return o.columns.without(o.inColumns())
	case slices.Contains(o.tracing.filters.reasons, tracer.ReasonFinReceived.String()):
		return errors.New("no connection ends with fin_received: it goes on with the other direction")
	case o.tracing.filters.role == tracer.RoleListener.String():
		return errors.New("a listener is no connection: finwait ls --sockets --state listen lists listeners")
	case o.at != atEnd && o.at != atClose:
		return fmt.Errorf("--at %q: there are %s and %s", o.at, atEnd, atClose)
	case o.duration < 0:
		return fmt.Errorf("duration %v is negative", o.duration)
	case o.opt.MinDuration < 0:
		return fmt.Errorf("minimum duration %v is negative", o.opt.MinDuration)
	case o.at == atClose && len(o.tracing.filters.reasons) > 0:
		return errors.New("--reason asks how a connection ended, and --at close does not wait for that")
	case o.most == 0:
		return errors.New("--max-connections 0 would show nothing")
	}
	return nil
}

// inColumns are the flags whose text is in these columns.
func (o *connsOptions) inColumns() map[string][]string {
	return map[string][]string{
		"why":    ifSo(map[string]bool{"--handlers": o.handlers, "--names": o.names.on}),
		"opened": ifSo(map[string]bool{"--time": o.timed}),
	}
}

func (o *connsOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	if err := o.check(); err != nil {
		return usage(err)
	}
	if o.columns.listed() {
		return o.columns.list(stdout)
	}
	columns, err := o.columns.chosen()
	if err != nil {
		return usage(err)
	}
	clock, err := text.ParseClock(o.clock, text.ClockWords(false))
	if err != nil {
		return usage(err)
	}
	if o.timed {
		columns.Keep("opened")
	}
	log := logger(stderr)
	cfg, err := o.tracing.config(ctx, log, (*tracer.Filter).Check)
	if err != nil {
		return err
	}
	// A connection is shown whole: its end decides, not each transition.
	o.opt.Reasons, cfg.Filter.Reasons = cfg.Filter.Reasons, nil
	out := newOutput(stdout)
	cfg.Metrics, cfg.Handlers, cfg.NoTotals, cfg.Idle = true, o.handlers, true, out.Flush
	cfg.RingBytes = connsRing
	o.filtered = cfg.Filter.Picks()
	o.opt.AtClose, o.opt.Most = o.at == atClose, int(o.most)
	began, _ := ktime.Now() // before any program reports: no time is negative
	var to conns.Output = conns.NewText(out, o.out.form(stdout), columns, text.Times{Clock: clock, Began: time.Duration(began)}, o.names.namer())
	if o.out.output == "json" {
		to = conns.NewJSON(out, o.names.namer())
	}
	live, err := attach(cfg, missingForTrace)
	if err != nil {
		return err
	}
	defer live.Close()
	if err := giveUp(live, o.names.need(confine.Need{}), log); err != nil {
		return err
	}
	defer watchNetNS(ctx, o.tracing.filters.spaces, log)()
	if o.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.duration)
		defer cancel()
	}
	s := &enough{conns.NewSink(to, o.opt), o.shown}
	if err := o.show(ctx, live, s, out, log); err != nil {
		return err
	}
	sayConns(s.Summary(), log)
	return nil
}

// connsRing is the size of the ring buffers: a burst of connections waits there while earlier
// ones are joined.
const connsRing = 32 << 20

// connsMost is how many connections are followed at a time, if nobody says.
const connsMost = 1 << 18

// enough ends the run after so many connections; 0: it does not.
type enough struct {
	*conns.Sink
	n uint64
}

func (e *enough) Transition(t *tracer.Transition) error {
	if err := e.Sink.Transition(t); err != nil {
		return err
	}
	if e.n > 0 && e.Shown() >= e.n {
		return errEnough
	}
	return nil
}

// sayConns says how many connections there were, and how long one works for how long it is
// remembered.
func sayConns(s *conns.Summary, log *zerolog.Logger) {
	e := log.Info().Uint64("shown", s.Shown).Uint64("open", s.Open)
	if s.Hidden > 0 {
		e.Uint64("hidden", s.Hidden)
	}
	if s.Untracked > 0 {
		log.Warn().Uint64("untracked", s.Untracked).Msg("there was no room for some connections: --max-connections")
	}
	if s.Measured == 0 || s.Established <= 0 || s.TimeWait <= 0 {
		e.Msg("connections")
		return
	}
	n := time.Duration(s.Measured)
	e.Msgf("connections: on average one works %s and is remembered %s: 1 : %s",
		text.Span(s.Established/n), text.Span(s.TimeWait/n), text.Count(uint64(s.TimeWait/s.Established)))
}
