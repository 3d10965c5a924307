package otlp

import (
	"compress/gzip"
	"context"
	"encoding/pem"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"finwait/internal/conns"
	"finwait/internal/families"
	"finwait/internal/label"
	"finwait/internal/test/sample"
	"finwait/tracer"

	"github.com/google/go-cmp/cmp"
	collog "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	logpb "go.opentelemetry.io/proto/otlp/logs/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/protobuf/proto"
)

// A collector takes what an Exporter sends.
type collector struct {
	t      testing.TB
	answer func(w http.ResponseWriter, records int) (taken bool) // nil: takes all

	mu      sync.Mutex
	records []*logpb.LogRecord
	metrics []*colmetrics.ExportMetricsServiceRequest
	headers http.Header
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(body)
		if err != nil {
			c.t.Error(err)
			return
		}
		body = z
	}
	b, err := io.ReadAll(body)
	if err != nil {
		return // the client has gone
	}
	switch r.URL.Path {
	case "/v1/logs":
		var in collog.ExportLogsServiceRequest
		if err := proto.Unmarshal(b, &in); err != nil {
			c.t.Error(err)
		}
		var got []*logpb.LogRecord
		for _, of := range in.ResourceLogs {
			for _, scope := range of.ScopeLogs {
				got = append(got, scope.LogRecords...)
			}
		}
		if c.answer != nil && !c.answer(w, len(got)) {
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.headers = r.Header
		c.records = append(c.records, got...)
	case "/v1/metrics":
		in := new(colmetrics.ExportMetricsServiceRequest)
		if err := proto.Unmarshal(b, in); err != nil {
			c.t.Error(err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.headers = r.Header
		c.metrics = append(c.metrics, in)
	default:
		c.t.Errorf("%s was asked for", r.URL.Path)
	}
}

func (c *collector) taken() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.records)
}

// said has what an Exporter tells of troubles.
type said struct {
	mu  sync.Mutex
	all []string
}

func (s *said) trouble(what string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.all = append(s.all, what+" again")
	} else {
		s.all = append(s.all, what+" fail")
	}
}

func (s *said) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.all, ", ")
}

func exporter(t *testing.T, url string) (*Exporter, *said) {
	t.Helper()
	s := new(said)
	e, err := New(t.Context(), Options{URL: url, Host: "a-host", Version: "v9", Families: families.New(sample.Everything(3)), Trouble: s.trouble})
	if err != nil {
		t.Fatal(err)
	}
	return e, s
}

func logs(t *testing.T, e *Exporter, room int) (*Logs, *Queue) {
	t.Helper()
	q, err := e.Logs(t.Context(), room)
	if err != nil {
		t.Fatal(err)
	}
	return e.NewLogs(q, nil), q
}

// settle waits until each of so many records is sent or lost. The end would not wait for a machine that is
// busy.
func settle(t *testing.T, q *Queue, n int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); q.Sent()+q.Lost() < uint64(n); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d are sent and %d lost, of %d", q.Sent(), q.Lost(), n)
		}
	}
}

// attributesOf has the attributes that are strings.
func attributesOf(all []*commonpb.KeyValue) map[string]string {
	m := make(map[string]string)
	for _, a := range all {
		m[a.Key] = a.Value.GetStringValue()
	}
	return m
}

func transition(t *testing.T, l *Logs, n int) {
	t.Helper()
	for range n {
		if err := l.Transition(&tracer.Transition{Time: time.Unix(1, 0), From: tracer.Established, To: tracer.FinWait1}); err != nil {
			t.Fatal(err)
		}
	}
}

