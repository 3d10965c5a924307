package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"

	"finwait/internal/conns"
	"finwait/internal/families"
	"finwait/internal/label"
	"finwait/internal/otlp"
	"finwait/internal/source"
	"finwait/tracer"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
)

// otlpFlags are what serve sends to OpenTelemetry.
type otlpFlags struct {
	url  string // "": nothing is sent
	logs string // of what there are log records; "": of nothing
	room int

	only tracer.Filter // the transitions that have records
}

// byEnvironment stands for a URL that is not given.
const byEnvironment = "environment"

// Of what there are log records.
const (
	logTransitions = "transitions"
	logConnections = "connections"
)

func (f *otlpFlags) register(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.url, "otlp", "", "also send the metrics to the OpenTelemetry collector at this `URL`; environment: OTEL_EXPORTER_OTLP_ENDPOINT, else "+otlp.DefaultURL)
	fs.Lookup("otlp").NoOptDefVal = byEnvironment
	fs.StringVar(&f.logs, "otlp-logs", "", "with --otlp: also send log records of `what`: "+logTransitions+" or "+logConnections)
	completeWords(cmd, "otlp-logs", []string{logTransitions, logConnections})
	fs.IntVar(&f.room, "otlp-queue", 1<<16, "with --otlp-logs: up to `N` records wait for the collector; each takes about 1.3 KiB")
}

func (f *otlpFlags) check() error {
	switch {
	case f.logs != "" && !slices.Contains([]string{logTransitions, logConnections}, f.logs):
		return fmt.Errorf("--otlp-logs %q: there are %s and %s", f.logs, logTransitions, logConnections)
	case f.logs != "" && f.url == "":
		return errors.New("--otlp-logs needs --otlp")
	case f.room < 1:
		return fmt.Errorf("--otlp-queue %d: at least one", f.room)
	}
	return nil
}

// choose takes the filters on single transitions. They choose log records alone: the metrics count
// every transition of the connections that the other filters pass.
func (f *otlpFlags) choose(filter *tracer.Filter) error {
	f.only = tracer.Filter{States: filter.States, From: filter.From, To: filter.To, Reasons: filter.Reasons, MinDuration: filter.MinDuration}
	if f.only.Picks() && f.logs != logTransitions {
		return errors.New("--state, --from, --to, --reason and --min-duration choose log records: they need --otlp-logs " + logTransitions)
	}
	filter.States, filter.From, filter.To, filter.Reasons, filter.MinDuration = nil, nil, nil, nil, 0
	return f.only.Check()
}

// configure asks the tracer for what log records have.
func (f *otlpFlags) configure(cfg *tracer.Config) {
	if f.logs == "" {
		return
	}
	cfg.TotalsOnly = false
	cfg.RingBytes = connsRing
	cfg.Metrics = f.logs == logConnections
}

// exporting sends to a collector.
type exporting struct {
	exporter *otlp.Exporter
	queue    *otlp.Queue // nil: no log records
	handle   func(*tracer.Transition) error
	logs     *otlp.Logs

	joined    *conns.Sink   // nil: log records are not of connections
	untracked atomic.Uint64 // connections that there was no room for
}

// open gives nil if nothing is to be sent.
func (f *otlpFlags) open(ctx context.Context, set *families.Set, log *zerolog.Logger) (*exporting, error) {
	if f.url == "" {
		return nil, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	o := otlp.Options{Host: host, Version: version(), Families: set, Trouble: func(what string, err error) {
		if err != nil {
			log.Warn().Msgf("%s cannot be sent by OTLP: %v", what, err)
		} else {
			log.Info().Msgf("%s are sent by OTLP again", what)
		}
	}}
	if f.url != byEnvironment {
		o.URL = f.url
	}
	e := new(exporting)
	if e.exporter, err = otlp.New(ctx, o); err != nil || f.logs == "" {
		return e, err
	}
	if e.queue, err = e.exporter.Logs(ctx, f.room); err != nil {
		return nil, err
	}
	e.logs = e.exporter.NewLogs(e.queue, label.New())
	e.handle = e.logs.Transition
	if f.only.Picks() {
		e.handle = func(t *tracer.Transition) error {
			if !f.only.PassesTransition(t) {
				return nil
			}
			return e.logs.Transition(t)
		}
	}
	if f.logs == logConnections {
		e.joined, e.handle = conns.NewSink(e.logs, conns.Options{Most: connsMost}), e.join
	}
	return e, nil
}

// join makes a record if a connection has ended.
func (e *exporting) join(t *tracer.Transition) error {
	err := e.joined.Transition(t)
	e.untracked.Store(e.joined.Untracked())
	return err
}

// withoutRoom is nil if there are no log records of connections.
func (e *exporting) withoutRoom() *uint64 {
	if e == nil || e.joined == nil {
		return nil
	}
	n := e.untracked.Load()
	return &n
}

// lost is nil if there are no log records.
func (e *exporting) lost() *uint64 {
	if e == nil || e.queue == nil {
		return nil
	}
	n := e.queue.Lost()
	return &n
}

// run sends until the context is done, and then what is left. In the end it says what became of the
// log records.
func (e *exporting) run(ctx context.Context, from source.Live, log *zerolog.Logger) {
	streamed := make(chan struct{})
	go func() {
		defer close(streamed)
		if e.queue == nil {
			return
		}
		if err := from.Run(ctx, e.handle); err != nil {
			log.Warn().Msgf("log records end here: %v", err)
		}
		e.logs.Shutdown()
		e.account(from, log)
	}()
	e.exporter.Run(ctx)
	<-streamed
}

func (e *exporting) account(from source.Live, log *zerolog.Logger) {
	st, err := from.Stats()
	if err != nil {
		log.Warn().Msgf("what was lost on the way to log records is not known: %v", err)
		return
	}
	lost, untracked := e.queue.Lost(), e.untracked.Load()
	entry, msg := log.Info(), "every log record was sent"
	if lost+untracked+st.Lost.Total() > 0 {
		entry, msg = log.Warn(), "not every transition is in a log record that was sent"
	}
	logLost(entry.Uint64("sent", e.queue.Sent()), st.Lost).Uint64("export", lost)
	if e.joined != nil {
		entry.Uint64("untracked", untracked)
	}
	entry.Msg(msg)
}
