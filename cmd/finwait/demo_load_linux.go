package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"finwait/internal/load"
	"finwait/internal/scenario"
	"finwait/tracer"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// connectors is how many threads connect to a server that is not ours, and that may be far.
const connectors = 16

type loadOptions struct {
	rate, closer, connect, output string
	count                         int
	hold                          time.Duration
}

func newDemoLoad(stderr io.Writer) *cobra.Command {
	var o loadOptions
	cmd := &cobra.Command{
		Use:   "load",
		Short: "Make so many connections, so fast",
		Long: `Make connections, for something to be traced: at a rate, held for a time, and
closed by the end that is asked for. Both ends are in a network namespace of
their own that is removed afterwards, unless --connect names a server.

It ends with 1 if not all connections could be made.`,
		Args: rejectArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), stderr)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&o.rate, "rate", "200/s", "connections per second: `N/s`, N/m or max")
	fs.IntVar(&o.count, "count", 10000, "`number` of connections")
	fs.DurationVar(&o.hold, "hold", 5*time.Millisecond, "how long each stays open")
	fs.StringVar(&o.closer, "closer", "client", "`who` closes first: client, server, both, or reset: the client, by an RST")
	fs.StringVar(&o.connect, "connect", "", "connect to `HOST:PORT`, from here, instead of to itself")
	fs.StringVarP(&o.output, "output", "o", "text", "output `format`: text or json")
	return cmd
}

// config is what the flags ask for. Only a name is not looked up yet.
func (o *loadOptions) config() (cfg load.Config, err error) {
	if o.output != "text" && o.output != "json" {
		return cfg, fmt.Errorf("output format %q: there are text and json", o.output)
	}
	cfg = load.Config{Count: o.count, Hold: o.hold, Workers: min(4, runtime.GOMAXPROCS(0))}
	if cfg.Rate, err = load.ParseRate(o.rate); err != nil {
		return cfg, err
	}
	if cfg.Closer, err = load.ParseCloser(o.closer); err != nil {
		return cfg, err
	}
	if o.connect != "" {
		if _, _, err := net.SplitHostPort(o.connect); err != nil {
			return cfg, fmt.Errorf("--connect %q: not HOST:PORT", o.connect)
		}
		cfg.Workers = connectors
		cfg.Connect = netip.AddrPortFrom(netip.IPv4Unspecified(), 0) // for Check
	}
	return cfg, cfg.Check()
}

func (o *loadOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	cfg, err := o.config()
	if err != nil {
		return usage(err)
	}
	var st *scenario.Stage
	if o.connect == "" {
		if st, err = scenario.Open(); err != nil {
			return err
		}
		defer st.Close()
		cfg.NetNS = st.Path()
	} else {
		addr, err := net.ResolveTCPAddr("tcp", o.connect)
		if err != nil {
			return err
		}
		to := addr.AddrPort()
		cfg.Connect = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	}

	var done atomic.Int64
	stop := progress(stderr, &done, int64(o.count))
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
		loadJSON(out, &sum, waits)
	} else {
		loadText(out, &sum, waits)
	}
	if err := out.Flush(); err != nil {
		return err
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted after %d of %d connections", sum.Made, o.count)
	case sum.Made < o.count:
		return fmt.Errorf("%d of %d connections could not be made", o.count-sum.Made, o.count)
	}
	return nil
}

// progress draws a bar on a terminal until it is stopped.
func progress(w io.Writer, done *atomic.Int64, total int64) (stop func()) {
	const width = 50
	if f, ok := w.(*os.File); !ok || !isTerminal(f) {
		return func() {}
	}
	quit, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			n := done.Load()
			full := int(n * width / total)
			fmt.Fprintf(w, "\r[%s%s] %d of %d", strings.Repeat("#", full), strings.Repeat(".", width-full), n, total)
			select {
			case <-tick.C:
			case <-quit:
				fmt.Fprint(w, "\r\x1b[K")
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-gone
	}
}

var quantiles = []struct {
	name string
	q    float64
}{{"p50", 0.5}, {"p99", 0.99}, {"max", 1}}

func loadText(w io.Writer, sum *load.Summary, waits int) {
	fmt.Fprintf(w, "made      %d connections in %s, %.0f a second\n",
		sum.Made, scenario.Span(sum.Elapsed), float64(sum.Made)/sum.Elapsed.Seconds())
	for err, n := range sum.Failed {
		fmt.Fprintf(w, "failed    %d: %v\n", n, err)
	}
	for i, q := range quantiles {
		if ns, _, ok := sum.Connect.Quantile(q.q); ok {
			fmt.Fprintf(w, "%s%s %s", []string{"connect() ", ", ", ", "}[i], q.name, scenario.Span(time.Duration(ns)))
		}
	}
	if sum.Made > 0 {
		fmt.Fprintln(w)
	}
	if waits >= 0 {
		fmt.Fprintf(w, "left      %d in TIME_WAIT, which go with the namespace\n", waits)
	}
}

func loadJSON(w io.Writer, sum *load.Summary, waits int) {
	log := zerolog.New(w)
	e := log.Log().Str("event", "load").Int("made", sum.Made).Int64("elapsed_ns", int64(sum.Elapsed)).
		Float64("per_second", float64(sum.Made)/sum.Elapsed.Seconds())
	failed := zerolog.Dict()
	for err, n := range sum.Failed {
		name := err.Error()
		if errno, ok := err.(unix.Errno); ok {
			name = unix.ErrnoName(errno)
		}
		failed.Int(name, n)
	}
	e.Dict("failed", failed)
	for _, q := range quantiles {
		ns, _, ok := sum.Connect.Quantile(q.q)
		known(e, "connect_"+q.name+"_ns", ok, ns)
	}
	known(e, "time_wait", waits >= 0, uint64(max(waits, 0)))
	e.Send()
}