// Whatever the collector does, each record was taken by it or is counted as lost.
func TestSentAndLost(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		records, room int
		answer        func() func(http.ResponseWriter, int) bool
		lost          func(lost int) bool
		says          string
	}{
		"all is taken": {records: 3000, room: 4000, lost: func(n int) bool { return n == 0 }},
		"a slow collector and a small queue": {records: 20000, room: 600, lost: func(n int) bool { return n > 0 && n < 20000-600 },
			answer: func() func(http.ResponseWriter, int) bool {
				return func(http.ResponseWriter, int) bool { time.Sleep(20 * time.Millisecond); return true }
			}},
		"one that is overloaded, and then takes them": {records: 1000, room: 2000, lost: func(n int) bool { return n == 0 }, says: "log records fail, log records again",
			answer: func() func(http.ResponseWriter, int) bool {
				left := 1
				return func(w http.ResponseWriter, _ int) bool {
					if left--; left < 0 {
						return true
					}
					w.WriteHeader(http.StatusServiceUnavailable)
					return false
				}
			}},
		"one whose answer is cut off, and then takes them": {records: 100, room: 2000, lost: func(n int) bool { return n == 0 }, says: "log records fail, log records again",
			answer: func() func(http.ResponseWriter, int) bool {
				left := 1
				return func(w http.ResponseWriter, _ int) bool {
					if left--; left < 0 {
						return true
					}
					w.Header().Set("Content-Length", "100")
					_, _ = io.WriteString(w, "no hundred bytes")
					return false
				}
			}},
		"one that says what another says to be tried again": {records: 100, room: 2000, lost: func(n int) bool { return n == 100 }, says: "log records fail",
			answer: func() func(http.ResponseWriter, int) bool {
				asked := false
				return func(w http.ResponseWriter, _ int) bool {
					if asked {
						t.Error("it is tried again")
					}
					asked = true
					http.Error(w, "from behind: "+again, http.StatusBadRequest)
					return false
				}
			}},
		"one that refuses all": {records: 1000, room: 2000, lost: func(n int) bool { return n == 1000 }, says: "log records fail",
			answer: func() func(http.ResponseWriter, int) bool {
				return func(w http.ResponseWriter, _ int) bool { http.Error(w, "no", http.StatusBadRequest); return false }
			}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			to := &collector{t: t}
			if c.answer != nil {
				to.answer = c.answer()
			}
			server := httptest.NewServer(to)
			defer server.Close()
			e, said := exporter(t, server.URL)
			l, q := logs(t, e, c.room)
			transition(t, l, c.records)
			settle(t, q, c.records)
			l.Shutdown()
			lost, sent, taken := int(q.Lost()), int(q.Sent()), to.taken()
			if taken != sent || sent+lost != c.records || !c.lost(lost) {
				t.Errorf("of %d records %d were taken, %d sent and %d lost", c.records, taken, sent, lost)
			}
			if said.text() != c.says {
				t.Errorf("said %q, want %q", said.text(), c.says)
			}
		})
	}
}

// A collector that refuses a part of a batch says how many: so many are lost. If it refuses none, it
// only warns.
func TestPartialSuccess(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		refused int64
		why     string
		says    string
	}{
		{3, "old (7 logs rejected)", "log records fail"},
		{3, "two\nlines", "log records fail"},
		{0, "use another port", ""},
	} {
		to := &collector{t: t, answer: func(w http.ResponseWriter, n int) bool {
			b, err := proto.Marshal(&collog.ExportLogsServiceResponse{PartialSuccess: &collog.ExportLogsPartialSuccess{RejectedLogRecords: c.refused, ErrorMessage: c.why}})
			if err != nil {
				t.Error(err)
			}
			w.Header().Set("Content-Type", "application/x-protobuf")
			_, _ = w.Write(b)
			return true
		}}
		server := httptest.NewServer(to)
		defer server.Close()
		e, said := exporter(t, server.URL)
		l, q := logs(t, e, 100)
		transition(t, l, 10)
		l.Shutdown()
		if q.Lost() != uint64(c.refused) || q.Sent() != uint64(10-c.refused) || said.text() != c.says {
			t.Errorf("%q: %d lost and %d sent of 10, want %d lost; said %q, want %q", c.why, q.Lost(), q.Sent(), c.refused, said.text(), c.says)
		}
	}
}

