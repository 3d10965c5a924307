package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"finwait/internal/confine"
	"finwait/internal/doctor"
	"finwait/internal/families"
	"finwait/internal/meter"
	"finwait/internal/metrics"
	"finwait/internal/privilege"
	"finwait/internal/web"
	"finwait/tracer"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
)

type serveOptions struct {
	tracing  tracingFlags
	server   web.Server
	address  values
	hosts    values
	by       string
	limit    int
	refresh  time.Duration
	estimate bool
	otlp     otlpFlags
}

// serveSplits are what metrics can be split by: names that stay. Ports of clients, addresses and pids
// are so many in time that who stores the series would fail.
func serveSplits() []string {
	words := append(wordsOf([]tracer.Split{tracer.SplitPort, tracer.SplitComm, tracer.SplitNetNS}), cgroupWords()...)
	slices.Sort(words)
	return words
}

func newServe(stderr io.Writer) *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve a live page, metrics and findings over HTTP",
		Example: `  # How many series will finwait serve have?
  finwait serve --estimate
  # And with some for each server's port?
  finwait serve --by port --estimate`,
		Long: `Serve what stat counts, as a page and as metrics for Prometheus, and what doctor
finds, on http://` + web.DefaultAddress + ` until Ctrl-C:

  /           a page: the state machine of TCP, live (docs/page.md)
  /metrics    docs/metrics.md lists them
  /findings   those of doctor --snapshot, as JSON
  /-/healthy  the programs can be read
  /-/ready    so can the rest

A scrape reads what the kernel has counted until that moment. What takes longer is
read every --refresh: the findings, the sockets and ports that they are about, and
the comparison with the kernel's own counters. Metrics say when that was. A
refresh takes 5 % of one CPU's time at most: if it takes long, the next comes later.

With --by there are metrics for each group of sockets, at most for --limit groups.
The others are one group, ` + families.Other + `. A workload is guessed from the pod's name.

Only this host can connect, unless --web.listen-address says otherwise. Then
--web.config.file must ask for TLS, and for passwords or client certificates:
the file of Prometheus exporters (exporter-toolkit). --web.any-address does without.
SECURITY.md says what is shown to whom.`,
		Args: rejectArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), stderr)
		},
	}
	fs := cmd.Flags()
	o.tracing.registerConnections(cmd)
	o.tracing.filters.registerTransitions(fs, "log records: ")
	completeTransitions(cmd)
	fs.Var(&o.address, "web.listen-address", "listen on these `addresses`, such as 127.0.0.1:80 or [::1]:80 (default "+web.DefaultAddress+")")
	fs.BoolVar(&o.server.Activated, "web.systemd-socket", false, "listen on the sockets that systemd passes, and no others")
	fs.StringVar(&o.server.ConfigFile, "web.config.file", "", "read TLS and passwords from this `file`")
	fs.BoolVar(&o.server.AnyAddress, "web.any-address", false, "listen on other addresses than loopback also without TLS and passwords")
	fs.Var(&o.hosts, "web.host", "answer clients that ask for these `names`, beside localhost and IP addresses")
	fs.StringVar(&o.by, "by", "", "metrics also by `what`: "+strings.Join(serveSplits(), ", "))
	completeWords(cmd, "by", serveSplits())
	fs.IntVar(&o.limit, "limit", 50, "with --by: at most `N` groups have metrics of their own")
	durationVar(fs, &o.refresh, "refresh", 15*time.Second, "how often to look for findings and to compare with the kernel's counters; 0: never")
	o.otlp.register(cmd)
	fs.BoolVar(&o.estimate, "estimate", false, "print how many series there will be, and end")
	return cmd
}

func (o *serveOptions) check(_ *tracer.Filter) error {
	switch {
	case o.by != "" && !slices.Contains(serveSplits(), o.by):
		return fmt.Errorf("--by %q: metrics can be split by %s", o.by, strings.Join(serveSplits(), ", "))
	case o.limit < 1:
		return fmt.Errorf("--limit %d: at least one", o.limit)
	case o.refresh < 0:
		return fmt.Errorf("--refresh %v is negative", o.refresh)
	case o.refresh > 0 && o.refresh < time.Second:
		return fmt.Errorf("--refresh %v: the shortest is 1s", o.refresh)
	case o.server.Activated && len(o.address) > 0:
		return errors.New("--web.systemd-socket: the addresses are those of the socket unit")
	}
	if err := o.otlp.check(); err != nil {
		return err
	}
	o.server.Addresses, o.server.Hosts = o.address, o.hosts
	if len(o.address) == 0 && !o.server.Activated {
		o.server.Addresses = []string{web.DefaultAddress}
	}
	return nil
}

