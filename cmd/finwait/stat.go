package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"finwait/internal/audit"
	"finwait/internal/cgroup"
	"finwait/internal/confine"
	"finwait/internal/meter"
	"finwait/internal/privilege"
	"finwait/internal/text"
	"finwait/tracer"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
)

// errAudit: finwait and the kernel count differently, for no known reason.
var errAudit = errors.New("finwait's totals and the kernel's counters disagree")

type statOptions struct {
	tracing  tracingFlags
	output   string
	json     bool
	write    string
	duration time.Duration
	interval time.Duration
	by       string
	top      int
	brief    bool
	audit    bool
	all      bool

	apart    bool // only the sockets of the command are to be counted
	filtered bool // not every transition of the host is to be counted
	rst      bool
	synack   bool
}

func newStat(stderr io.Writer) *cobra.Command {
	var o statOptions
	cmd := &cobra.Command{
		Use:   "stat [flags] [INTERVAL [COUNT]] [-- command [args]]",
		Short: "Count transitions and measure states, exactly, in the kernel",
		Example: `  # How long does each state last, and why do connections end?
  finwait stat --duration 3s
  # What happens each second, for 3 seconds?
  finwait stat 1 3
  # Which destinations are connected to, and why do the connections end?
  finwait stat --by destination --top 3 --duration 3s
  # Which pod makes the TIME_WAITs?
  finwait stat --by pod --duration 3s
  # What happens while a program runs?
  finwait stat -- finwait demo load --count 500`,
		Long: `Count transitions and measure how long states last, in the kernel. The run ends
after --duration, with Ctrl-C, or when the given command ends. stat 1 5 is stat
--interval 1s --duration 5s, as vmstat(8) has it. Then stat prints a table. It
exits with the command's exit code. SIGTERM and SIGHUP are passed on to the
command; a signal that comes before its start means that it is not started.

LIVE is the number of sockets that are in the state now. P50, P90, P99, MAX and
TOTAL are about the sockets that left the state and whose start in it was seen.

With a command, stat counts the sockets of the command and of what it starts:
those that they make, and those that their listeners accept. It starts the
command in a cgroup of its own for that, below the one that finwait is in. What
the command has others do is not counted, as by systemd-run or docker. --all
counts everything on the host while the command runs.

Without a filter, stat compares its totals with the kernel's own counters in
every network namespace that it can enter; with a command, only with --all.

With --by, --brief prints one line for each group, the busiest first, and below
the sum of the others: LIVE sockets, how many connects were OPENED and how many
connections ACCEPTED, how many sockets CLOSED and for which reasons, and the
medians of the time in ESTABLISHED and in TIME_WAIT.

` + paragraph("A terminal that is too narrow loses columns, in this order: of the states "+meter.GoingStates()+"; with --brief "+meter.GoingGroups()+
			"; with --interval "+meter.GoingIntervals()+". "+shortened+"A pipe or file gets everything."),
		RunE: func(cmd *cobra.Command, args []string) error {
			dash := cmd.ArgsLenAtDash()
			if dash < 0 {
				dash = len(args)
			}
			if err := o.sample(cmd, args[:dash]); err != nil {
				return err
			}
			if args = args[dash:]; cmd.ArgsLenAtDash() >= 0 && (len(args) == 0 || args[0] == "") {
				return usage(errors.New("there is no command after --"))
			}
			if o.by == "" && cmd.Flags().Changed("top") {
				return usage(errors.New("--top goes with --by: without groups there are none to show"))
			}
			if o.by == "" && o.brief {
				return usage(errors.New("--brief goes with --by: without groups there are none to show"))
			}
			if o.brief && (o.json || o.output == "json") {
				return usage(errors.New("--brief is for text: JSON has everything"))
			}
			return o.run(cmd.Context(), args, cmd.OutOrStdout(), stderr)
		},
	}
	fs := cmd.Flags()
	o.tracing.register(cmd)
	fs.StringVarP(&o.output, "output", "o", "text", "output `format`: text or json")
	fs.BoolVar(&o.json, "json", false, "the same as --output json")
	fs.StringVar(&o.write, "write", "", "write to this `file`; the command then has stdout for itself")
	durationVar(fs, &o.duration, "duration", 0, "end after this time")
	durationVar(fs, &o.interval, "interval", 0, "print what happened in each interval of this length, and then the whole")
	fs.StringVar(&o.by, "by", "", "split the totals by `what`: "+list(tracer.Splits())+", "+strings.Join(cgroupWords(), ", "))
	completeWords(cmd, "by", append(wordsOf(tracer.Splits()), cgroupWords()...))
	fs.BoolVar(&o.rst, "rst", false, "count RSTs too that answer a segment for no socket or a listener, or that a socket receives")
	fs.BoolVar(&o.synack, "handshakes", false, "count handshakes too that wait: SYN-ACKs that a listener sends again")
	fs.IntVar(&o.top, "top", 10, "with --by: show the busiest `N` groups, and the sum of the others")
	fs.BoolVar(&o.all, "all", false, "with a command: count everything on the host while it runs, not only its sockets")
	fs.BoolVar(&o.brief, "brief", false, "with --by: one line for each group")
	fs.BoolVar(&o.audit, "audit", false, "show each comparison with the kernel's counters; exit with 1 if one disagrees")
	return cmd
}