// A collector that takes a batch and never answers does not hold up the end, and what it has is counted
// as lost. It is not said to be away: the end came first.
func TestCollectorHangs(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	to := &collector{t: t, answer: func(http.ResponseWriter, int) bool { <-over; return false }}
	server := httptest.NewServer(to)
	defer server.Close()
	defer close(over)
	e, said := exporter(t, server.URL)
	l, q := logs(t, e, 2000)
	transition(t, l, 1500)
	begun := time.Now()
	l.Shutdown()
	if took := time.Since(begun); took < patience || took > patience+20*time.Second {
		t.Errorf("the end took %v", took)
	}
	if q.Sent() != 0 || q.Lost() != 1500 || said.text() != "" {
		t.Errorf("%d sent, %d lost of 1500; said %q", q.Sent(), q.Lost(), said.text())
	}
}

// Names are untrusted. What is not UTF-8 in one would keep all records of its batch from being sent.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	to := &collector{t: t}
	server := httptest.NewServer(to)
	defer server.Close()
	e, said := exporter(t, server.URL)
	l, q := logs(t, e, 100)
	local := netip.MustParseAddrPort("[fe80::1]:80")
	n := &tracer.Transition{Time: time.Unix(1, 0), From: tracer.Established, To: tracer.FinWait1, Local: local, Remote: local, Scope: tracer.Scope{ID: 2, Interface: "e\xfe"}}
	n.Owner.PID = 1
	copy(n.Owner.Comm[:], "a\xff\n")
	if err := l.Transition(n); err != nil {
		t.Fatal(err)
	}
	l.Shutdown()
	if q.Sent() != 1 || said.text() != "" || to.taken() != 1 {
		t.Fatalf("%d sent, said %q", q.Sent(), said.text())
	}
	got := attributesOf(to.records[0].Attributes)
	if got["network.local.address"] != `fe80::1%e\xfe` || got["finwait.owner.comm"] != `a\xff\n` {
		t.Errorf("%q", got)
	}
}

// A collector that is not there yet gets what there was room for when it comes. One that never comes
// does not hold up the end.
func TestCollectorIsAway(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	l.Close()
	e, said := exporter(t, "http://"+at)
	records, q := logs(t, e, 1000)
	transition(t, records, 1600)
	for deadline := time.Now().Add(20 * time.Second); said.text() != "log records fail"; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("said %q", said.text())
		}
	}
	if l, err = net.Listen("tcp", at); err != nil {
		t.Skipf("another has taken the port meanwhile: %v", err)
	}
	to := &collector{t: t}
	server := &http.Server{Handler: to}
	go func() { _ = server.Serve(l) }()
	settle(t, q, 1600)
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	transition(t, records, 300)
	begun := time.Now()
	records.Shutdown()
	if took := time.Since(begun); took > patience+20*time.Second {
		t.Errorf("the end took %v", took)
	}
	// Up to a batch is on its way while the queue fills.
	if sent, lost := int(q.Sent()), int(q.Lost()); sent != to.taken() || sent+lost != 1900 || lost < 300 || lost > 900 {
		t.Errorf("%d sent, %d taken, %d lost, of 1900", sent, to.taken(), lost)
	}
	if said.text() != "log records fail, log records again, log records fail" {
		t.Errorf("said %q", said.text())
	}
}

