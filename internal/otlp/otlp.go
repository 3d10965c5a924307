// Package otlp sends metrics and log records to OpenTelemetry, over OTLP/HTTP with protobuf.
//
// The environment variables of the OpenTelemetry specification (OTEL_EXPORTER_OTLP_*,
// OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME, OTEL_METRIC_EXPORT_INTERVAL) fill what Options leave
// open.
package otlp

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
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

	mu       sync.Mutex
	trouble  map[string]string // what is said to fail, and why
	ports    []uint16
	starting bool    // the environment is being read
	wrong    []error // what the SDK has said of it
}

// New reads the environment, and certificates that it names. It connects to nothing.
func New(ctx context.Context, o Options) (*Exporter, error) {
	if err := checkEnvironment(); err != nil {
		return nil, err
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
	otel.SetLogger(logr.New(&sdkLog{e.fromSDK}))
	otel.SetErrorHandler(otel.ErrorHandlerFunc(e.fromSDK))
	var err error
	e.resource, err = resource.New(ctx,
		resource.WithAttributes(
			attribute.String("service.name", "finwait"), attribute.String("service.version", o.Version), attribute.String("host.name", o.Host)),
		resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	to, err := e.endpoint("metrics")
	if err != nil {
		return nil, err
	}
	err = e.start(func() (err error) {
		e.metrics, err = otlpmetrichttp.New(ctx, otlpmetrichttp.WithEndpointURL(to))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("send metrics by OTLP: %w", err)
	}
	return e, nil
}

// checkEnvironment refuses what would be ignored.
func checkEnvironment() error {
	for _, of := range []struct {
		setting string
		can     []string
	}{
		{"PROTOCOL", []string{"http/protobuf"}},
		{"COMPRESSION", []string{"none", "gzip"}},
		{"TEMPORALITY_PREFERENCE", []string{"cumulative"}},
	} {
		for _, signal := range []string{"", "METRICS_", "LOGS_"} {
			variable := "OTEL_EXPORTER_OTLP_" + signal + of.setting
			if v := os.Getenv(variable); v != "" && !slices.Contains(of.can, strings.ToLower(v)) {
				return fmt.Errorf("%s=%s: finwait can do %s only", variable, v, strings.Join(of.can, " and "))
			}
		}
	}
	return nil
}

// start makes an exporter. The SDK goes on without what it cannot use of the environment, such as a
// certificate, and tells its logger or its error handler: here that is an error.
func (e *Exporter) start(exporter func() error) error {
	e.mu.Lock()
	e.starting, e.wrong = true, nil
	e.mu.Unlock()
	err := exporter()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.starting = false
	if err == nil && len(e.wrong) > 0 {
		err = e.wrong[0]
	}
	if err == nil {
		return nil
	}
	why, _, _ := strings.Cut(err.Error(), "\n")
	if variable := headersVariable.FindString(why); variable != "" { // it may have a password, and so has the error
		return fmt.Errorf("%s: it is a list of key=value", variable)
	}
	return errors.New(why)
}

var headersVariable = regexp.MustCompile(`OTEL_EXPORTER_OTLP_(LOGS_|METRICS_)?HEADERS`)

// fromSDK is what the SDK says is wrong.
func (e *Exporter) fromSDK(err error) {
	e.mu.Lock()
	if e.starting {
		e.wrong = append(e.wrong, err)
		e.mu.Unlock()
		return
	}
	e.mu.Unlock()
	e.say("some data", err)
}

// endpoint is where a signal goes: where Options say, else the environment, else DefaultURL. The path
// of the signal is added to all of these but OTEL_EXPORTER_OTLP_METRICS_ENDPOINT and its like
// (OpenTelemetry Protocol Exporter, "Endpoint URLs for OTLP/HTTP").
func (e *Exporter) endpoint(signal string) (string, error) {
	own := "OTEL_EXPORTER_OTLP_" + strings.ToUpper(signal) + "_ENDPOINT"
	from, base := "--otlp", e.options.URL
	for _, variable := range []string{own, "OTEL_EXPORTER_OTLP_ENDPOINT"} {
		if base == "" {
			from, base = variable, os.Getenv(variable)
		}
	}
	if base == "" {
		base = DefaultURL
	}
	u, err := url.Parse(base)
	switch {
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "":
		return "", fmt.Errorf("%s: %q is no URL of a collector, such as %s", from, base, DefaultURL)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("%s: a URL of a collector has no user, query or fragment; OTEL_EXPORTER_OTLP_HEADERS can have a password", from)
	case from != own:
		u = u.JoinPath("v1", signal)
	case u.Path == "":
		u.Path = "/"
	}
	if u.Scheme == "https" {
		_, _ = x509.SystemCertPool() // it stays in memory: later the files may be out of reach
	}
	return u.String(), e.addPort(u)
}

// addPort adds the port that is connected to for a URL: its own, or that of a proxy.
func (e *Exporter) addPort(to *url.URL) error {
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: to})
	if err != nil {
		return fmt.Errorf("the proxy for %s: %w", to.Host, err)
	}
	if proxy != nil {
		to = proxy
	}
	service := to.Port()
	if service == "" {
		service = to.Scheme
	}
	port, err := net.LookupPort("tcp", service)
	if err != nil {
		return fmt.Errorf("the port of %s: %w", to.Host, err)
	}
	e.ports = append(e.ports, uint16(port))
	return nil
}

// Ports are the TCP ports that it connects to.
func (e *Exporter) Ports() []uint16 { return e.ports }

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
	to, err := e.endpoint("logs")
	if err != nil {
		return nil, err
	}
	var exporter *otlploghttp.Exporter
	err = e.start(func() (err error) {
		// The queue tries again.
		exporter, err = otlploghttp.New(ctx, otlploghttp.WithEndpointURL(to), otlploghttp.WithRetry(otlploghttp.RetryConfig{}))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("send log records by OTLP: %w", err)
	}
	return newQueue(e, exporter, room), nil
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
		if warned(err) {
			err = nil
		}
		e.say("metrics", err)
	}
}

// An sdkLog takes the warnings and errors of the SDK's logger. Their values are left out: they may be
// passwords.
type sdkLog struct{ to func(error) }

// Init does nothing.
func (*sdkLog) Init(logr.RuntimeInfo) {}

// Enabled is true for warnings, which have level 1, and for errors, which are not asked about.
func (*sdkLog) Enabled(level int) bool { return level <= 1 }

// Info takes a warning.
func (l *sdkLog) Info(_ int, msg string, _ ...any) { l.to(errors.New(msg)) }

// Error takes an error.
func (l *sdkLog) Error(err error, msg string, _ ...any) { l.to(fmt.Errorf("%s: %w", msg, err)) }

// WithValues leaves them out.
func (l *sdkLog) WithValues(...any) logr.LogSink { return l }

// WithName leaves it out.
func (l *sdkLog) WithName(string) logr.LogSink { return l }
