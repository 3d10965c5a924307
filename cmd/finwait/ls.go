package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"finwait/internal/ktime"
	"finwait/internal/sockdiag"
	"finwait/tracer"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
)

var errInterrupted = errors.New("interrupted: the list is not complete")

type lsOptions struct {
	filters filterFlags
	sockets bool
	sort    string
	out     outputFlags
}

func newLs(stderr io.Writer) *cobra.Command {
	var o lsOptions
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "Count or list the TCP sockets that there are now",
		Long: `Count the TCP sockets in each state, or list them, over all network namespaces
that can be reached. This asks the kernel as ss does, and needs no BPF.

An age is known of TIME_WAIT only, from what remains of its 60 s: ">" says that
it lasted at least that long, since segments that arrive start the 60 s again.
A FIN_WAIT_2 that is an orphan is on a timer; one that is held stays until the
peer closes or the process that holds it does. The kernel keeps no user, cgroup
or process of a socket in TIME_WAIT, of an orphan in FIN_WAIT_2, or of a
handshake (NEW_SYN_RECV): a filter on those leaves them out.`,
		Args: rejectArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), stderr)
		},
	}
	fs := cmd.Flags()
	o.filters.registerConnections(fs)
	fs.Lookup("pid").Usage = "`pid` of the process that holds the socket"
	fs.Lookup("comm").Usage = "`name` of the process that holds the socket"
	fs.StringSliceVar(&o.filters.states, "state", nil, "`state` of the socket")
	fs.BoolVar(&o.sockets, "sockets", false, "list each socket")
	fs.StringVar(&o.sort, "sort", "", "sort the sockets by `field`, -field backwards: "+strings.Join(sortFields(), ", "))
	o.out.register(fs)
	return cmd
}

func (o *lsOptions) check() error {
	if o.sort != "" && !o.sockets {
		return errors.New("--sort needs --sockets: states are listed in one order")
	}
	return o.out.check()
}

// A socketRow is a socket with what else is known of it.
type socketRow struct {
	sockdiag.Socket
	netNS uint32
	owner tracer.Process // the process that holds it
}

func (r *socketRow) state() tracer.State { return tracer.State(r.State) }

// age is how long the state has lasted at least. Only the timer of TIME_WAIT
// tells: it is always started with the same 60 s. FIN_WAIT_2 has
// tcp_fin_timeout, which may have been another when the timer was started.
func (r *socketRow) age() (d time.Duration, known bool) {
	if r.state() != tracer.TimeWait || r.Timer != sockdiag.TimeWait || r.TimerLeft > ktime.TimeWaitLen {
		return 0, false
	}
	return ktime.TimeWaitLen - r.TimerLeft, true
}

// An lsSink shows sockets or their number.
type lsSink interface {
	socket(*socketRow) error
	count(tracer.State, uint64) error
}

func (o *lsOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	if err := o.check(); err != nil {
		return usage(err)
	}
	compare, err := sortOrder(o.sort)
	if err != nil {
		return usage(err)
	}
	filter, err := o.filters.filter()
	if err != nil {
		return usage(err)
	}
	sel, err := newSelection(filter)
	if err != nil {
		return usage(err)
	}
	log := logger(stderr)
	warnLacking(log, unlisted)
	reader, err := newSocketReader(o, sel, log)
	if err != nil {
		return err
	}

	w := &lastingWriter{w: stdout}
	out := bufio.NewWriterSize(w, 64<<10)
	var s lsSink = newLsText(out, colours(stdout, o.out.color), reader.cgroupPath)
	if o.out.output == "json" {
		s = &lsJSON{newJSONSink(out)}
	}
	show := s.socket
	var finish func() error
	switch {
	case !o.sockets:
		show, finish = count(sel, s)
	case compare != nil:
		show, finish = collect(compare, s)
	}
	err = reader.each(func(r *socketRow) error {
		if ctx.Err() != nil {
			return errInterrupted
		}
		if err := show(r); err != nil {
			return err
		}
		return w.err
	})
	if err == nil && finish != nil {
		err = finish()
	}
	out.Flush() // an error shows in w
	if w.err != nil {
		return w.err
	}
	return err
}

// count tells of states when all sockets have been seen. CLOSED is none: the kernel lists no such socket.
func count(sel *selection, s lsSink) (show func(*socketRow) error, finish func() error) {
	var n [tracer.NewSynRecv + 1]uint64
	show = func(r *socketRow) error {
		n[r.State]++
		return nil
	}
	finish = func() error {
		for _, state := range tracer.States() {
			if sel.states&(1<<state) == 0 || state == tracer.Closed {
				continue
			}
			if err := s.count(state, n[state]); err != nil {
				return err
			}
		}
		return nil
	}
	return show, finish
}

// collect tells of sockets in order, when all have been seen.
func collect(compare func(a, b *socketRow) int, s lsSink) (show func(*socketRow) error, finish func() error) {
	var all []socketRow
	show = func(r *socketRow) error {
		all = append(all, *r)
		return nil
	}
	finish = func() error {
		order := make([]*socketRow, len(all))
		for i := range all {
			order[i] = &all[i]
		}
		slices.SortStableFunc(order, compare)
		for _, r := range order {
			if err := s.socket(r); err != nil {
				return err
			}
		}
		return nil
	}
	return show, finish
}

