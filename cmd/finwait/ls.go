package main

import (
	"context"
	"errors"
	"io"
	"strings"

	"finwait/internal/sockets"
	"finwait/internal/text"
	"finwait/tracer"

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
		Long: `Count the TCP sockets in each state, or list them, in all network namespaces that
can be reached. ls asks the kernel as ss does, with sock_diag(7). It needs no BPF.

Only a TIME_WAIT has a known age: 60 s less what is left of its timer. ">" means:
at least so long, because a segment that arrives starts the 60 s again. An orphan
in FIN_WAIT_2 has a timer. A socket in FIN_WAIT_2 that a process holds has none:
it stays until the peer closes, or the process does. For a socket in TIME_WAIT,
an orphan in FIN_WAIT_2 and a handshake (NEW_SYN_RECV) the kernel keeps no user,
no cgroup and no process. A filter on one of these does not list such sockets. It
counts them under OWNER_UNKNOWN: "-" is a number that cannot be known for them.`,
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
	fs.StringVar(&o.sort, "sort", "", "sort the sockets by `field`, -field backwards: "+strings.Join(sockets.SortFields(), ", "))
	o.out.register(fs)
	return cmd
}

func (o *lsOptions) check() error {
	if o.sort != "" && !o.sockets {
		return errors.New("--sort needs --sockets: states are listed in one order")
	}
	return o.out.check()
}

func (o *lsOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	if err := o.check(); err != nil {
		return usage(err)
	}
	order, err := sockets.Order(o.sort)
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
	log := logger(stderr)
	warnLacking(log, missingForLs)
	reader, err := sockets.NewReader(sel, sockets.Options{
		NetNS: o.filters.spaces, Owners: o.sockets, CgroupPaths: o.sockets && o.out.output == "text",
	}, log)
	if err != nil {
		return err
	}

	out := newOutput(stdout)
	var s sockets.Sink = sockets.NewText(out, text.Coloured(stdout, o.out.color), reader.CgroupPath)
	if o.out.output == "json" {
		s = sockets.NewJSON(out)
	}
	show, finish := s.Socket, func() error { return nil }
	switch {
	case !o.sockets:
		show, finish = sockets.Count(sel, s)
	case order != nil:
		show, finish = sockets.Collect(order, s)
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
	if n := sel.Unknown(); err == nil && o.sockets && n > 0 {
		log.Info().Msgf("not listed: %s sockets whose owner is not known, and that match all else", text.Count(n))
	}
	if flushed := out.Flush(); flushed != nil { // the first error of writing
		return flushed
	}
	return err
}
