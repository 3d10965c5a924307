package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"finwait/internal/confine"
	"finwait/internal/jsonl"
	"finwait/internal/ktime"
	"finwait/internal/privilege"
	"finwait/internal/sink"
	"finwait/internal/text"
	"finwait/tracer"

	"github.com/spf13/cobra"
)

type traceOptions struct {
	follower
	tracing  tracingFlags
	out      outputFlags
	ring     uint32
	duration time.Duration
	handlers bool
	rst      bool
	synack   bool
	handled  values
	stack    string
	fields   values
	names    nameFlag
	columns  columnFlags[sink.Entry]
	clock    string
	timed    bool // times are asked for
}

func newTrace(stderr io.Writer) *cobra.Command {
	o := traceOptions{columns: columnFlags[sink.Entry]{all: sink.Columns}}
	cmd := &cobra.Command{
		Use:   "trace",
		Short: "Print every transition as it happens",
		Example: `  # What happens on port 443?
  finwait trace --port 443
  # Which connections of nginx enter TIME_WAIT?
  finwait trace --comm nginx --to TIME_WAIT
  # Where in the program is each connection closed?
  finwait trace --stack user --to FIN_WAIT_1 --count 5
  # Which connections are reset, and who sends the RST?
  finwait trace --rst --json --duration 3s | grep '"reason":"reset"'`,
		Long: `Print every TCP state transition as it happens: the owner, the two addresses, the
state that the socket leaves and the state that it enters, how long it was in the
first, and why that ended. Ctrl-C ends the run and prints how many transitions
were seen and how many were lost.

The start of a state with the duration "-" was not seen. ">" before a duration
means: at least so long. "~" means: exact to the kernel's tick (jiffy) only.
The owner is the process that connected or listened; --pid and --comm mean it.
WHY also names two other processes, where they are not the owner: closer= closed
the connection. handler= (with --handlers) uses it: the worker of a server that
hands its connections on, or the server for which a service manager listens. The
handler is known when it has read or written once. rst_by= (with --rst) closed the
other end of a connection that was reset, if that is on this host.
--stack adds from where in the kernel, and from where in the program, each
transition was made: one line a frame, innermost first. A program has a part in
those only that its own call makes; of the others, which a segment or a timer
makes, "-" is shown. A frame is a function and how far into it, and the file. If
the file does not name the function, it is the address in the file, for
addr2line -e. "truncated" means that more callers are not known. A program that
ends at once may be gone before finwait can look at it.
With "owner=holder" the owner is the process that held the socket when finwait
started: it may have got the socket from the one that created it.
Durations are measured with the monotonic clock. If somebody sets the wall
clock, they do not change. The time that the machine is suspended does not count.

TIME is when the kernel made the transition, not when finwait printed it. --time
utc and date are of the wall clock, like the usual time of day. relative is seconds
since finwait started. delta is seconds since the line before, of whichever socket;
of the same socket LASTED tells. With --time a narrow terminal keeps TIME, and
loses LOCAL.

finwait help reasons explains the words in the column WHY.`,
		Args: rejectArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.timed = cmd.Flags().Changed("time")
			return o.run(cmd.Context(), cmd.OutOrStdout(), stderr)
		},
	}
	fs := cmd.Flags()
	o.tracing.register(cmd)
	o.out.registerTable(fs)
	fs.BoolVar(&o.handlers, "handlers", false, "show the handler: the process that was first seen to read from the connection or write to it")
	fs.Var(&o.handled, "handler-comm", "`name` of the handler: transitions since that is known")
	fs.BoolVar(&o.rst, "rst", false, "show RSTs that answer a segment for no socket or a listener, and RSTs that a socket receives")
	fs.BoolVar(&o.synack, "handshakes", false, "show handshakes that wait: each SYN-ACK that a listener sends again")
	o.columns.register(cmd, "")
	fs.StringVar(&o.clock, "time", "local", "write times in text `as`: "+strings.Join(text.ClockWords(true), ", "))
	completeWords(cmd, "time", text.ClockWords(true))
	o.names.register(fs)
	fs.Var(&o.fields, "fields", "show these `metrics` of the connection, too: "+strings.Join(jsonl.FieldWords(), ", "))
	completeWords(cmd, "fields", jsonl.FieldWords())
	fs.StringVar(&o.stack, "stack", "", "show from where it was made, by the `stack` of the kernel or of the program: "+list(tracer.AllStacks()))
	complete(cmd, "stack", tracer.AllStacks())
	fs.BoolVar(&o.raw, "raw", false, "show each event of the kernel as it comes, and do not work out what it means")
	fs.Uint32Var(&o.ring, "ring-bytes", 0, "size of the ring buffers of all CPUs in `bytes`, for events that are not written yet: a power of two; 0 means 8 MiB, with stacks of programs 64 MiB")
	fs.Uint64Var(&o.count, "count", 0, "end after `N` transitions")
	durationVar(fs, &o.duration, "duration", 0, "end after this time")
	return cmd
}