// A lastingWriter keeps the first error and from then on swallows what is
// written: an encoder that reports errors in ways of its own has none to report.
type lastingWriter struct {
	w   io.Writer
	err error
}

func (l *lastingWriter) Write(b []byte) (int, error) {
	if l.err == nil {
		_, l.err = l.w.Write(b)
	}
	return len(b), nil
}

// lsText writes aligned lines for people.
type lsText struct {
	t          *textSink
	cgroupPath func(uint64) (string, bool)
}

func newLsText(w *bufio.Writer, colour bool, cgroupPath func(uint64) (string, bool)) *lsText {
	return &lsText{newTextSink(w, false, colour), cgroupPath}
}

// Widths of columns that a transition does not have.
const (
	wNetNS     = 10
	wLongState = 12 // NEW_SYN_RECV
	wUID       = 6
	wTimer     = 10
	wLeft      = 8
	wAge       = 8
	wHeld      = 6
)

func (l *lsText) count(state tracer.State, n uint64) error {
	t := l.t
	if !t.begun {
		t.begun = true
		if err := t.head("STATE", wLongState, "COUNT", 0); err != nil {
			return err
		}
	}
	t.line, t.width = t.line[:0], 0
	var buf [64]byte
	t.cell(stateColour(state), append(buf[:0], state.String()...), wLongState)
	t.cell("", strconv.AppendUint(buf[:0], n, 10), 0)
	return t.end()
}

func (l *lsText) socket(r *socketRow) error {
	t := l.t
	if !t.begun {
		t.begun = true
		if err := t.head("NETNS", wNetNS, "STATE", wLongState, "LOCAL", wAddr, "REMOTE", wAddr, "PID", wPID, "COMM", wComm,
			"UID", wUID, "TIMER", wTimer, "LEFT", wLeft, "AGE", wAge, "HELD", wHeld, "CGROUP", 0); err != nil {
			return err
		}
	}
	t.line, t.width = t.line[:0], 0
	var buf [64]byte
	t.cell("", strconv.AppendUint(buf[:0], uint64(r.netNS), 10), wNetNS)
	t.cell(stateColour(r.state()), append(buf[:0], r.state().String()...), wLongState)
	t.cell("", appendEndpoint(buf[:0], r.Local), wAddr)
	t.cell("", appendEndpoint(buf[:0], r.Remote), wAddr)
	t.process(r.owner.PID, &r.owner.Comm)
	l.known(r.UIDKnown, strconv.AppendUint(buf[:0], uint64(r.UID), 10), wUID)
	ticking := r.Timer != sockdiag.NoTimer
	l.known(ticking, append(buf[:0], r.Timer.String()...), wTimer)
	l.known(ticking, appendTime(buf[:0], r.TimerLeft), wLeft)
	age, known := r.age()
	l.known(known, appendDuration(buf[:0], &tracer.Transition{Duration: age, Precision: tracer.PrecisionAtLeast}), wAge)
	orphan, known := r.Orphan()
	held := "held"
	if orphan {
		held = "orphan"
	}
	l.known(known, append(buf[:0], held...), wHeld)
	l.known(r.CgroupID != 0, l.appendCgroup(buf[:0], r.CgroupID), 0)
	return t.end()
}

func (l *lsText) known(known bool, text []byte, width int) {
	if !known {
		l.t.cell(dim, []byte{'-'}, width)
		return
	}
	l.t.cell("", text, width)
}

// appendCgroup writes a path where there is one, and else the number.
func (l *lsText) appendCgroup(b []byte, id uint64) []byte {
	if path, ok := l.cgroupPath(id); ok {
		return appendPrintable(b, path)
	}
	return strconv.AppendUint(b, id, 10)
}

// lsJSON writes one object a line.
type lsJSON struct {
	j *jsonSink
}

func (l *lsJSON) count(state tracer.State, n uint64) error {
	l.j.log.Log().Stringer("state", state).Uint64("live", n).Send()
	return nil
}

func (l *lsJSON) socket(r *socketRow) error {
	e := l.j.log.Log().Uint32("netns", r.netNS).Uint64("cookie", r.Cookie)
	l.j.endpoints(e, r.Local, r.Remote)
	e.Stringer("state", r.state())
	l.j.process(e, "owner", &r.owner)
	known(e, "uid", r.UIDKnown, uint64(r.UID))
	known(e, "cgroup_id", r.CgroupID != 0, r.CgroupID)
	ticking := r.Timer != sockdiag.NoTimer
	if ticking {
		e.Str("timer", r.Timer.String())
	} else {
		e.RawJSON("timer", null)
	}
	known(e, "timer_left_ms", ticking, uint64(r.TimerLeft.Milliseconds()))
	age, ok := r.age()
	known(e, "age_ms", ok, uint64(age.Milliseconds()))
	precision := tracer.PrecisionUnknown
	if ok {
		precision = tracer.PrecisionAtLeast
	}
	e.Str("precision", precision.String())
	if orphan, ok := r.Orphan(); ok {
		e.Bool("orphan", orphan)
	} else {
		e.RawJSON("orphan", null)
	}
	e.Send()
	return nil
}

func known(e *zerolog.Event, key string, known bool, n uint64) {
	if known {
		e.Uint64(key, n)
	} else {
		e.RawJSON(key, null)
	}
}
