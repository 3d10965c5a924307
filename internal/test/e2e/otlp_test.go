package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A backend takes what the Collector sends on, as JSON.
type backend struct {
	mu      sync.Mutex
	logs    []map[string]string // the attributes of each record, and its event's name
	metrics map[string]series   // by OpenTelemetry's name, as they came last
}

// series are values by attributes, written as a list in order. Histograms and summaries have more than
// one, as in Prometheus: _count, _sum and _bucket, which counts what is not over le.
type series map[string]float64

// A point is one of any kind of metric. encoding/json takes what is there.
type point struct {
	Attributes     []attribute
	AsDouble       *float64
	AsInt          any
	Count          any
	Sum            float64
	BucketCounts   []any
	ExplicitBounds []float64
}

// number reads one of 64 bits: a string, as JSON has none. 0 may be left out.
func number(v any) float64 {
	if v == nil {
		return 0
	}
	n, err := strconv.ParseFloat(fmt.Sprint(v), 64)
	if err != nil {
		panic(err)
	}
	return n
}

func (p *point) add(to series) {
	at := make(map[string]string)
	for i := range p.Attributes {
		at[p.Attributes[i].Key] = p.Attributes[i].text()
	}
	switch {
	case p.AsDouble != nil:
		to[key("", at)] = *p.AsDouble
		return
	case p.AsInt != nil:
		to[key("", at)] = number(p.AsInt)
		return
	}
	to[key("_count", at)], to[key("_sum", at)] = number(p.Count), p.Sum
	sum := 0.0
	for i, n := range p.BucketCounts {
		sum += number(n)
		at["le"] = "+Inf"
		if i < len(p.ExplicitBounds) {
			at["le"] = strconv.FormatFloat(p.ExplicitBounds[i], 'g', -1, 64)
		}
		to[key("_bucket", at)] = sum
	}
}

// key names one series of a metric.
func key(suffix string, attributes map[string]string) string {
	var all []string
	for k, v := range attributes {
		all = append(all, k+"="+v)
	}
	slices.Sort(all)
	return suffix + " " + strings.Join(all, " ")
}

type attribute struct {
	Key   string
	Value struct {
		StringValue *string
		IntValue    any // a string, as JSON has no 64 bits
		BoolValue   *bool
	}
}

func (a *attribute) text() string {
	switch v := &a.Value; {
	case v.StringValue != nil:
		return *v.StringValue
	case v.BoolValue != nil:
		return fmt.Sprint(*v.BoolValue)
	default:
		return fmt.Sprint(v.IntValue)
	}
}

func (b *backend) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	var in struct {
		ResourceLogs []struct {
			ScopeLogs []struct {
				LogRecords []struct {
					EventName  string
					Attributes []attribute
				}
			}
		}
		ResourceMetrics []struct {
			ScopeMetrics []struct {
				Metrics []struct {
					Name                                                 string
					Sum, Gauge, Histogram, ExponentialHistogram, Summary struct{ DataPoints []point }
				}
			}
		}
	}
	text, err := io.ReadAll(r.Body)
	if err != nil || json.Unmarshal(text, &in) != nil {
		panic(fmt.Sprintf("%v: %s", err, text))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, of := range in.ResourceLogs {
		for _, scope := range of.ScopeLogs {
			for _, record := range scope.LogRecords {
				all := map[string]string{"event": record.EventName}
				for i := range record.Attributes {
					all[record.Attributes[i].Key] = record.Attributes[i].text()
				}
				b.logs = append(b.logs, all)
			}
		}
	}
	for _, of := range in.ResourceMetrics {
		for _, scope := range of.ScopeMetrics {
			for _, m := range scope.Metrics {
				got := make(series)
				for _, p := range slices.Concat(m.Sum.DataPoints, m.Gauge.DataPoints, m.Histogram.DataPoints, m.ExponentialHistogram.DataPoints, m.Summary.DataPoints) {
					p.add(got)
				}
				b.metrics[m.Name] = got
			}
		}
	}
}

// read gives a copy of the metrics.
func (b *backend) read() map[string]series {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.metrics) // a series is not changed any more
}