// The metrics are those that Prometheus gets, with OpenTelemetry's names and kinds.
func TestMetrics(t *testing.T) {
	to := &collector{t: t}
	server := httptest.NewServer(to)
	defer server.Close()
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=shop,host.name=other")
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-token=secret")
	t.Setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	t.Setenv("OTEL_METRIC_EXPORT_INTERVAL", "20")
	e, said := exporter(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { e.Run(ctx); close(ended) }()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		to.mu.Lock()
		n := len(to.metrics)
		to.mu.Unlock()
		if n > 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no metrics come")
		}
	}
	cancel()
	<-ended
	if said.text() != "" {
		t.Errorf("said %q", said.text())
	}
	if to.headers.Get("X-Token") != "secret" || to.headers.Get("Content-Encoding") != "gzip" {
		t.Errorf("headers %v", to.headers)
	}
	of := to.metrics[len(to.metrics)-1].ResourceMetrics[0]
	attributes := attributesOf(of.Resource.Attributes)
	for key, want := range map[string]string{"service.name": "finwait", "service.version": "v9", "host.name": "other", "deployment.environment.name": "shop"} {
		if attributes[key] != want {
			t.Errorf("resource attribute %s is %q, want %q", key, attributes[key], want)
		}
	}
	set := families.New(sample.Everything(3))
	points := make(map[string]int)
	if err := set.Collect(func(i int, _ families.Point) { points[set.Families[i].OTelName()]++ }); err != nil {
		t.Fatal(err)
	}
	got := make(map[string]*metricspb.Metric)
	for _, m := range of.ScopeMetrics[0].Metrics {
		got[m.Name] = m
		if n := len(m.GetGauge().GetDataPoints()) + len(m.GetSum().GetDataPoints()) + len(m.GetHistogram().GetDataPoints()) +
			len(m.GetExponentialHistogram().GetDataPoints()) + len(m.GetSummary().GetDataPoints()); n != points[m.Name] {
			t.Errorf("%s has %d points, want %d", m.Name, n, points[m.Name])
		}
		delete(points, m.Name)
	}
	if len(points) > 0 {
		t.Errorf("these are missing: %v", points)
	}
	if s := got["system.network.connection.count"]; s.GetSum().GetIsMonotonic() || s.Unit != "{connection}" || s.GetSum().DataPoints[0].GetAsInt() != 5 {
		t.Errorf("%v", s)
	}
	closes := got["finwait.tcp.closes"].GetSum()
	if !closes.GetIsMonotonic() || closes.AggregationTemporality != metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE ||
		!time.Unix(0, int64(closes.DataPoints[0].StartTimeUnixNano)).Equal(sample.Started) {
		t.Errorf("%v", closes)
	}
	h := got["finwait.tcp.time_wait.duration"].GetHistogram().DataPoints[0]
	if got["finwait.tcp.time_wait.duration"].Unit != "s" || h.Count != 1 || h.GetSum() != 61 || len(h.BucketCounts) != len(h.ExplicitBounds)+1 {
		t.Errorf("%v", h)
	}
	for i, n := range h.BucketCounts {
		if n == 1 && (h.ExplicitBounds[i-1] > 61 || h.ExplicitBounds[i] < 61) {
			t.Errorf("61 s are in bucket %d of %v", i, h.ExplicitBounds)
		}
	}
	x := got["finwait.tcp.state.duration.native"].GetExponentialHistogram().DataPoints[0]
	// 61 s: bucket i has what is over 2^(i/8) s, up to 2^((i+1)/8) s. That is i = 47: 58.7 to 64 s.
	if x.Scale != 3 || x.Positive.Offset != 47 || len(x.Positive.BucketCounts) != 1 || x.Positive.BucketCounts[0] != 1 {
		t.Errorf("%v", x)
	}
}

// What cannot be meant is an error, before anything is traced.
func TestNewRefuses(t *testing.T) {
	for name, set := range map[string]struct{ url, variable, value string }{
		"no URL":     {url: "localhost:4318"},
		"no host":    {url: "http://"},
		"no scheme":  {url: "//h:1"},
		"gRPC":       {variable: "OTEL_EXPORTER_OTLP_PROTOCOL", value: "grpc"},
		"no number":  {variable: "OTEL_METRIC_EXPORT_INTERVAL", value: "1m"},
		"no minutes": {variable: "OTEL_METRIC_EXPORT_INTERVAL", value: "0"},
		"no pairs":   {variable: "OTEL_RESOURCE_ATTRIBUTES", value: "shop"},
		"a password": {url: "http://u:p@h:1"},
		"a query":    {url: "http://h:1/?token=1"},
		// The SDK would leave these out and go on.
		"no scheme in the environment": {variable: "OTEL_EXPORTER_OTLP_ENDPOINT", value: "h:4318"},
		"no URL for metrics":           {variable: "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", value: "://"},
		"no certificate":               {variable: "OTEL_EXPORTER_OTLP_CERTIFICATE", value: "/no/such/file"},
		"no file of certificates":      {variable: "OTEL_EXPORTER_OTLP_CERTIFICATE", value: "otlp_test.go"},
		"no header":                    {variable: "OTEL_EXPORTER_OTLP_HEADERS", value: "secret"},
		"no timeout":                   {variable: "OTEL_EXPORTER_OTLP_TIMEOUT", value: "10s"},
		"other compression":            {variable: "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", value: "zstd"},
		"deltas":                       {variable: "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", value: "delta"},
	} {
		t.Run(name, func(t *testing.T) {
			if set.variable != "" {
				t.Setenv(set.variable, set.value)
			}
			said := new(said)
			_, err := New(t.Context(), Options{URL: set.url, Trouble: said.trouble})
			if err == nil || said.text() != "" {
				t.Fatalf("error %v, said %q", err, said.text())
			}
			if set.value == "secret" && strings.Contains(err.Error(), set.value) {
				t.Errorf("it tells a header: %v", err)
			}
		})
	}
}

