package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"finwait/internal/sockets"
	"finwait/internal/text"
	"finwait/tracer"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
)

var errInterrupted = errors.New("interrupted: the list is not complete")

type lsOptions struct {
	filters filterFlags
	minAge  time.Duration
	watch   time.Duration // from reading to reading; 0: there is one
	count   uint64        // of readings; 0: any
	sockets bool
	columns columnFlags[sockets.Entry]
	by      values
	top     int
	sort    string
	out     outputFlags
}

func newLs(stderr io.Writer) *cobra.Command {
	o := lsOptions{columns: columnFlags[sockets.Entry]{all: sockets.Columns}}
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "Count or list the TCP sockets that there are now",
		Example: `  # How many sockets are in each state, in all network namespaces?
  finwait ls
  # Which programs do not close their connections?
  finwait ls --by comm,state --state close-wait
  # Which connections have waited longest to be closed?
  finwait ls --sockets --state close-wait --sort -age
  # How many of the ports towards each destination are used?
  finwait ls --by destination --top 5
  # Who is in LAST_ACK, and for exactly how long? Every two seconds.
  finwait ls --sockets --state last-ack --watch 2
  # What is known of each listener? As JSON.
  finwait ls --sockets --state listen --json`,
		Long: `Count the TCP sockets in each state, or list them, in all network namespaces
that can be reached. ls asks the kernel as ss does, with sock_diag(7). It needs
no BPF. Where BPF is permitted and there are many namespaces, a program lists
the sockets of all of them at once, in the order of the kernel's table.

--sockets lists each socket; --columns help says what the columns are. "-" is
what is not known.

The age of a TIME_WAIT is 60 s less what is left of its timer; a segment that
arrives starts the 60 s again. In CLOSE_WAIT, CLOSING and FIN_WAIT_2 the age is
the time without a segment that acknowledges something, in ESTABLISHED the time
without sending data: the state can only be older. An orphan in FIN_WAIT_2,
LAST_ACK and the other states give no age. --min-age leaves out what is not
known to be so old, and says how much that is. With --watch the programs are
attached: of what changes its state meanwhile they know the age, exactly, and
the role. Without the rights for that, --watch says so and shows what ls can.

--by makes one line for each group of sockets, the largest first: how many, the
least age of the oldest, and how many are in each state. The last lines are the
sum of the others, and what is not known, so that all add up. Two keys, such as
--by comm,state, make a group for each pair. A narrow terminal loses BOUND, then
OLDEST. The keys:
  state           as RFC 9293 calls it
  port            the local port if a socket listens on it in the namespace now,
                  else the remote one
  remote          the address of the other end
  destination     for each namespace, from a local address to a remote address
                  and port. PORTS is how many local ports are used towards it,
                  whatever the filters, of those that connect(2) can choose:
                  ip_local_port_range less ip_local_reserved_ports. BOUND is how
                  many of these are kept from all destinations by listeners and
                  by sockets that are only bound; it is not known before Linux
                  6.8. Ports that were bound and then connected are kept, too,
                  and are not listed
  netns, comm, pid, uid, cgroup
                  as the columns of --sockets
  pod, container, unit
                  names of the cgroup: namespace/name of a pod, or its UID
  handler         the process that uses a connection: it takes tracing to know

A socket in FIN_WAIT_2 that a process holds has no timer: it stays until the
peer closes, or the process does. For a socket in TIME_WAIT, an orphan in
FIN_WAIT_2 and a handshake (NEW_SYN_RECV) the kernel keeps no user, no cgroup
and no process. A filter on one of these does not list such sockets. It counts
them under OWNER_UNKNOWN: "-" is a number that cannot be known for them.`,
		Args: rejectArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(o.by) == 0 && cmd.Flags().Changed("top") {
				return usage(errors.New("--top goes with --by: without groups there are none to show"))
			}
			return o.run(cmd.Context(), cmd.OutOrStdout(), stderr)
		},
	}
	fs := cmd.Flags()
	o.filters.registerConnections(fs)
	fs.Lookup("pid").Usage = "`pid` of the process that holds the socket"
	fs.Lookup("comm").Usage = "`name` of the process that holds the socket"
	fs.Var(&o.filters.states, "state", "`state` of the socket")
	complete(cmd, "state", tracer.States())
	fs.BoolVar(&o.sockets, "sockets", false, "list each socket")
	durationVar(fs, &o.minAge, "min-age", 0, "time that a socket is known to be in its state, at least")
	durationVar(fs, &o.watch, "watch", 0, "read again and again, from `time` to time, with exact ages; Ctrl-C ends it")
	fs.Uint64Var(&o.count, "count", 0, "with --watch: end after `N` readings")
	o.columns.register(cmd, "with --sockets: ")
	fs.Var(&o.by, "by", "one line for each group: by `what`, or by two, with a comma")
	fs.IntVar(&o.top, "top", 10, "with --by: show the first `N` groups, 0: all")
	fs.StringVar(&o.sort, "sort", "", "sort by `column`, -column backwards; groups by "+strings.Join(sockets.SortFields(), ", ")+", or a state")
	completeWords(cmd, "by", sockets.KeyWords())
	completeWords(cmd, "sort", slices.Concat(text.Names(sockets.Columns), sockets.SortFields(), wordsOf(tracer.States())))
	o.out.registerTable(fs)
	return cmd
}