var (
	row        = regexp.MustCompile("(?m)^\\| `(finwait_\\w+)` \\| ([a-z ]+) \\| .* \\| `([a-z_.]+)` \\| [^|]*\\|$")
	sampleLine = regexp.MustCompile(`(?m)^(finwait_\w+?)(_count|_sum|_bucket)?(?:\{(.*)\})? (\S+)$`)
	label      = regexp.MustCompile(`(\w+)="([^"]*)"`)
)

// documented are the names in OpenTelemetry by those in Prometheus, of docs/metrics.md, but of metrics
// that are another at each reading.
func documented(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]string)
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		names[m[1]] = m[3]
	}
	if len(names) < 30 {
		t.Fatalf("only %d metrics are documented", len(names))
	}
	for _, name := range []string{"finwait_scrape_duration_seconds", "finwait_program_runs_total", "finwait_program_run_seconds_total"} {
		if names[name] == "" {
			t.Fatalf("%s is not documented", name)
		}
		delete(names, name)
	}
	return names
}

// shown are the metrics of a page for Prometheus, as OpenTelemetry should have them.
func shown(page string, names map[string]string) map[string]series {
	all := make(map[string]series)
	for _, m := range sampleLine.FindAllStringSubmatch(page, -1) {
		name, suffix := m[1], m[2]
		if names[name] == "" {
			name, suffix = m[1]+m[2], ""
		}
		otel := names[name]
		if otel == "" {
			continue
		}
		at := make(map[string]string)
		for _, l := range label.FindAllStringSubmatch(m[3], -1) {
			switch l[1] {
			case "state":
				at["network.connection.state"] = l[2]
			case "le":
				at["le"] = l[2]
			default:
				at["finwait."+l[1]] = l[2]
			}
		}
		if strings.HasSuffix(name, "_connections") {
			at["network.transport"] = "tcp"
		}
		if le, err := strconv.ParseFloat(at["le"], 64); err == nil && !math.IsInf(le, 0) {
			at["le"] = strconv.FormatFloat(le, 'g', -1, 64)
		}
		if strings.Contains(name, "native") && suffix == "_bucket" {
			continue // it has the one of all, +Inf, which OpenTelemetry calls count
		}
		if all[otel] == nil {
			all[otel] = make(series)
		}
		all[otel][key(suffix, at)] = number(m[4])
	}
	return all
}

func (b *backend) records() []map[string]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]map[string]string(nil), b.logs...)
}

