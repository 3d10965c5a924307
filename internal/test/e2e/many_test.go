//go:build more

package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"hash/fnv"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	hosts  = flag.Int("hosts", 100, "hosts that TestManyHosts simulates")
	lasts  = flag.Duration("lasts", 30*time.Second, "how long TestManyHosts measures")
	scrape = flag.Duration("scrape", 15*time.Second, "how often TestManyHosts scrapes a host")
)

// A sample is a line of the page of a host: text, or a series with its value.
type sample struct {
	text   string
	value  float64
	series bool
	grows  uint64 // about how much a second; 0: it does not change
	clock  bool   // it is the time
}

// samples are the lines of a page. Counters and histograms grow, if they have counted something; all
// series of a family grow alike, so that a histogram stays one. A gauge does not change, or findings
// and the audit would raise alerts that no host has.
func samples(t *testing.T, page string) (all []sample) {
	t.Helper()
	grows, families := false, uint64(0)
	for text := range strings.Lines(page) {
		if fields := strings.Fields(text); fields[0] == "#" {
			if fields[1] == "TYPE" {
				grows = fields[3] == "counter" || fields[3] == "histogram"
				families++
			}
			all = append(all, sample{text: text})
			continue
		}
		i := strings.LastIndexByte(text, ' ')
		v, err := strconv.ParseFloat(strings.TrimSpace(text[i:]), 64)
		if err != nil {
			t.Fatal(err)
		}
		s := sample{text: text[:i+1], value: v, series: true, clock: strings.HasPrefix(text, "finwait_refresh_timestamp_seconds ")}
		if grows && v > 0 {
			s.grows = 7 + 13*families
		}
		all = append(all, s)
	}
	return all
}

// A fleet serves the page of each host at /0/metrics and so on.
type fleet struct {
	samples []sample
	begun   time.Time
}