func (o *lsOptions) check() error {
	switch {
	case o.sockets && len(o.by) > 0:
		return errors.New("--sockets lists each socket, and --by groups of them: give one of the two")
	case o.sort != "" && !o.sockets && len(o.by) == 0:
		return errors.New("--sort needs --sockets or --by: states are listed in one order")
	case o.top < 0:
		return fmt.Errorf("--top %d is negative", o.top)
	case len(o.columns.names) > 0 && !o.sockets && !o.columns.listed():
		return errors.New("--columns needs --sockets: they are columns of sockets")
	case o.watch < 0 || o.watch > 0 && o.watch < shortestWatch:
		return fmt.Errorf("--watch %v: the shortest is %v", o.watch, shortestWatch)
	case o.count > 0 && o.watch == 0:
		return errors.New("--count goes with --watch: it is a number of readings")
	case o.columns.check(&o.out) != nil:
		return o.columns.check(&o.out)
	case o.minAge < 0:
		return fmt.Errorf("min-age %v is negative", o.minAge)
	}
	return o.out.check()
}

// A lsView is how what is read is shown.
type lsView struct {
	columns text.Columns[sockets.Entry]
	order   func(a, b *sockets.Row) int
	groups  *sockets.Grouping // nil: there are none
	read    sockets.Options
	names   *sockets.Names // of what order compares; filled in when they were read
}

func (o *lsOptions) view() (v lsView, err error) {
	if err := o.check(); err != nil {
		return v, err
	}
	v.names = new(sockets.Names)
	if v.columns, err = o.columns.chosen(); err != nil {
		return v, err
	}
	switch {
	case len(o.by) > 0:
		if v.groups, err = sockets.NewGrouping(o.by, o.sort, o.top); err != nil {
			return v, err
		}
		v.read.Need, v.read.Every = v.groups.Need(), v.groups.Use
	case o.sockets:
		if v.order, v.read.Need, err = sockets.Order(o.sort, v.names); err != nil {
			return v, err
		}
		if o.out.output == "json" {
			v.read.Need |= sockets.NeedOwners | sockets.NeedInfo | sockets.NeedNames | sockets.NeedCookies
		} else {
			v.read.Need |= sockets.ColumnsNeed(v.columns)
		}
	}
	return v, nil
}

func (o *lsOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	if o.columns.listed() {
		return o.columns.list(stdout)
	}
	_, err := o.view()
	if err != nil {
		return usage(err)
	}
	if err := checkProc(); err != nil {
		return err
	}
	to := &screen{w: stdout}
	q := &lsQuery{log: logger(stderr)}
	if o.watch > 0 {
		q.log = to.log(stderr)
	}
	if q.filter, err = o.filters.filter(); err != nil {
		return usage(err)
	}
	if _, err := sockets.Select(q.filter); err != nil {
		return usage(err)
	}
	warnLacking(q.log, missingForLs)
	if o.watch > 0 {
		return o.keepWatching(ctx, q, to)
	}
	return o.read(ctx, q, stdout, q.log, stdout)
}

// read reads once, and shows that on w as it fits on stdout. notes gets what is to be said of it.
func (o *lsOptions) read(ctx context.Context, q *lsQuery, w io.Writer, notes *zerolog.Logger, stdout io.Writer) error {
	view, err := o.view()
	if err != nil {
		return err
	}
	sel, err := sockets.Select(q.filter)
	if err != nil {
		return err
	}
	sel.MinAge = o.minAge
	view.read.NetNS, view.read.Owners, view.read.Walk, view.read.Live = o.filters.spaces, socketOwners(q.log), socketWalk, q.live
	at := o.reading(q)
	reader, err := sockets.NewReader(sel, view.read, notes)
	if err != nil {
		return err
	}

	*view.names = *reader.Names()
	if view.groups != nil {
		view.groups.Name(reader.Names())
	}
	out := newOutput(w)
	var s sockets.Sink = sockets.NewText(out, o.out.form(stdout), view.columns, reader.Names())
	if o.out.output == "json" {
		s = sockets.NewJSON(out, reader.Names())
	}
	show, finish := s.Socket, func() error { return nil }
	switch {
	case view.groups != nil:
		show, finish = view.groups.Count, func() error {
			table := view.groups.Table()
			if table.HeldUnknown() {
				notes.Info().Msg("BOUND is not known: this kernel does not list sockets that are only bound (Linux 6.8)")
			}
			return s.Groups(table)
		}
	case !o.sockets:
		show, finish = sockets.Count(sel, s)
	case view.order != nil:
		show, finish = sockets.Collect(view.order, s)
	}
	if at != nil {
		if err := s.Reading(at); err != nil {
			return err
		}
	}
	err = reader.Each(func(r *sockets.Row) error {
		if ctx.Err() != nil {
			return errInterrupted
		}
		return show(r)
	})
	if err == nil {
		err = finish()
	}
	if err == nil {
		o.sayLeftOut(sel, notes)
	}
	if flushed := out.Flush(); flushed != nil { // the first error of writing
		return flushed
	}
	return err
}

// sayLeftOut says what may belong to the answer and is not in it.
func (o *lsOptions) sayLeftOut(sel *sockets.Selection, log *zerolog.Logger) {
	if n := sel.Unknown(); (o.sockets || len(o.by) > 0) && n > 0 {
		log.Info().Msgf("not listed: %s sockets whose owner is not known, and that match all else", text.Count(n))
	}
	if younger, ageless := sel.NotOldEnough(); younger+ageless > 0 {
		log.Info().Msgf("left out: %s sockets that are not known to be %v in their state: %s may be younger, of %s no age is known",
			text.Count(younger+ageless), o.minAge, text.Count(younger), text.Count(ageless))
	}
}
