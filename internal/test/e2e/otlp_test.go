package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A backend takes what the Collector sends on, as JSON.
type backend struct {
	mu      sync.Mutex
	logs    []map[string]string // the attributes of each record, and its event's name
	metrics map[string]float64  // the sums of the points of each counter, as they came last
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
					Name string
					Sum  struct {
						DataPoints []struct {
							AsDouble float64
							AsInt    any
						}
					}
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
				sum := 0.0
				for _, p := range m.Sum.DataPoints {
					sum += p.AsDouble
				}
				b.metrics[m.Name] = sum
			}
		}
	}
}

func (b *backend) counted(metric string) float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.metrics[metric]
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

var (
	exported = regexp.MustCompile(`sent=(\d+)`)
	unsent   = regexp.MustCompile(`export=(\d+)`)
)

// Log records are the transitions that trace shows, and metrics count as many, through a Collector
// that is away for a while.
func TestCollector(t *testing.T) {
	const connections = 40
	to := &backend{metrics: make(map[string]float64)}
	server := httptest.NewServer(to)
	defer server.Close()
	at := free(t)
	stop := otelCollector(t, at, server.URL)
	finwait := finwait(t)
	filter := []string{"--netns", "self", "--port", fmt.Sprint(collectorPort)}
	t.Setenv("OTEL_METRIC_EXPORT_INTERVAL", "500")
	serve := start(t, finwait, append([]string{"serve", "--web.listen-address", "127.0.0.1:0", "--otlp=http://" + at, "--otlp-logs", "transitions"}, filter...)...)
	until(t, "finwait serves", func() bool { return serving.MatchString(serve.said()) })
	trace := start(t, finwait, append([]string{"trace", "--json"}, filter...)...)
	until(t, "finwait traces", func() bool { return strings.Contains(trace.said(), "Ctrl-C") })

	connect(t, collectorPort, connections)
	until(t, "some records are there", func() bool { return len(to.records()) > 0 })
	stop()
	connect(t, collectorPort, connections)
	until(t, "finwait says that the Collector is away", func() bool { return strings.Contains(serve.said(), "cannot be sent") })
	stop = otelCollector(t, at, server.URL)
	// Without the ends of TIME_WAIT, of two listeners, their ends, and of each connection.
	const transitions = 4 + 2*connections*10
	until(t, "all records are there", func() bool { return len(to.records()) >= transitions })
	until(t, "all transitions are counted", func() bool { return to.counted("finwait.tcp.transitions") >= transitions })
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
		if o.Event == "transition" && o.From != "TIME_WAIT" {
			want[fmt.Sprint(o.Cookie, o.From, o.To, o.Reason, o.Role)]++
		}
	}
	upper := strings.NewReplacer("syn_received", "SYN_RECV")
	for _, r := range to.records() {
		if r["event"] != "finwait.tcp.transition" || r["network.transport"] != "tcp" || r["network.local.address"] != "127.0.0.1" {
			t.Errorf("%v", r)
		}
		from, into := strings.ToUpper(upper.Replace(r["finwait.from"])), strings.ToUpper(upper.Replace(r["network.connection.state"]))
		if from != "TIME_WAIT" {
			got[r["finwait.cookie"]+from+into+r["finwait.reason"]+r["finwait.role"]]++
		}
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