// A header that cannot be read is not told: it may be a password. Nor are the errors of several lines.
func TestHeadersAreNotTold(t *testing.T) {
	for _, variable := range []string{"OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_METRICS_HEADERS", "OTEL_EXPORTER_OTLP_LOGS_HEADERS"} {
		t.Run(variable, func(t *testing.T) {
			t.Setenv(variable, "secret,k=%zz,other")
			e, err := New(t.Context(), Options{Trouble: new(said).trouble})
			if err == nil {
				_, err = e.Logs(t.Context(), 1)
			}
			if err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v", err)
			}
		})
	}
}

// Where the environment says that a signal goes, by the words of the specification.
func TestEndpoint(t *testing.T) {
	for _, c := range []struct {
		url, all, metrics, want string
		port                    uint16
	}{
		{want: "http://localhost:4318/v1/metrics", port: 4318},
		{url: "https://h/in", all: "http://a:1", metrics: "http://m:2", want: "https://h/in/v1/metrics", port: 443},
		{all: "http://a:1", want: "http://a:1/v1/metrics", port: 1},
		{all: "http://a:1/in/", want: "http://a:1/in/v1/metrics", port: 1},
		{all: "http://a:1", metrics: "http://m:2/as/is", want: "http://m:2/as/is", port: 2},
		{metrics: "http://m", want: "http://m/", port: 80},
	} {
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.all)
		t.Setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", c.metrics)
		e := &Exporter{options: Options{URL: c.url}}
		got, err := e.endpoint("metrics")
		if err != nil || got != c.want || !slices.Equal(e.Ports(), []uint16{c.port}) {
			t.Errorf("%+v: %s, ports %v, %v", c, got, e.Ports(), err)
		}
	}
}

// Records and metrics go over TLS, to a collector with a certificate that only the environment names,
// and in the service's name that it gives.
func TestCertificate(t *testing.T) {
	to := &collector{t: t}
	server := httptest.NewTLSServer(to)
	defer server.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	pemOf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(file, pemOf, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", file)
	t.Setenv("OTEL_SERVICE_NAME", "edge")
	e, said := exporter(t, server.URL)
	l, q := logs(t, e, 100)
	transition(t, l, 10)
	l.Shutdown()
	e.send(t.Context())
	if q.Sent() != 10 || to.taken() != 10 || len(to.metrics) != 1 || said.text() != "" {
		t.Errorf("%d records sent, metrics %d times, said %q", q.Sent(), len(to.metrics), said.text())
	}
	if got := attributesOf(to.metrics[0].ResourceMetrics[0].Resource.Attributes); got["service.name"] != "edge" {
		t.Errorf("resource %v", got)
	}
}

// BenchmarkTransition makes a record of a transition, and puts it into the queue.
func BenchmarkTransition(b *testing.B) {
	server := httptest.NewServer(&collector{t: b})
	defer server.Close()
	e, err := New(b.Context(), Options{URL: server.URL, Trouble: func(string, error) {}})
	if err != nil {
		b.Fatal(err)
	}
	q, err := e.Logs(b.Context(), 1)
	if err != nil {
		b.Fatal(err)
	}
	l := e.NewLogs(q, nil)
	defer l.Shutdown()
	at := netip.MustParseAddrPort("192.0.2.1:80")
	n := &tracer.Transition{Time: time.Unix(1, 0), From: tracer.Established, To: tracer.FinWait1, Local: at, Remote: at, Cookie: 1, NetNS: 1, NetNSCookie: 1, Role: tracer.RoleClient, Precision: tracer.PrecisionExact}
	n.Owner.PID = 1
	copy(n.Owner.Comm[:], "nginx")
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Transition(n); err != nil {
			b.Fatal(err)
		}
	}
}