func (f *fleet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	second := uint64(time.Since(f.begun) / time.Second)
	h := fnv.New64a()
	fmt.Fprint(h, r.URL.Path, second) // no host grows evenly
	noise := h.Sum64()
	var b []byte
	for _, s := range f.samples {
		b = append(b, s.text...)
		if !s.series {
			continue
		}
		v := s.value
		if s.grows > 0 {
			v += float64(second*s.grows + noise%s.grows)
		}
		if s.clock {
			v = float64(time.Now().Unix())
		}
		b = append(strconv.AppendFloat(b, v, 'g', -1, 64), '\n')
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	_, _ = w.Write(b) // Prometheus may be gone
}

// own is what a Prometheus says of itself.
func own(t *testing.T, at, name string) float64 {
	t.Helper()
	_, page := get(t, at+"/metrics")
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindStringSubmatch(page)
	if m == nil {
		t.Fatalf("%s has no %s", at, name)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// ofAPI is what the API of a Prometheus answers.
func ofAPI[T any](t *testing.T, method, url string) (data T) {
	t.Helper()
	request, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var in struct{ Data T }
	if err := json.NewDecoder(answer.Body).Decode(&in); err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %v", url, answer.StatusCode, err)
	}
	return in.Data
}

// A real Prometheus scrapes many hosts, each with the page of a real finwait, and evaluates the rules.
// What that costs is what the test is for: docs/fleet.md has the figures. It fails if a host cannot be
// scraped, or an alert says that it is down or not refreshed.
func TestManyHosts(t *testing.T) {
	serve := start(t, finwait(t), "serve", "--web.listen-address", "127.0.0.1:0", "--refresh", "1s", "--netns", "self")
	until(t, "finwait serves", func() bool { return serving.MatchString(serve.said()) })
	connect(t, manyPort, 200)
	at, page := "http://"+serving.FindStringSubmatch(serve.said())[1]+"/metrics", ""
	until(t, "finwait has refreshed", func() bool {
		_, page = get(t, at)
		return strings.Contains(page, "\nfinwait_refresh_timestamp_seconds ")
	})
	serve.end(t)
	many := &fleet{samples: samples(t, page), begun: time.Now()}
	server := httptest.NewServer(many)
	defer server.Close()
	series, moving := 0, 0
	for _, s := range many.samples {
		if s.series {
			series++
		}
		if s.grows > 0 || s.clock {
			moving++
		}
	}

	file, err := filepath.Abs(rules + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	var targets []string
	for i := range *hosts {
		targets = append(targets, fmt.Sprintf(`"%d"`, i))
	}
	prometheus := runPrometheus(t, fmt.Sprintf(`global: {scrape_interval: %v, scrape_timeout: %v, evaluation_interval: 30s}
rule_files: [%q]
scrape_configs:
  - job_name: finwait
    static_configs: [{targets: [%s]}]
    relabel_configs:
      - {source_labels: [__address__], target_label: instance}
      - {source_labels: [__address__], target_label: __metrics_path__, replacement: /$1/metrics}
      - {target_label: __address__, replacement: %q}
`, *scrape, min(*scrape, 10*time.Second), file, strings.Join(targets, ", "), strings.TrimPrefix(server.URL, "http://")), "--web.enable-admin-api")
	all := func() bool { return query(t, prometheus, `sum(up{job="finwait"})`) == float64(*hosts) }
	until(t, "all hosts are scraped", all)
	time.Sleep(*scrape) // what is new costs more once

	begun := time.Now()
	const cpu, appended = "process_cpu_seconds_total", `prometheus_tsdb_head_samples_appended_total{type="float"}`
	cpuBefore, appendedBefore := own(t, prometheus, cpu), own(t, prometheus, appended)
	time.Sleep(*lasts)
	took := time.Since(begun).Seconds()
	t.Logf("%d hosts, every %v, for %.0f s; %d series a host, of which %d move; %d bytes a page", *hosts, *scrape, took, series, moving, len(page))
	t.Logf("series %.0f, samples a second %.0f, of one CPU %.3f, resident %.0f MB", own(t, prometheus, "prometheus_tsdb_head_series"),
		(own(t, prometheus, appended)-appendedBefore)/took, (own(t, prometheus, cpu)-cpuBefore)/took, own(t, prometheus, "process_resident_memory_bytes")/1e6)
	for _, group := range []string{"finwait-cluster", "finwait"} {
		t.Logf("group %s was evaluated in %.3f s", group, own(t, prometheus, fmt.Sprintf(`prometheus_rule_group_last_duration_seconds{rule_group="%s;%s"}`, file, group)))
	}
	if !all() {
		t.Error("a host could not be scraped")
	}
	// Alerts are those that the page of the real finwait raises: they make the rules dearer.
	t.Logf("series of rules %v; alerts %v", query(t, prometheus, `count({__name__=~"cluster:.*"})`), query(t, prometheus, "count(ALERTS) or vector(0)"))
	if n := query(t, prometheus, `count(ALERTS{alertname=~"FinwaitNotRefreshed|FinwaitDown"}) or vector(0)`); n != 0 {
		t.Errorf("%v hosts are not refreshed or down", n)
	}

	name := ofAPI[struct{ Name string }](t, http.MethodPost, prometheus+"/api/v1/admin/tsdb/snapshot").Name
	path := ofAPI[map[string]string](t, http.MethodGet, prometheus+"/api/v1/status/flags")["storage.tsdb.path"]
	blocks, err := filepath.Glob(filepath.Join(path, "snapshots", name, "*", "meta.json"))
	if err != nil || len(blocks) == 0 {
		t.Fatalf("no block in %s: %v", path, err)
	}
	for _, block := range blocks {
		var meta struct {
			Stats struct{ NumSamples, NumSeries, NumChunks float64 }
		}
		b, err := os.ReadFile(block)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &meta); err != nil {
			t.Fatal(err)
		}
		chunks, index := 0., 0.
		for pattern, sum := range map[string]*float64{"chunks/*": &chunks, "index": &index} {
			files, err := filepath.Glob(filepath.Join(filepath.Dir(block), pattern))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				info, err := os.Stat(f)
				if err != nil {
					t.Fatal(err)
				}
				*sum += float64(info.Size())
			}
		}
		t.Logf("block: %.0f samples, %.1f a chunk; chunks %.2f bytes a sample, index %.0f bytes a series", meta.Stats.NumSamples,
			meta.Stats.NumSamples/meta.Stats.NumChunks, chunks/meta.Stats.NumSamples, index/meta.Stats.NumSeries)
	}
}
