package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"finwait/internal/demo"
	"finwait/internal/load"
	"finwait/internal/scenario"
	"finwait/internal/text"
	"finwait/tracer"

	"github.com/spf13/cobra"
)

// connectors is how many threads connect to a server that is not ours, and that may be far.
const connectors = 16

type loadOptions struct {
	rate, closer, connect, output string
	count                         int
	hold, linger                  time.Duration
}

func newDemoLoad(stderr io.Writer) *cobra.Command {
	var o loadOptions
	cmd := &cobra.Command{
		Use:   "load",
		Short: "Make so many connections, so fast",
		Example: `  # How fast can this machine make connections?
  finwait demo load --count 1000 --rate max
  # What is left if the server closes first?
  finwait demo load --count 100 --rate 50/s --closer server`,
		Long: `Make connections, so that there is something to trace: at a rate, each held open
for a time, and closed by the end that --closer names. Both ends are in a network
namespace of their own, which is removed afterwards, unless --connect names a
server. --linger 65s keeps the namespace for so long, so that its TIME_WAITs can
be watched to their end.

The number of connections that are open at a time has a limit: 256 for each
thread. There are as many threads as CPUs, at most 4, and 16 with --connect. If
this limit and --hold do not allow --rate, the load is slower, and says so.

The exit code is 1 if not all connections could be made.`,
		Args: rejectArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), stderr)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&o.rate, "rate", "200/s", "connections per second: `N/s`, N/m or max")
	fs.IntVar(&o.count, "count", 10000, "`number` of connections")
	durationVar(fs, &o.hold, "hold", 5*time.Millisecond, "how long each stays open")
	durationVar(fs, &o.linger, "linger", 0, "keep the namespace, and its TIME_WAITs, for so long afterwards")
	fs.StringVar(&o.closer, "closer", "client", "`who` closes first: client, server, both, or reset: the client, by an RST")
	complete(cmd, "closer", []load.Closer{load.Client, load.Server, load.Both, load.Reset})
	fs.StringVar(&o.connect, "connect", "", "connect to `HOST:PORT`, from here, instead of to itself")
	fs.StringVarP(&o.output, "output", "o", "text", "output `format`: text or json")
	return cmd
}

// config is what the flags ask for. Only a name is not looked up yet.
func (o *loadOptions) config() (cfg load.Config, err error) {
	if err := checkFormat(o.output); err != nil {
		return cfg, err
	}
	cfg = load.Config{Count: o.count, Hold: o.hold, Workers: min(4, runtime.GOMAXPROCS(0))}
	if cfg.Rate, err = load.ParseRate(o.rate); err != nil {
		return cfg, err
	}
	if cfg.Closer, err = load.ParseCloser(o.closer); err != nil {
		return cfg, err
	}
	switch {
	case o.linger < 0:
		return cfg, fmt.Errorf("--linger %v is negative", o.linger)
	case o.linger > 0 && o.connect != "":
		return cfg, errors.New("--linger keeps the namespace of demo load, which --connect has not")
	}
	if o.connect != "" {
		if _, _, err := o.server(); err != nil {
			return cfg, err
		}
		cfg.Workers = connectors
		cfg.Connect = netip.AddrPortFrom(netip.IPv4Unspecified(), 0) // for Check
	}
	return cfg, cfg.Check()
}

// server is the two parts of --connect.
func (o *loadOptions) server() (host string, port uint16, err error) {
	host, service, err := net.SplitHostPort(o.connect)
	if err != nil || host == "" { // which net takes for this machine
		return "", 0, fmt.Errorf("--connect %q: not HOST:PORT", o.connect)
	}
	n, err := net.LookupPort("tcp", service)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("--connect %q: %q is not a port", o.connect, service)
	}
	return host, uint16(n), nil
}

// resolve looks the server's name up. Of several addresses it prefers IPv4, as package net does.
func (o *loadOptions) resolve(ctx context.Context) (to netip.AddrPort, err error) {
	host, port, err := o.server()
	if err != nil {
		return to, err
	}
	if a, err := netip.ParseAddr(host); err == nil { // LookupNetIP drops the zone
		return netip.AddrPortFrom(a.Unmap(), port), nil
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return to, err
	}
	for _, a := range addrs {
		if a = a.Unmap(); !to.IsValid() || a.Is4() && !to.Addr().Is4() {
			to = netip.AddrPortFrom(a, port)
		}
	}
	if !to.IsValid() { // to load.Run that means servers of its own
		return to, fmt.Errorf("--connect %q: no address", o.connect)
	}
	return to, nil
}

func (o *loadOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	cfg, err := o.config()
	if err != nil {
		return usage(err)
	}
	if err := checkProc(); err != nil {
		return err
	}
	var st *scenario.Stage
	if o.connect == "" {
		if st, err = scenario.Open(); err != nil {
			return err
		}
		defer st.Close()
		cfg.NetNS = st.Path()
	} else if cfg.Connect, err = o.resolve(ctx); err != nil {
		return err
	}
	if top := cfg.Ceiling(); cfg.Rate > top {
		logger(stderr).Warn().Msgf("held back: at most %d connections are open at a time, which is %.3g a second with --hold %v", cfg.MaxOpen(), top, cfg.Hold)
	}

	var done atomic.Int64
	stop := text.Progress(stderr, &done, int64(o.count))
	sum, err := load.Run(ctx, cfg, &done)
	stop()
	if err != nil {
		return err
	}
	waits := -1
	if st != nil {
		left, err := st.Left()
		if err != nil {
			return err
		}
		waits = left[uint8(tracer.TimeWait)]
	}
	out := bufio.NewWriter(stdout)
	if o.output == "json" {
		demo.LoadJSON(out, &sum, waits)
	} else {
		demo.LoadText(out, &sum, waits)
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if o.linger > 0 && ctx.Err() == nil {
		logger(stderr).Info().Msgf("the namespace stays for %v; Ctrl-C ends it. To look at it: finwait ls --netns %s", o.linger, strings.Replace(st.NS.Path(), "self", strconv.Itoa(os.Getpid()), 1))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(o.linger):
		}
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted after %d of %d connections", sum.Made, o.count)
	case sum.Made < o.count:
		return fmt.Errorf("%d of %d connections could not be made", o.count-sum.Made, o.count)
	}
	return nil
}
