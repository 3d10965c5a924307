//go:build more

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

func init() {
	tools["victoria-metrics"] = tool{dir: "more", pkg: "github.com/VictoriaMetrics/VictoriaMetrics/app/victoria-metrics"}
}

// Pages of alerts that Alertmanager has sent.
type webhook struct {
	mu  sync.Mutex
	all []string
}

func (h *webhook) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		panic(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, string(b))
}

// alert gives the alert of a name as it was sent last.
func (h *webhook) alert(name string) (labels, annotations map[string]string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, text := range h.all {
		var in struct {
			Alerts []struct{ Labels, Annotations map[string]string }
		}
		if err := json.Unmarshal([]byte(text), &in); err != nil {
			panic(err)
		}
		for _, a := range in.Alerts {
			if a.Labels["alertname"] == name {
				labels, annotations = a.Labels, a.Annotations
			}
		}
	}
	return labels, annotations
}

// alertmanager is Debian's. It sends to a webhook at once.
func alertmanager(t *testing.T, to string) (at string) {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "alertmanager.yml")
	text := fmt.Sprintf("route: {receiver: test, group_wait: 0s, group_interval: 1s}\nreceivers: [{name: test, webhook_configs: [{url: %q}]}]\n", to)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	at = free(t)
	start(t, "/usr/bin/prometheus-alertmanager", "--config.file="+config, "--storage.path="+dir, "--web.listen-address="+at, "--cluster.listen-address=")
	until(t, "Alertmanager is ready", func() bool { code, _ := get(t, "http://"+at+"/-/ready"); return code == http.StatusOK })
	return at
}

// victoriaMetrics takes remote writes.
func victoriaMetrics(t *testing.T) (at string) {
	t.Helper()
	at = free(t)
	p := start(t, program(t, "victoria-metrics"), "-httpListenAddr="+at, "-storageDataPath="+t.TempDir(), "-search.latencyOffset=0s", "-search.disableCache")
	until(t, "VictoriaMetrics is ready", func() bool { code, _ := get(t, "http://"+at+"/health"); return code == http.StatusOK })
	t.Cleanup(func() { p.end(t) })
	return at
}

var (
	pause = regexp.MustCompile(`for: \d+m`)
	span  = regexp.MustCompile(`\[\d+m\]`)
)

// One host's metrics go on: by remote write into VictoriaMetrics, by federation to another Prometheus,
// and as an alert through Alertmanager to a webhook. The rules are those of deploy, with shorter times.
func TestFleet(t *testing.T) {
	const connections = 19
	finwait := finwait(t)
	serve := start(t, finwait, "serve", "--web.listen-address", "127.0.0.1:0", "--refresh", "1s", "--netns", "self", "--port", fmt.Sprint(port))
	until(t, "finwait serves", func() bool { return serving.MatchString(serve.said()) })
	target := serving.FindStringSubmatch(serve.said())[1]

	text, err := os.ReadFile(rules + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	short := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(short, span.ReplaceAll(pause.ReplaceAll(text, []byte("for: 1s")), []byte("[10s]")), 0o644); err != nil {
		t.Fatal(err)
	}
	hook := new(webhook)
	pager := httptest.NewServer(hook)
	defer pager.Close()
	victoria, manager := victoriaMetrics(t), alertmanager(t, pager.URL)
	at := runPrometheus(t, fmt.Sprintf(`global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [%q]
alerting: {alertmanagers: [{static_configs: [{targets: [%q]}]}]}
remote_write: [{url: "http://%s/api/v1/write", queue_config: {batch_send_deadline: 1s}}]
scrape_configs:
  - job_name: finwait
    static_configs: [{targets: [%q]}]
`, short, manager, victoria, target))
	above := runPrometheus(t, fmt.Sprintf(`global: {scrape_interval: 1s}
scrape_configs:
  - job_name: federate
    honor_labels: true
    metrics_path: /federate
    params: {"match[]": ['{__name__=~"cluster:.*"}']}
    static_configs: [{targets: [%q]}]
`, strings.TrimPrefix(at, "http://")))

	// Now, as the servers above have ports of the usual range.
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("61000 61019"), 0); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range connections {
		c, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	for _, from := range []string{at, "http://" + victoria} {
		for expression, want := range map[string]float64{
			`finwait_connections{state="established"}`:              2 * connections,
			`finwait_connects_total{result="established"}`:          connections,
			"finwait_handshake_duration_seconds_count":              connections,
			`finwait_ports_used_ratio_max`:                          0.95,
			`cluster:finwait_connections:sum{state="established"}`:  2 * connections,
			`finwait_findings{id="port-pressure",severity="risk"}`:  1,
			`count(finwait_handshake_duration_seconds_bucket) > 15`: 22,
			`finwait_time_wait_seconds_bucket{le="61.203283968"}`:   0,
		} {
			until(t, fmt.Sprintf("%s of %s is %v", expression, from, want), func() bool { return query(t, from, expression) == want })
		}
	}
	const median = "histogram_quantile(0.5, finwait_handshake_duration_seconds_bucket)"
	if a, b := query(t, at, median), query(t, "http://"+victoria, median); !(math.Abs(a-b) <= 1e-9) {
		t.Errorf("the median handshake is %v s in Prometheus, %v s in VictoriaMetrics", a, b)
	}
	until(t, "the other Prometheus has the sum of the cluster", func() bool {
		return query(t, above, `cluster:finwait_connections:sum{state="established"}`) == 2*connections
	})
	var labels, annotations map[string]string
	until(t, "the alert arrives", func() bool { labels, annotations = hook.alert("FinwaitPortsNearlyUsed"); return labels != nil })
	if labels["instance"] != target || !strings.HasPrefix(annotations["description"], "95% of the usable local ports") {
		t.Errorf("%v %v", labels, annotations)
	}
	if other, _ := hook.alert("FinwaitDisagrees"); other != nil {
		t.Errorf("%v", other)
	}
	serve.end(t)
}