// sample takes an interval, and how many of them.
func (o *statOptions) sample(cmd *cobra.Command, args []string) (err error) {
	if len(args) == 0 {
		return nil
	}
	if len(args) > 2 || cmd.Flags().Changed("interval") || len(args) > 1 && cmd.Flags().Changed("duration") {
		return rejectArgs(cmd, args)
	}
	if o.interval, err = parseSpan(args[0]); err != nil || o.interval <= 0 {
		return rejectArgs(cmd, args)
	}
	if len(args) == 1 {
		return nil
	}
	n, err := strconv.ParseUint(args[1], 10, 32)
	if err != nil || n == 0 || uint64(math.MaxInt64)/n < uint64(o.interval) {
		return usage(fmt.Errorf("%q intervals: a whole number of 1 or more", args[1]))
	}
	o.duration = time.Duration(n) * o.interval
	return nil
}

func (o *statOptions) check(command []string, filter *tracer.Filter) error {
	if o.json {
		o.output = "json"
	}
	switch {
	case checkFormat(o.output) != nil:
		return checkFormat(o.output)
	case o.duration < 0:
		return fmt.Errorf("duration %v is negative", o.duration)
	case o.interval < 0:
		return fmt.Errorf("interval %v is negative", o.interval)
	case o.interval > 0 && o.interval < 10*time.Millisecond:
		return fmt.Errorf("interval %v: the shortest is 10ms", o.interval)
	case len(command) > 0 && o.duration > 0:
		return errors.New("--duration does not go with a command, which ends when it likes")
	case len(command) == 0 && o.all:
		return errors.New("--all goes with a command: without one everything is counted")
	case o.apart && o.audit:
		return errors.New("--audit compares with counters that count everything: with a command it goes with --all")
	case o.apart && (o.rst || o.synack):
		return errors.New("--rst and --handshakes count what belongs to no process: with a command they go with --all")
	case o.apart && len(filter.Cgroups) > 0:
		return errors.New("the command has a cgroup of its own: --cgroup, --pod, --container and --unit go with --all, which counts what they pick while it runs")
	case o.top < 1:
		return fmt.Errorf("--top %d: at least one", o.top)
	case o.audit && filter.Picks():
		return errors.New("--audit compares with counters that count everything: it goes with no filter")
	}
	return nil
}

// A statSink shows reports.
type statSink interface {
	// Interval is told of each interval.
	Interval(*meter.Report) error
	// Report is told of the whole run when it ends.
	Report(*meter.Report) error
}

func (o *statOptions) run(ctx context.Context, command []string, stdout, stderr io.Writer) (err error) {
	log := logger(stderr)
	cfg, err := o.config(ctx, command, log)
	if err != nil {
		return err
	}
	if o.write != "" {
		f, err := os.Create(o.write)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		stdout = f
	}
	signals := make(chan os.Signal, 8)
	if len(command) > 0 {
		signal.Notify(signals, endingSignals()...)
		defer signal.Stop(signals)
	}
	var (
		own      *cgroup.Child
		notApart error
	)
	if o.apart {
		if own, notApart = commandCgroup(&cfg.Filter); own != nil {
			defer removeCgroup(own, log)
		}
	}
	live, err := attach(cfg, missingForTrace)
	if err != nil {
		return err
	}
	defer live.Close()
	if notApart != nil { // said after what is missing with --all, too
		return notApart
	}
	options := meter.Options{By: cfg.SplitBy, Top: o.top, Names: cgroupNames(o.by), Command: o.apart}
	if cfg.Audit {
		options.Audit = func() (*audit.Snapshot, error) { return audit.Take(live.Tracer) }
	}
	if cfg.RST || cfg.Handshakes {
		options.Segments = live.SegmentCounts
	}
	m, err := meter.Start(live, options)
	if err != nil {
		return err
	}
	ended, err := o.start(ctx, command, own, signals, log)
	if err != nil {
		return err
	}
	out := newOutput(stdout)
	var s statSink = meter.NewText(out, text.Form{Width: terminal(stdout)}, o.audit, o.brief)
	if o.output == "json" {
		s = meter.NewJSON(out)
	}
	// The command was started before, so it has all capabilities that finwait had.
	if err = giveUp(live, o.need(command, own, &cfg), log); err == nil {
		defer watchNetNS(ctx, o.tracing.filters.spaces, log)()
		err = o.watch(m, ended, s, out)
	} else {
		log.Error().Err(err).Msg("nothing is counted")
	}
	code := <-ended.code // wait for the command, even if the output has failed
	if err == nil {
		err = o.conclude(m, s, out, log)
	}
	if code != exitOK {
		if err != nil && !errors.Is(err, syscall.EPIPE) {
			log.Error().Msg(err.Error())
		}
		return &exitError{code: code}
	}
	return err
}