// Each attribute of a record is one that docs/otlp.md has, and the other way round. What is not known is
// left out.
func TestDocument(t *testing.T) {
	text, err := os.ReadFile("../../docs/otlp.md")
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[string]bool)
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 {
			continue
		}
		before := ""
		for _, m := range regexp.MustCompile("`([a-z_.0-9]+)`").FindAllStringSubmatch(cells[1], -1) {
			key := m[1]
			if strings.HasPrefix(key, ".") { // the last part of the one before
				key = before[:strings.LastIndexByte(before, '.')] + key
			}
			before, want[key] = key, true
		}
	}
	to := &collector{t: t}
	server := httptest.NewServer(to)
	defer server.Close()
	e, _ := exporter(t, server.URL)
	q, err := e.Logs(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	l := e.NewLogs(q, everyName{})
	at := netip.MustParseAddrPort("192.0.2.1:80")
	someone := tracer.Process{PID: 7, Comm: tracer.Comm{'x'}}
	owner := tracer.Owner{Process: someone, Holder: true, CgroupID: 1}
	first := &tracer.Transition{Time: time.Unix(1, 0), Local: at, Remote: at, From: tracer.TimeWait, To: tracer.Closed, Precision: tracer.PrecisionExact,
		Role: tracer.RoleClient, Owner: owner, Closer: someone, Reason: tracer.ReasonTimedOut, Detail: tracer.Details()[1], Errno: 110, Rearms: 1, Cookie: 1, NetNS: 1, NetNSCookie: 1}
	whole := &conns.Conn{Cookie: 1, NetNS: 1, NetNSCookie: 1, Local: at, Remote: at, Role: tracer.RoleClient, Owner: owner, Closer: someone, Opened: time.Unix(1, 0), Whole: true,
		State: tracer.Closed, FirstFIN: conns.FINLocal, Reason: tracer.ReasonTimedOut, Detail: tracer.Details()[1], Errno: 110,
		Metrics: tracer.Metrics{Known: true, RTT: time.Second}}
	nothing := netip.AddrPortFrom(at.Addr(), 0)
	if err := errors.Join(l.Transition(first), l.Conn(whole),
		l.Transition(&tracer.Transition{Local: nothing, Remote: nothing, From: tracer.Closed, To: tracer.SynSent})); err != nil {
		t.Fatal(err)
	}
	l.Shutdown()
	got := make(map[string]bool)
	for _, r := range to.records[:2] {
		for _, a := range r.Attributes {
			got[a.Key] = true
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("attributes (-document +records): %s", diff)
	}
	unknown := attributesOf(to.records[2].Attributes)
	for _, key := range slices.Sorted(maps.Keys(unknown)) {
		if !slices.Contains(strings.Fields("network.transport network.type network.local.address network.peer.address network.connection.state finwait.from finwait.netns finwait.netns_cookie finwait.netns_name"), key) {
			t.Errorf("%s of a transition of which nothing is known: %q", key, unknown[key])
		}
	}
}

// everyName knows all names.
type everyName struct{}

func (everyName) Cgroup(uint64) (label.Cgroup, bool) {
	return label.Cgroup{PodNamespace: "a", Pod: "b", PodUID: "c", Container: "d", ContainerID: "e", Unit: "f"}, true
}

func (everyName) NetNS(uint32, uint64) string { return "g" }
