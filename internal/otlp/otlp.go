// Package otlp sends metrics and log records to OpenTelemetry, over OTLP/HTTP with protobuf.
//
// The environment variables of the OpenTelemetry specification (OTEL_EXPORTER_OTLP_*,
// OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME, OTEL_METRIC_EXPORT_INTERVAL) fill what Options leave
// open.
package otlp

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"finwait/internal/families"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
)

// DefaultURL is where the specification says that a collector listens.
const DefaultURL = "http://localhost:4318"

// Options say what is sent, and where.
type Options struct {
	// URL is the collector's, without /v1/metrics and /v1/logs; "": the environment says, or DefaultURL.
	URL           string
	Host, Version string // of this finwait
	Families      *families.Set

	// Trouble is told when sending begins to fail, and, with a nil error, when it works again. what is
	// what is sent.
	Trouble func(what string, err error)
}

// An Exporter sends metrics, and log records if it is asked for.
type Exporter struct {
	options  Options
	metrics  *otlpmetrichttp.Exporter
	resource *resource.Resource
	scope    instrumentation.Scope
	interval time.Duration

	mu      sync.Mutex
	trouble map[string]string // what is said to fail, and why
}

// New reads the environment, and certificates that it names. It connects to nothing.
func New(ctx context.Context, o Options) (*Exporter, error) {
	for _, variable := range []string{"OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL"} {
		if v := os.Getenv(variable); v != "" && v != "http/protobuf" {
			return nil, fmt.Errorf("%s=%s: finwait speaks http/protobuf only", variable, v)
		}
	}
	e := &Exporter{
		options: o, trouble: make(map[string]string), interval: time.Minute,
		scope: instrumentation.Scope{Name: "finwait", Version: o.Version},
	}
	if v := os.Getenv("OTEL_METRIC_EXPORT_INTERVAL"); v != "" {
		ms, err := strconv.ParseUint(v, 10, 31)
		if err != nil || ms == 0 {
			return nil, fmt.Errorf("OTEL_METRIC_EXPORT_INTERVAL=%s: it is a number of milliseconds", v)
		}
		e.interval = time.Duration(ms) * time.Millisecond
	}
	// The SDK would write to stderr by itself.
	otel.SetLogger(logr.Discard())
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { e.say("some data", err) }))
	var err error
	e.resource, err = resource.New(ctx,
		resource.WithAttributes(
			attribute.String("service.name", "finwait"), attribute.String("service.version", o.Version), attribute.String("host.name", o.Host)),
		resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	options := []otlpmetrichttp.Option{}
	if to, err := e.endpoint("metrics"); err != nil {
		return nil, err
	} else if to != "" {
		options = append(options, otlpmetrichttp.WithEndpointURL(to))
	}
	if e.metrics, err = otlpmetrichttp.New(ctx, options...); err != nil {
		return nil, fmt.Errorf("send metrics by OTLP: %w", err)
	}
	return e, nil
}

// endpoint is where a signal goes; "": where the environment says.
func (e *Exporter) endpoint(signal string) (string, error) {
	base := e.options.URL
	if base == "" {
		if os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_"+strings.ToUpper(signal)+"_ENDPOINT") != "" {
			return "", nil
		}
		base = DefaultURL
	}
	u, err := url.Parse(base)
	if err != nil {
		return "", fmt.Errorf("the URL of a collector: %w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return "", fmt.Errorf("%q is no URL of a collector, such as %s", base, DefaultURL)
	}
	return u.JoinPath("v1", signal).String(), nil
}

// say tells Trouble what has changed.
func (e *Exporter) say(what string, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	why := ""
	if err != nil {
		why = err.Error()
	}
	// Until it works again, one error is enough: the next may differ in a port only.
	if (why == "") != (e.trouble[what] == "") {
		e.options.Trouble(what, err)
	}
	e.trouble[what] = why
}

// Logs makes a queue for log records. It has room for so many.
func (e *Exporter) Logs(ctx context.Context, room int) (*Queue, error) {
	options := []otlploghttp.Option{otlploghttp.WithRetry(otlploghttp.RetryConfig{})} // the queue tries again
	if to, err := e.endpoint("logs"); err != nil {
		return nil, err
	} else if to != "" {
		options = append(options, otlploghttp.WithEndpointURL(to))
	}
	to, err := otlploghttp.New(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("send log records by OTLP: %w", err)
	}
	return newQueue(e, to, room), nil
}

// Run sends the metrics every minute, or as OTEL_METRIC_EXPORT_INTERVAL says, and once more in the end,
// for which it has 5 s.
func (e *Exporter) Run(ctx context.Context) {
	every := time.NewTicker(e.interval)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
			defer cancel()
			e.send(last)
			_ = e.metrics.Shutdown(last) // it has no state
			return
		case <-every.C:
			e.send(ctx)
		}
	}
}

// patience is how long what is left may take in the end.
const patience = 5 * time.Second

func (e *Exporter) send(ctx context.Context) {
	all, err := e.collect()
	if err == nil {
		err = e.metrics.Export(ctx, all)
	}
	if ctx.Err() == nil { // otherwise the end has cut it short
		e.say("metrics", err)
	}
}