func (o *serveOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	log := logger(stderr)
	if o.estimate {
		if err := o.check(nil); err != nil {
			return usage(err)
		}
		return families.Estimate(stdout, o.metrics())
	}
	cfg, err := o.config(ctx, log)
	if err != nil {
		return err
	}
	set := families.New(o.metrics())
	export, err := o.otlp.open(ctx, set, log)
	if err != nil {
		return usage(err)
	}
	if err := o.server.Listen(); err != nil {
		return usage(err)
	}
	defer o.server.Close()
	live, err := attach(cfg, missingForTrace)
	if err != nil {
		return err
	}
	defer live.Close()
	names := cgroupNames(o.by)
	m, err := meter.Start(live, meter.Options{By: cfg.SplitBy, Top: math.MaxInt, Names: names})
	if err != nil {
		return err
	}
	if err := giveUp(live, o.need(export), log); err != nil {
		return err
	}
	return o.serve(ctx, &serving{live: live, meter: m}, set, export, &cfg, log)
}

// config is what the flags ask for. An error is the user's, or that there is no /proc.
func (o *serveOptions) config(ctx context.Context, log *zerolog.Logger) (tracer.Config, error) {
	cfg, err := o.tracing.config(ctx, log, o.check)
	if err != nil {
		return cfg, err
	}
	if err := o.otlp.choose(&cfg.Filter); err != nil {
		return cfg, usage(err)
	}
	if cfg.SplitBy, err = splitBy(o.by); err != nil {
		return cfg, usage(err)
	}
	if err := cfg.Filter.Check(); err != nil {
		return cfg, usage(err)
	}
	cfg.TotalsOnly, cfg.Audit = true, o.refresh > 0 && !cfg.Filter.Picks()
	cfg.GroupSums, cfg.GroupStates = true, 32<<10 // some 4 MB: groups come and go for weeks
	o.otlp.configure(&cfg)
	return cfg, nil
}

// metrics are the options that do not need a tracer.
func (o *serveOptions) metrics() *families.Options {
	return &families.Options{By: o.by, Limit: o.limit, Refresh: o.refresh > 0, Rules: len(doctor.Rules()), Version: version(), Export: o.otlp.logs != ""}
}

// need is what is still needed while it serves.
func (o *serveOptions) need(export *exporting) (n confine.Need) {
	if o.refresh > 0 { // it enters the namespaces that there are then, and finds who holds which socket
		n.Capabilities = []string{privilege.SysPtrace, privilege.SysAdmin, privilege.DACReadSearch}
		n.Files = true
	}
	if o.server.ConfigFile != "" { // it is read again for each connection, with the certificates
		n.Files = true
	}
	if export != nil {
		n.ConnectTo = export.exporter.Ports()
	}
	return (&nameFlag{cgroupNames(o.by) != nil || o.otlp.logs != ""}).need(n)
}

// serve answers requests until the context is done.
func (o *serveOptions) serve(ctx context.Context, s *serving, set *families.Set, export *exporting, cfg *tracer.Config, log *zerolog.Logger) error {
	defer watchNetNS(ctx, o.tracing.filters.spaces, log)()
	s.begin(o, export)
	shownPage, err := startPage(s.live, o, cfg)
	if err != nil {
		return err
	}
	r := &refresher{live: s.live, every: o.refresh, cfg: cfg, spaces: o.tracing.filters.spaces, page: shownPage.page, log: log}
	set.Options.Read, set.Options.Refreshed = s.read, r.metrics
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer func() { cancel(); running.Wait() }()
	running.Go(func() { shownPage.run(ctx, log) })
	if o.refresh > 0 {
		running.Go(func() { r.run(ctx) })
	}
	if export != nil {
		running.Go(func() { export.run(ctx, s.live, log) })
	}
	lines := connectionLog(log)
	o.server.Log = lines.Writer()
	o.server.Pages = []web.Page{
		{Path: "/", Handler: shownPage.page},
		{Path: "/metrics", About: "metrics for Prometheus", Handler: metrics.Handler(set, lines)},
		{Path: "/findings", About: "what finwait doctor finds, as JSON lines", Handler: r},
		{Path: "/-/healthy", About: "whether finwait can read its programs", Handler: probe(s.healthy)},
		{Path: "/-/ready", About: "whether it has looked for findings", Handler: probe(r.ready)},
	}
	for _, a := range o.server.Addrs() {
		log.Info().Msgf("serving on %v; Ctrl-C ends it", a)
	}
	if err := o.server.Serve(ctx); err != nil {
		return fmt.Errorf("serve HTTP: %w", err)
	}
	return nil
}

// connectionLog is for what goes wrong with single clients, which may cause it as they like.
func connectionLog(l *zerolog.Logger) *log.Logger {
	if l.GetLevel() > zerolog.DebugLevel {
		return log.New(io.Discard, "", 0)
	}
	return log.New(l, "", 0)
}