// otelCollector runs the Collector until the test or stop ends it.
func otelCollector(t *testing.T, at, backend string) (stop func()) {
	t.Helper()
	config := filepath.Join(t.TempDir(), "collector.yaml")
	text := fmt.Sprintf(`receivers: {otlp: {protocols: {http: {endpoint: %q}}}}
processors: {batch: {timeout: 100ms}}
exporters: {otlp_http: {endpoint: %q, encoding: json, compression: none, sending_queue: {enabled: false}}}
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    logs: {receivers: [otlp], exporters: [otlp_http]}
    metrics: {receivers: [otlp], processors: [batch], exporters: [otlp_http]}
`, at, backend)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	p := start(t, program(t, "collector"), "--config="+config)
	until(t, "the Collector listens", func() bool {
		c, err := net.Dial("tcp4", at)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return func() { p.end(t) }
}

// only leaves out what is another at each reading, and with it what no document names.
func only(all map[string]series, names map[string]string) map[string]series {
	kept := make(map[string]series)
	for _, name := range names {
		if s := all[name]; s != nil {
			kept[name] = s
		}
	}
	return kept
}

var (
	exported = regexp.MustCompile(`sent=(\d+)`)
	unsent   = regexp.MustCompile(`export=(\d+)`)
)

// Log records are the transitions that trace shows, and metrics are those of /metrics, each one with
// each attribute, through a Collector that is away for a while.
func TestCollector(t *testing.T) {
	const connections = 40
	to := &backend{metrics: make(map[string]series)}
	server := httptest.NewServer(to)
	defer server.Close()
	at := free(t)
	stop := otelCollector(t, at, server.URL)
	finwait := finwait(t)
	filter := []string{"--netns", "self", "--port", fmt.Sprint(collectorPort)}
	t.Setenv("OTEL_METRIC_EXPORT_INTERVAL", "500")
	serve := start(t, finwait, append([]string{"serve", "--web.listen-address", "127.0.0.1:0", "--refresh", "0", "--by", "port", "--otlp=http://" + at, "--otlp-logs", "transitions"}, filter...)...)
	until(t, "finwait serves", func() bool { return serving.MatchString(serve.said()) })
	trace := start(t, finwait, append([]string{"trace", "--json"}, filter...)...)
	until(t, "finwait traces", func() bool { return strings.Contains(trace.said(), "Ctrl-C") })

	connect(t, collectorPort, connections)
	until(t, "some records are there", func() bool { return len(to.records()) > 0 })
	stop()
	connect(t, collectorPort, connections)
	until(t, "finwait says that the Collector is away", func() bool { return strings.Contains(serve.said(), "cannot be sent") })
	stop = otelCollector(t, at, server.URL)
	// Of two listeners, their ends, and of each connection, to the end of its TIME_WAIT.
	const transitions = 4 + 2*connections*11
	names, target := documented(t), serving.FindStringSubmatch(serve.said())[1]
	var missed float64
	until(t, "all transitions are over", func() bool {
		_, page := get(t, "http://"+target+"/metrics")
		all := shown(page, names)
		sum := 0.0
		for _, n := range all["finwait.tcp.transitions"] {
			sum += n
		}
		missed = all["finwait.lost"][" finwait.cause=missed"]
		return sum+missed == transitions
	})
	until(t, "all records are there", func() bool { return len(to.records())+int(missed) >= transitions })
	var diff string
	same := func() bool {
		_, page := get(t, "http://"+target+"/metrics")
		want := shown(page, names)
		if len(want) < 20 || len(want["finwait.tcp.state.duration"]) < 100 {
			t.Fatalf("only %d metrics to compare with: %s", len(want), page)
		}
		diff = cmp.Diff(want, only(to.read(), names))
		return diff == ""
	}
	for deadline := time.Now().Add(time.Minute); !same() && time.Now().Before(deadline); {
		time.Sleep(100 * time.Millisecond)
	}
	if diff != "" {
		t.Errorf("metrics (-Prometheus +OpenTelemetry): %s", diff)
	}
	trace.end(t)
	serve.end(t)
	stop()

	sent, lost := exported.FindStringSubmatch(serve.said()), unsent.FindStringSubmatch(serve.said())
	if sent == nil || lost == nil || lost[1] != "0" || sent[1] != strconv.Itoa(len(to.records())) {
		t.Errorf("%d records came; finwait says: %s", len(to.records()), serve.said())
	}
	want, got := make(map[string]int), make(map[string]int)
	for line := range strings.Lines(trace.stdout.String()) {
		var o struct {
			Event, From, To, Reason, Role string
			Cookie                        uint64
			Lost                          map[string]uint64
		}
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if o.Lost["missed"] > 0 {
			t.Skipf("no program was run for %d transitions: the run proves nothing", o.Lost["missed"])
		}
		if o.Event == "transition" {
			want[fmt.Sprint(o.Cookie, o.From, o.To, o.Reason, o.Role)]++
		}
	}
	upper := strings.NewReplacer("syn_received", "SYN_RECV")
	for _, r := range to.records() {
		if r["event"] != "finwait.tcp.transition" || r["network.transport"] != "tcp" || r["network.local.address"] != "127.0.0.1" {
			t.Errorf("%v", r)
		}
		from, into := strings.ToUpper(upper.Replace(r["finwait.from"])), strings.ToUpper(upper.Replace(r["network.connection.state"]))
		got[r["finwait.cookie"]+from+into+r["finwait.reason"]+r["finwait.role"]]++
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("records (-trace +log records): %s", diff)
	}
}

// The configuration in deploy is one that the Collector takes.
func TestCollectorConfiguration(t *testing.T) {
	out, err := exec.Command(program(t, "collector"), "validate", "--config=../../../deploy/opentelemetry/collector.yaml").CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
}
