package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// prometheus scrapes a target each second. It gives the address of its API.
func prometheus(t *testing.T, target string) string {
	t.Helper()
	return runPrometheus(t, fmt.Sprintf("global:\n  scrape_interval: 1s\n  scrape_native_histograms: true\n  always_scrape_classic_histograms: true\n"+
		"scrape_configs:\n  - job_name: finwait\n    static_configs:\n      - targets: [%q]\n", target))
}

// runPrometheus gives the address of its API. It has more arguments than the usual ones.
func runPrometheus(t *testing.T, config string, more ...string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	address := free(t)
	p := start(t, program(t, "prometheus"), append(more, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+address, "--enable-feature=created-timestamp-zero-ingestion")...)
	until(t, "prometheus is ready", func() bool {
		code, _ := get(t, "http://"+address+"/-/ready")
		return code == http.StatusOK
	})
	t.Cleanup(func() {
		_ = p.Process.Signal(syscall.SIGTERM)
		_ = p.Wait()
		if t.Failed() {
			t.Log(p.said())
		}
	})
	return "http://" + address
}

// query gives the value of an expression that has one; NaN: it has none.
func query(t *testing.T, at, expression string) float64 {
	t.Helper()
	code, body := get(t, at+"/api/v1/query?query="+url.QueryEscape(expression))
	var answer struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || code != http.StatusOK {
		t.Fatalf("%s: %d %s", expression, code, body)
	}
	if len(answer.Data.Result) == 0 {
		return math.NaN()
	}
	if len(answer.Data.Result) > 1 {
		t.Fatalf("%s has %d values", expression, len(answer.Data.Result))
	}
	v, err := strconv.ParseFloat(answer.Data.Result[0].Value[1].(string), 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// A quantile of Prometheus is that of finwait stat, within what the documents say, and its counts are
// the same.
func TestPrometheus(t *testing.T) {
	const connections = 200
	finwait := finwait(t)
	filter := []string{"--netns", "self", "--port", fmt.Sprint(port)}
	serve := start(t, finwait, append([]string{"serve", "--web.listen-address", "127.0.0.1:0", "--by", "port"}, filter...)...)
	until(t, "finwait serves", func() bool { return serving.MatchString(serve.said()) })
	target := serving.FindStringSubmatch(serve.said())[1]
	at := prometheus(t, target)
	stat := start(t, finwait, append([]string{"stat", "--json"}, filter...)...)
	until(t, "finwait counts", func() bool { return strings.Contains(stat.said(), "Ctrl-C") })

	connect(t, port, connections)
	until(t, "all TIME_WAITs are over", func() bool { return query(t, at, "finwait_time_wait_seconds_count") >= connections })
	stat.end(t)
	var want struct {
		States []struct {
			State         string
			Entered       float64
			Timed         float64
			P50, P90, P99 float64
		}
		Lost map[string]uint64
	}
	for _, q := range []string{"p50", "p90", "p99"} { // encoding/json does not care for upper case
		stat.stdout = *bytes.NewBuffer(bytes.ReplaceAll(stat.stdout.Bytes(), []byte(`"`+q+`_ns"`), []byte(`"`+q+`"`)))
	}
	if err := json.Unmarshal(stat.stdout.Bytes(), &want); err != nil {
		t.Fatalf("%v: %s", err, &stat.stdout)
	}
	if want.Lost["missed"] > 0 {
		t.Skipf("no program was run for %d transitions: the run proves nothing", want.Lost["missed"])
	}
	const halfBucket = float64(1<<29) / 1e9
	for _, s := range want.States {
		word := strings.Replace(strings.ToLower(s.State), "syn_recv", "syn_received", 1)
		for q, ns := range map[float64]float64{0.5: s.P50, 0.9: s.P90, 0.99: s.P99} {
			seconds := ns / 1e9
			switch s.State {
			case "TIME_WAIT":
				// Of all, and of a rate: after a scrape without any.
				for _, of := range []string{"finwait_time_wait_seconds_bucket", "rate(finwait_time_wait_seconds_bucket[10m])"} {
					got := query(t, at, fmt.Sprintf("histogram_quantile(%v, %s)", q, of))
					if !(math.Abs(got-seconds) <= halfBucket+1e-9) {
						t.Errorf("quantile %v of %s: %v s, stat has %v s", q, of, got, seconds)
					}
				}
			case "ESTABLISHED", "SYN_SENT":
				got := query(t, at, fmt.Sprintf("histogram_quantile(%v, finwait_state_duration_native_seconds{state=%q})", q, word))
				if !(math.Abs(got/seconds-1) <= 1./6+1./16) {
					t.Errorf("quantile %v of %s: %v s, stat has %v s", q, s.State, got, seconds)
				}
			}
		}
		if s.State == "TIME_WAIT" {
			continue
		}
		if got := query(t, at, fmt.Sprintf("finwait_state_duration_seconds_count{state=%q}", word)); got != s.Timed {
			t.Errorf("%s: %v were timed, stat has %v", s.State, got, s.Timed)
		}
		if got := query(t, at, fmt.Sprintf(`sum(finwait_group_entered_total{state=%q}) or vector(0)`, word)); got != s.Entered {
			t.Errorf("%s: %v have entered it, stat has %v", s.State, got, s.Entered)
		}
	}
	for expression, n := range map[string]float64{
		"up": 1,
		`finwait_connects_total{result="established"}`:                           connections,
		`finwait_closes_total{state="time_wait",reason="expired",role="client"}`: connections,
		`finwait_active_closes_total{role="client"}`:                             connections,
		`finwait_passive_closes_total{role="server"}`:                            connections,
		"finwait_handshake_duration_seconds_count":                               connections,
		"sum(finwait_session_duration_seconds_count)":                            2 * connections,
		`finwait_transitions_total{from="time_wait",to="closed"}`:                connections,
		`finwait_connections{state="time_wait"}`:                                 0,
		`finwait_time_wait_seconds_bucket{le="58.988158976"} or vector(-1)`:      -1, // no bound that the kernel side does not have
		`finwait_time_wait_seconds_bucket{le="59.05580032"}`:                     0,
	} {
		if got := query(t, at, expression); got != n {
			t.Errorf("%s: %v, want %v", expression, got, n)
		}
	}
	checkMetrics(t, "http://"+target)
	serve.end(t)
}

// checkMetrics asks promtool about the page.
func checkMetrics(t *testing.T, at string) {
	t.Helper()
	_, page := get(t, at+"/metrics")
	cmd := exec.Command(program(t, "promtool"), "check", "metrics")
	cmd.Stdin = strings.NewReader(page)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool: %v: %s", err, out)
	}
}