func (o *traceOptions) check() error {
	if err := o.out.check(); err != nil {
		return err
	}
	if err := errors.Join(o.columns.check(&o.out), o.columns.checkTime(o.clock, "time")); err != nil {
		return err
	}
	if err := o.columns.without(map[string][]string{
		"why":  ifSo(map[string]bool{"--fields": len(o.fields) > 0, "--handlers": o.handlers, "--names": o.names.on}),
		"time": ifSo(map[string]bool{"--time": o.timed}),
	}); err != nil {
		return err
	}
	switch {
	case o.raw && o.tracing.filters.picksTransitions():
		return errors.New("--raw shows what the hooks saw, not transitions: --state, --from, --to, --reason and --min-duration do not go with it")
	case o.raw && len(o.columns.names) > 0:
		return errors.New("--raw shows what the hooks saw: --columns does not go with it")
	case o.raw && o.names.on:
		return errors.New("--raw shows what the hooks saw: --names does not go with it")
	case o.raw && len(o.fields) > 0:
		return errors.New("--raw shows what the hooks saw: --fields does not go with it")
	case o.raw && (o.rst || o.synack):
		return errors.New("--raw shows what the hooks saw: --rst and --handshakes do not go with it")
	case o.raw && (o.handlers || len(o.handled) > 0):
		return errors.New("--raw shows what the hooks saw: --handlers and --handler-comm do not go with it")
	case o.duration < 0:
		return fmt.Errorf("duration %v is negative", o.duration)
	case o.ring&(o.ring-1) != 0 || o.ring%uint32(os.Getpagesize()) != 0:
		return fmt.Errorf("ring buffer of %d bytes: it must be a power of two and a multiple of the page size, %d", o.ring, os.Getpagesize())
	}
	return nil
}

func (o *traceOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	if err := o.check(); err != nil {
		return usage(err)
	}
	if o.columns.listed() {
		return o.columns.list(stdout)
	}
	log := logger(stderr)
	cfg, err := o.tracing.config(ctx, log, func(f *tracer.Filter) error {
		f.HandlerComms = o.handled
		if err := f.Check(); err != nil || !o.synack {
			return err
		}
		return f.CheckSegments()
	})
	if err != nil {
		return err
	}
	if o.rst && cfg.Filter.CheckSegments() != nil {
		log.Info().Msg("RSTs have no process, cgroup or states, so these filters leave them out; a connection that was reset says who has sent the RST")
	}
	cfg.Handlers = o.handlers
	if o.stack != "" {
		if cfg.Stacks, err = parse[tracer.Stacks](o.stack); err != nil {
			return usage(err)
		}
	}
	o.filtered = cfg.Filter.Picks()
	out := newOutput(stdout)
	var fields jsonl.Fields
	for _, word := range o.fields {
		if err := fields.Add(word); err != nil {
			return usage(err)
		}
	}
	cfg.Metrics = fields != 0
	clock, err := text.ParseClock(o.clock, text.ClockWords(true))
	if err != nil {
		return usage(err)
	}
	columns, err := o.columns.chosen()
	if err != nil {
		return usage(err)
	}
	if o.timed {
		columns.Keep("time")
	}
	began, _ := ktime.Now() // before any program reports: no time is negative
	to := sink.New(o.out.output, out, sink.Options{
		Form: o.out.form(stdout), Columns: columns, Clock: clock, Began: time.Duration(began), KeepTime: o.timed, Fields: fields, Names: o.names.namer(),
	})
	cfg.RST, cfg.Handshakes, cfg.Segment = o.rst, o.synack, to.Segment
	cfg.RingBytes, cfg.Raw, cfg.NoTotals, cfg.Idle = o.ring, o.raw, true, out.Flush
	live, err := attach(cfg, missingForTrace)
	if err != nil {
		return err
	}
	defer live.Close()
	if err := giveUp(live, o.names.need(needOf(cfg.Stacks)), log); err != nil {
		return err
	}
	defer watchNetNS(ctx, o.tracing.filters.spaces, log)()
	if o.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.duration)
		defer cancel()
	}
	return o.show(ctx, live, to, out, log)
}

// needOf is what trace still does when it has attached: for the stacks of programs it looks at
// their mappings and opens their files.
func needOf(stacks tracer.Stacks) confine.Need {
	if stacks&tracer.StacksUser == 0 {
		return confine.Need{}
	}
	return confine.Need{Files: true, Capabilities: []string{privilege.SysPtrace, privilege.DACReadSearch}}
}
