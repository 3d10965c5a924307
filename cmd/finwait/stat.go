package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"
	"time"

	"finwait/internal/audit"
	"finwait/internal/privilege"
	"finwait/tracer"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
)

// errAudit: finwait and the kernel have counted differently, and nobody knows why.
var errAudit = errors.New("finwait's totals and the kernel's counters disagree")

type statOptions struct {
	filters  filterFlags
	output   string
	write    string
	hooks    string
	duration time.Duration
	interval time.Duration
	by       string
	top      int
	audit    bool
}

func newStat(stderr io.Writer) *cobra.Command {
	var o statOptions
	cmd := &cobra.Command{
		Use:   "stat [flags] [-- command [args]]",
		Short: "Count transitions and measure states, exactly, in the kernel",
		Long: `Count transitions and measure how long states last, in the kernel, until
--duration is over, Ctrl-C, or the command that is given has ended; then print a
table. The command's exit status is passed on.

LIVE is how many sockets are in a state now. P50, P90, P99, MAX and TOTAL are of
those that left it and whose start was seen. Without a filter, the totals are
compared with the kernel's own counters in every network namespace that can be
entered.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.ArgsLenAtDash() < 0 || cmd.ArgsLenAtDash() > 0 {
				if err := rejectArgs(cmd, args); err != nil {
					return err
				}
			}
			return o.run(cmd.Context(), args, cmd.OutOrStdout(), stderr)
		},
	}
	fs := cmd.Flags()
	o.filters.register(fs)
	fs.StringVarP(&o.output, "output", "o", "text", "output `format`: text or json")
	fs.StringVar(&o.hooks, "hooks", tracer.HooksAuto.String(), "follow TIME_WAIT with these `hooks`: auto, fentry or tracepoint")
	fs.StringVar(&o.write, "write", "", "write to this `file` instead of stdout, which the command may use")
	fs.DurationVar(&o.duration, "duration", 0, "end after this time")
	fs.DurationVar(&o.interval, "interval", 0, "tell what happened in each interval of this length")
	fs.StringVar(&o.by, "by", "", "split the totals by `what`: port, remote, pid, comm, netns or cgroup")
	fs.IntVar(&o.top, "top", 10, "of --by, show the busiest `N`; the rest is summed")
	fs.BoolVar(&o.audit, "audit", false, "show each comparison with the kernel's counters; exit with 1 if one fails")
	return cmd
}

func (o *statOptions) check(command []string, filter *tracer.Filter) error {
	switch {
	case o.output != "text" && o.output != "json":
		return fmt.Errorf("output format %q: there are text and json", o.output)
	case o.duration < 0:
		return fmt.Errorf("duration %v is negative", o.duration)
	case o.interval < 0:
		return fmt.Errorf("interval %v is negative", o.interval)
	case o.interval > 0 && o.interval < 10*time.Millisecond:
		return fmt.Errorf("interval %v: the shortest is 10ms", o.interval)
	case len(command) > 0 && o.duration > 0:
		return errors.New("--duration does not go with a command, which ends when it likes")
	case o.top < 1:
		return fmt.Errorf("--top %d: at least one", o.top)
	case o.audit && filter.Picks():
		return errors.New("--audit compares with counters that count everything: it goes with no filter")
	}
	return nil
}

// A statSink shows totals.
type statSink interface {
	// interval is told of what happened in one interval, if there are any.
	interval(*statReport) error
	// report is told of everything in the end; of the last interval in place of
	// the whole, if there are intervals.
	report(*statReport) error
}

// A statReport is what happened in a span of time.
type statReport struct {
	end    time.Time
	span   time.Duration
	totals *tracer.Totals
	by     tracer.Split
	groups []*tracer.Group // the busiest first
	rest   *tracer.Group   // all others; nil: there are none
	others int             // how many
	lost   tracer.Lost
	hooks  string
	audit  []audit.Row // nil: there is none
	last   bool        // nothing follows
}

func (o *statOptions) run(ctx context.Context, command []string, stdout, stderr io.Writer) (err error) {
	filter, err := o.filters.filter()
	if err != nil {
		return usage(err)
	}
	if err := o.check(command, &filter); err != nil {
		return usage(err)
	}
	hooks, err := parse[tracer.HookSet](o.hooks)
	if err != nil {
		return usage(err)
	}
	cfg := tracer.Config{Filter: filter, Hooks: hooks, TotalsOnly: true, Audit: !filter.Picks(), Logger: *logger(stderr)}
	if o.by != "" {
		if cfg.SplitBy, err = parse[tracer.Split](o.by); err != nil {
			return usage(err)
		}
	}
	if err := filter.Check(); err != nil {
		return usage(err)
	}
	if o.write != "" {
		f, err := os.Create(o.write)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		stdout = f
	}
	out := bufio.NewWriterSize(stdout, 64<<10)
	var s statSink = &statText{w: out, audit: o.audit}
	if o.output == "json" {
		s = &statJSON{newJSONSink(out)}
	}

	tr, err := tracer.New(cfg)
	if err != nil {
		return err
	}
	defer tr.Close()
	warnLacking(&cfg.Logger, untold)
	m := &measurement{tracer: tr, cfg: &cfg, top: o.top}
	if err := m.begin(); err != nil {
		return err
	}
	ended, err := o.start(ctx, command, &cfg.Logger)
	if err != nil {
		return err
	}
	// The command has all that finwait had: it runs already.
	if err = confine(tr, o.need(command, &cfg), &cfg.Logger); err == nil {
		err = o.watch(m, ended, s, out)
	} else {
		cfg.Logger.Error().Err(err).Msg("nothing is counted")
	}
	code := <-ended.code // whatever is wrong with the output, the command is not left alone
	if err == nil {
		err = o.conclude(m, s, out, &cfg.Logger)
	}
	if code != exitOK {
		if err != nil && !errors.Is(err, syscall.EPIPE) {
			cfg.Logger.Error().Msg(err.Error())
		}
		return &exitError{code: code}
	}
	return err
}

// need is what is still needed while it counts, and at the end.
func (o *statOptions) need(command []string, cfg *tracer.Config) (n privilege.Need) {
	if len(command) > 0 {
		n.Capabilities = append(n.Capabilities, privilege.Kill) // it may have become another user
	}
	if cfg.Audit { // once more, in the namespaces that there are then
		n.Capabilities = append(n.Capabilities, privilege.SysPtrace, privilege.SysAdmin)
		n.Files = true
	}
	return n
}

// An ending says when it is time to stop, and then the command's exit code.
type ending struct {
	done <-chan struct{}
	code <-chan int
}

// start starts what the measurement lasts as long as.
func (o *statOptions) start(ctx context.Context, command []string, log *zerolog.Logger) (*ending, error) {
	if len(command) > 0 {
		return startCommand(command)
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

// watch waits for the end and tells of the intervals until then.
func (o *statOptions) watch(m *measurement, ended *ending, s statSink, out *bufio.Writer) error {
	if o.interval == 0 {
		<-ended.done
		return nil
	}
	tick := time.NewTicker(o.interval)
	defer tick.Stop()
	for {
		select {
		case <-ended.done:
			return nil
		case <-tick.C:
		}
		r, err := m.interval()
		if err != nil {
			return err
		}
		if err := s.interval(r); err != nil {
			return err
		}
		if err := out.Flush(); err != nil {
			return err
		}
	}
}

// conclude tells of the whole, or of the last interval, and whether it can be believed.
func (o *statOptions) conclude(m *measurement, s statSink, out *bufio.Writer, log *zerolog.Logger) error {
	r, err := m.finish(o.interval > 0)
	if err != nil {
		return err
	}
	if o.interval > 0 {
		err = s.interval(r)
	}
	if err == nil {
		err = s.report(r)
	}
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		return err
	}
	if r.lost.Total() > 0 {
		logLost(log.Warn(), r.lost, tracer.LossRingFull).Msg("transitions were lost: the totals are not all that happened")
	}
	if r.totals.Ungrouped > 0 {
		log.Warn().Uint64("ungrouped", r.totals.Ungrouped).Msg("there was no room to tell all groups apart")
	}
	switch bad := disagreements(r.audit); {
	case bad > 0 && o.audit:
		return errAudit
	case bad > 0:
		log.Warn().Int("counters", bad).Msg(errAudit.Error())
	}
	return nil
}

func disagreements(rows []audit.Row) (n int) {
	for _, r := range rows {
		if r.Verdict == audit.Disagrees {
			n++
		}
	}
	return n
}

// A moment is all that was counted until then.
type moment struct {
	at     time.Time
	stats  tracer.Stats
	totals *tracer.Totals
	groups map[string]*tracer.Group
}

// A measurement tells what happened between moments.
type measurement struct {
	tracer      *tracer.Tracer
	cfg         *tracer.Config
	top         int
	first, last *moment
	snapshot    *audit.Snapshot
}

func (m *measurement) begin() (err error) {
	if m.cfg.Audit {
		if m.snapshot, err = audit.Take(m.tracer); err != nil {
			return err
		}
	}
	m.first, err = m.now()
	m.last = m.first
	return err
}

func (m *measurement) now() (*moment, error) {
	now := &moment{at: time.Now()}
	var err error
	if now.stats, err = m.tracer.Stats(); err != nil {
		return nil, err
	}
	if now.totals, err = m.tracer.Totals(); err != nil {
		return nil, err
	}
	if m.cfg.SplitBy != tracer.SplitNone {
		now.groups, err = m.tracer.Groups()
	}
	return now, err
}

// interval tells what happened since the last moment.
func (m *measurement) interval() (*statReport, error) {
	now, err := m.now()
	if err != nil {
		return nil, err
	}
	r := m.between(m.last, now)
	m.last = now
	return r, nil
}

// finish tells what happened since the first moment, or the last, and audits the whole.
func (m *measurement) finish(sinceLast bool) (*statReport, error) {
	now, err := m.now()
	if err != nil {
		return nil, err
	}
	var rows []audit.Row
	if m.cfg.Audit {
		snapshot, err := audit.Take(m.tracer)
		if err != nil {
			return nil, err
		}
		rows = audit.Compare(m.snapshot, snapshot, runtime.NumCPU())
	}
	since := m.first
	if sinceLast {
		since = m.last
	}
	r := m.between(since, now)
	r.audit, r.last = rows, true
	return r, nil
}

// between takes what came before out of now.
func (m *measurement) between(before, now *moment) *statReport {
	totals := *now.totals
	totals.Sub(before.totals)
	r := &statReport{
		end: now.at, span: now.at.Sub(before.at), totals: &totals, by: m.cfg.SplitBy,
		lost: now.stats.Lost.Sub(before.stats.Lost), hooks: m.tracer.Hooks().String(),
	}
	r.split(before.groups, now.groups, m.top)
	return r
}