// config is what the flags ask for. An error is the user's, or that there is no /proc.
func (o *statOptions) config(ctx context.Context, command []string, log *zerolog.Logger) (tracer.Config, error) {
	o.apart = len(command) > 0 && !o.all
	cfg, err := o.tracing.config(ctx, log, func(f *tracer.Filter) error { return o.check(command, f) })
	if err != nil {
		return cfg, err
	}
	if cfg.SplitBy, err = splitBy(o.by); err != nil {
		return cfg, usage(err)
	}
	if err := cfg.Filter.Check(); err != nil {
		return cfg, usage(err)
	}
	if cfg.RST, cfg.Handshakes = o.rst, o.synack; o.rst || o.synack {
		if err := cfg.Filter.CheckSegments(); err != nil {
			return cfg, usage(err)
		}
	}
	o.filtered = o.apart || cfg.Filter.Picks()
	cfg.TotalsOnly, cfg.Audit = true, !o.filtered
	return cfg, nil
}

// need is what is still needed while it counts, and when it ends.
func (o *statOptions) need(command []string, own *cgroup.Child, cfg *tracer.Config) (n confine.Need) {
	if own != nil {
		n.RemoveDirs = []string{own.Parent}
		if own.Override {
			n.Capabilities = append(n.Capabilities, privilege.DACOverride)
		}
	}
	if len(command) > 0 {
		n.Capabilities = append(n.Capabilities, privilege.Kill) // the command may have changed its user
	}
	if cfg.Audit { // the second reading visits the namespaces that exist then
		n.Capabilities = append(n.Capabilities, privilege.SysPtrace, privilege.SysAdmin)
		n.Files = true
	}
	return (&nameFlag{cgroupNames(o.by) != nil}).need(n)
}

// An ending says when it is time to stop, and then the command's exit code.
type ending struct {
	done <-chan struct{}
	code <-chan int
}

// start starts the command, or the timer, that ends the measurement.
func (o *statOptions) start(ctx context.Context, command []string, own *cgroup.Child, signals chan os.Signal, log *zerolog.Logger) (*ending, error) {
	if len(command) > 0 {
		if own != nil {
			log.Info().Msg("counting the sockets of the command and of what it starts; --all counts everything on the host")
		}
		return startCommand(ctx, command, own, signals)
	}
	code := make(chan int, 1)
	code <- exitOK
	log.Info().Msg("counting TCP transitions; Ctrl-C ends it and shows the totals")
	if o.duration > 0 {
		done := make(chan struct{})
		timer := time.AfterFunc(o.duration, func() { close(done) })
		context.AfterFunc(ctx, func() {
			if timer.Stop() {
				close(done)
			}
		})
		return &ending{done: done, code: code}, nil
	}
	return &ending{done: ctx.Done(), code: code}, nil
}

// watch waits for the end, and shows each interval until then.
func (o *statOptions) watch(m *meter.Meter, ended *ending, s statSink, out *bufio.Writer) error {
	if o.interval == 0 {
		<-ended.done
		return nil
	}
	tick := time.NewTicker(o.interval)
	defer tick.Stop()
	for n := time.Duration(1); ; n++ {
		if o.duration > 0 && n*o.interval >= o.duration { // the last interval ends with the run
			<-ended.done
			return nil
		}
		select {
		case <-ended.done:
			return nil
		case <-tick.C:
		}
		r, err := m.Interval()
		if err != nil {
			return err
		}
		if err := s.Interval(r); err != nil {
			return err
		}
		if err := out.Flush(); err != nil {
			return err
		}
	}
}

// conclude shows the last interval and the whole run, and warns if something was not counted.
func (o *statOptions) conclude(m *meter.Meter, s statSink, out *bufio.Writer, log *zerolog.Logger) error {
	rest, r, err := m.Finish()
	if err != nil {
		return err
	}
	if o.interval > 0 {
		err = s.Interval(rest)
	}
	if err == nil {
		err = s.Report(r)
	}
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		return err
	}
	if r.Lost.Total() > 0 {
		logLost(log.Warn(), r.Lost, tracer.LossRingFull).Msg(losses(r.Lost, r.Seen, o.filtered, "counted"))
	}
	if o.filtered && r.Seen > r.Lost.Total() && len(r.Edges()) == 0 {
		log.Info().Msgf("%s seen, none matches", text.Count(r.Seen-r.Lost.Total()))
	}
	if r.Totals.Ungrouped > 0 {
		log.Warn().Uint64("ungrouped", r.Totals.Ungrouped).Msg("there was no room to tell all groups apart")
	}
	switch bad := r.Disagreements(); {
	case bad > 0 && o.audit:
		return errAudit
	case bad > 0:
		log.Warn().Int("counters", bad).Msg(errAudit.Error())
	}
	return nil
}
