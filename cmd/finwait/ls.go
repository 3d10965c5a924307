package main

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	sockets bool
	columns values
	sort    string
	out     outputFlags
}

func newLs(stderr io.Writer) *cobra.Command {
	var o lsOptions
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "Count or list the TCP sockets that there are now",
		Long: `Count the TCP sockets in each state, or list them, in all network namespaces
that can be reached. ls asks the kernel as ss does, with sock_diag(7). It needs
no BPF.

--sockets shows the usual columns, or those of --columns, or --columns all. Of
the usual ones a terminal that is too narrow loses CGROUP, UID, LEFT, TIMER,
NETNS, COMM, HELD, AGE and PID, in this order. JSON has everything. "-" is what
is not known. The columns:
  netns           inode number of the network namespace
  state           as RFC 9293 calls it
  recv-q, send-q  bytes that the process has not read, and that the peer has not
                  acknowledged; of a listener the connections that nobody has
                  accepted yet, and how many may wait
  local, remote   addresses and ports
  pid, comm, fd   the process that holds the socket, and its descriptor
  uid             the user of the socket
  role            listener; server or client only where that is certain
  timer, left     the kernel's timer of the socket, and when it fires
  retries         retransmissions, or probes, of this timer without an answer
  age             ">": so long in its state, at least
  idle            "~": no data was sent or received for so long, to the tick
  held            held by a process; queued for accept(2), by nobody yet; or an
                  orphan, which no process has any more
  cgroup          path of the cgroup, or its number

The age of a TIME_WAIT is 60 s less what is left of its timer; a segment that
arrives starts the 60 s again. In CLOSE_WAIT, CLOSING and FIN_WAIT_2 the age is
the time without a segment that acknowledges something, in ESTABLISHED the time
without sending data: the state can only be older. An orphan in FIN_WAIT_2,
LAST_ACK and the other states give no age. --min-age leaves out what is not known to be so
old, and says how much that is.

A socket in FIN_WAIT_2 that a process holds has no timer: it stays until the peer
closes, or the process does. For a socket in TIME_WAIT, an orphan in FIN_WAIT_2
and a handshake (NEW_SYN_RECV) the kernel keeps no user, no cgroup and no process.
A filter on one of these does not list such sockets. It counts them under
OWNER_UNKNOWN: "-" is a number that cannot be known for them.`,
		Args: rejectArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
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
	fs.DurationVar(&o.minAge, "min-age", 0, "time that a socket is known to be in its state, at least")
	fs.Var(&o.columns, "columns", "with --sockets: show these `columns`, or all")
	fs.StringVar(&o.sort, "sort", "", "sort the sockets by `column`, -column backwards")
	completeWords(cmd, "columns", append(sockets.ColumnNames(), "all"))
	completeWords(cmd, "sort", sockets.ColumnNames())
	o.out.register(fs)
	return cmd
}

func (o *lsOptions) check() error {
	switch {
	case o.sort != "" && !o.sockets:
		return errors.New("--sort needs --sockets: states are listed in one order")
	case len(o.columns) > 0 && !o.sockets:
		return errors.New("--columns needs --sockets: they are columns of sockets")
	case len(o.columns) > 0 && o.out.output != "text":
		return errors.New("--columns is for text: JSON has everything")
	case o.minAge < 0:
		return fmt.Errorf("min-age %v is negative", o.minAge)
	}
	return o.out.check()
}

// A lsView is how what is read is shown.
type lsView struct {
	columns sockets.Columns
	order   func(a, b *sockets.Row) int
	need    sockets.Need
}

func (o *lsOptions) view() (v lsView, err error) {
	if err := o.check(); err != nil {
		return v, err
	}
	if v.columns, err = sockets.ParseColumns(o.columns); err != nil {
		return v, err
	}
	if v.order, v.need, err = sockets.Order(o.sort); err != nil {
		return v, err
	}
	switch {
	case !o.sockets:
	case o.out.output == "json":
		v.need |= sockets.NeedOwners | sockets.NeedInfo
	default:
		v.need |= v.columns.Need()
	}
	return v, nil
}

func (o *lsOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	view, err := o.view()
	if err != nil {
		return usage(err)
	}
	if err := checkProc(); err != nil {
		return err
	}
	filter, err := o.filters.filter()
	if err != nil {
		return usage(err)
	}
	sel, err := sockets.Select(filter)
	if err != nil {
		return usage(err)
	}
	sel.MinAge = o.minAge
	log := logger(stderr)
	warnLacking(log, missingForLs)
	reader, err := sockets.NewReader(sel, sockets.Options{NetNS: o.filters.spaces, Need: view.need}, log)
	if err != nil {
		return err
	}

	out := newOutput(stdout)
	var s sockets.Sink = sockets.NewText(out, text.Coloured(stdout, o.out.color), text.Width(stdout), view.columns, reader.CgroupPath)
	if o.out.output == "json" {
		s = sockets.NewJSON(out)
	}
	show, finish := s.Socket, func() error { return nil }
	switch {
	case !o.sockets:
		show, finish = sockets.Count(sel, s)
	case view.order != nil:
		show, finish = sockets.Collect(view.order, s)
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
		o.sayLeftOut(sel, log)
	}
	if flushed := out.Flush(); flushed != nil { // the first error of writing
		return flushed
	}
	return err
}

// sayLeftOut says what may belong to the answer and is not in it.
func (o *lsOptions) sayLeftOut(sel *sockets.Selection, log *zerolog.Logger) {
	if n := sel.Unknown(); o.sockets && n > 0 {
		log.Info().Msgf("not listed: %s sockets whose owner is not known, and that match all else", text.Count(n))
	}
	if younger, ageless := sel.NotOldEnough(); younger+ageless > 0 {
		log.Info().Msgf("left out: %s sockets that are not known to be %v in their state: %s may be younger, of %s no age is known",
			text.Count(younger+ageless), o.minAge, text.Count(younger), text.Count(ageless))
	}
}
