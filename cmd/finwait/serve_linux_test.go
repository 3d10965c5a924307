package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"finwait/internal/families"
	"finwait/internal/meter"
	"finwait/internal/metrics"
	"finwait/internal/sandbox"
	"finwait/internal/source"
	"finwait/internal/test/testnet"
	"finwait/tracer"

	"golang.org/x/sys/unix"
)

// served starts finwait serve on a free port, and gives its address once it is ready.
func served(t *testing.T, args ...string) (*process, string) {
	t.Helper()
	p := startFinwait(t, append([]string{"serve", "--web.listen-address", "127.0.0.1:0"}, args...)...)
	return p, p.awaitServing(t)
}

var servingOn = regexp.MustCompile(`serving on (\S+);`)

func (p *process) awaitServing(t *testing.T) string {
	t.Helper()
	p.awaitSaid(t, "Ctrl-C")
	at := "http://" + servingOn.FindStringSubmatch(p.said())[1]
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		code, body := ask(t, at+"/-/ready")
		if code == http.StatusOK {
			return at
		}
		if time.Now().After(deadline) {
			t.Fatalf("a minute, and it is not ready: %s; said %s", body, p.said())
		}
	}
}

func ask(t *testing.T, url string) (code int, body string) {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(b)
}

// scrape gives each sample by its name and labels, as the text has them.
func scrape(t *testing.T, at string) map[string]float64 {
	t.Helper()
	code, body := ask(t, at+"/metrics")
	if code != http.StatusOK {
		t.Fatalf("%d: %s", code, body)
	}
	samples := make(map[string]float64)
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		v, err := strconv.ParseFloat(strings.TrimSpace(line[i+1:]), 64)
		if err != nil {
			t.Fatal(err)
		}
		samples[line[:i]] = v
	}
	return samples
}

// A scrape has the numbers that stat has of the same time, and those that the kernel has.
func TestServe(t *testing.T) { testnet.Attempts(t, serveOnce) }

func serveOnce(t *testing.T) string {
	ns := sandbox.New(t)
	p, at := served(t, "--netns", pathOf(ns), "--by", "port")
	stat := startFinwait(t, "stat", "--netns", pathOf(ns), "--by", "port", "--json")
	stat.awaitSaid(t, "Ctrl-C")

	pairs := connected(ns, 5000, 7)
	closeAll(pairs.clients[:5], pairs.servers[:5])
	pairs.clients[5].Reset()
	pairs.servers[5].Close()
	if err := ns.Socket(sandbox.Families[0]).TryConnect(sandbox.At(sandbox.Families[0], 9)); err != unix.ECONNREFUSED {
		t.Fatal(err)
	}
	for ns.States()[unix.BPF_TCP_TIME_WAIT] < 5 {
		time.Sleep(time.Millisecond)
	}
	got := scrape(t, at)
	stat.finish(t)
	p.finish(t)
	want := statObjects(t, stat.stdout.String())[0]
	if why := want.missed(); why != "" {
		return why
	}
	spelled := func(state string) string {
		return strings.Replace(strings.ToLower(state), "syn_recv", "syn_received", 1)
	}
	for _, e := range want.Edges {
		name := fmt.Sprintf("finwait_transitions_total{from=%q,to=%q}", spelled(e.From), spelled(e.To))
		if got[name] != float64(e.Count) {
			t.Errorf("%s %v, stat has %d", name, got[name], e.Count)
		}
		delete(got, name)
	}
	for name, n := range got {
		if strings.HasPrefix(name, "finwait_transitions_total") {
			t.Errorf("%s %v, and stat does not have it", name, n)
		}
	}
	for _, s := range want.States {
		if name := fmt.Sprintf("finwait_connections{state=%q}", spelled(s.State)); got[name] != float64(s.Live) {
			t.Errorf("%s %v, stat has %d", name, got[name], s.Live)
		}
		count := fmt.Sprintf("finwait_state_duration_seconds_count{state=%q}", spelled(s.State))
		// Two tracers do not measure the same nanoseconds.
		if s.State != "TIME_WAIT" && got[count] != float64(s.Timed) {
			t.Errorf("%s %v, stat has %d", count, got[count], s.Timed)
		}
	}
	for _, g := range want.Groups {
		for _, s := range g.States {
			if g.Name == nil {
				continue
			}
			name := fmt.Sprintf("finwait_group_entered_total{port=%q,state=%q}", *g.Name, spelled(s.State))
			if n, there := got[name]; s.Entered > 0 != there && n > 0 || n != float64(s.Entered) {
				t.Errorf("%s %v, stat has %d", name, n, s.Entered)
			}
		}
	}
	kernel := map[string]float64{
		`finwait_connects_total{result="established"}`:                             7,
		`finwait_connects_total{result="refused"}`:                                 1,
		`finwait_connects_total{result="no_port"}`:                                 0,
		`finwait_connections{state="time_wait"}`:                                   float64(ns.States()[unix.BPF_TCP_TIME_WAIT]),
		`finwait_connections{state="established"}`:                                 float64(ns.States()[unix.BPF_TCP_ESTABLISHED]),
		`finwait_connections{state="listen"}`:                                      float64(ns.States()[unix.BPF_TCP_LISTEN]),
		`finwait_closes_total{reason="reset",role="server",state="established"}`:   1,
		`finwait_closes_total{reason="aborted",role="client",state="established"}`: 1,
		`finwait_active_closes_total{role="client"}`:                               5,
		`finwait_active_closes_total{role="server"}`:                               0,
		`finwait_passive_closes_total{role="client"}`:                              0,
		`finwait_passive_closes_total{role="server"}`:                              5,
		`finwait_handshake_duration_seconds_count`:                                 7,
		`finwait_session_duration_seconds_count{role="client"}`:                    6,
		`finwait_session_duration_seconds_count{role="server"}`:                    6,
		`finwait_lost_total{cause="missed"}`:                                       0,
		`finwait_program_attached{program="set_state"}`:                            1,
		`finwait_groups`: 2,
	}
	for name, n := range kernel {
		if v, there := got[name]; !there || v != n {
			t.Errorf("%s %v, want %v", name, v, n)
		}
	}
	return ""
}

// Findings are those of the doctor, and ports those that it counts.
func TestServeFindings(t *testing.T) {
	ns := sandbox.New(t)
	ns.Sysctl("ip_local_port_range", "40000 40019")
	connected(ns, 5000, 17)
	p, at := served(t, "--netns", pathOf(ns))
	got := scrape(t, at)
	for name, n := range map[string]float64{
		"finwait_ports_used_max": 17, "finwait_ports_usable": 20, "finwait_ports_used_ratio_max": 0.85,
		`finwait_findings{id="port-pressure",severity="risk"}`: 1, `finwait_findings{id="port-range-shape",severity="note"}`: 1,
		`finwait_findings{id="close-wait-leak",severity="failing"}`: 0,
		`finwait_namespaces{visited="true"}`:                        1, `finwait_namespaces{visited="false"}`: 0,
	} {
		if v, there := got[name]; !there || v != n {
			t.Errorf("%s %v, want %v", name, v, n)
		}
	}
	for name := range got {
		if strings.Contains(name, "refused-storm") || strings.HasPrefix(name, "finwait_audit") {
			t.Errorf("%s: nobody can tell", name)
		}
	}
	if age := time.Since(time.Unix(0, int64(got["finwait_refresh_timestamp_seconds"]*1e9))); age < 0 || age > 2*time.Minute {
		t.Errorf("refreshed %v ago", age)
	}
	_, body := ask(t, at+"/findings")
	var ids []string
	dec := json.NewDecoder(strings.NewReader(body))
	for dec.More() {
		var o struct{ Event, ID string }
		if err := dec.Decode(&o); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, o.Event+" "+o.ID)
	}
	if s := strings.Join(ids, ", "); s != "finding port-pressure, finding port-range-shape, checkup " {
		t.Errorf("/findings has %s", s)
	}
	p.finish(t)
}

// The whole host is compared with the kernel's counters, also in namespaces that come later.
func TestServeAudit(t *testing.T) { testnet.Attempts(t, serveAuditOnce) }

func serveAuditOnce(t *testing.T) string {
	p, at := served(t, "--refresh", "1s")
	ns := sandbox.New(t)
	pairs := connected(ns, 5000, 20)
	now := time.Now()
	var got map[string]float64
	// A refresh that takes long makes the next one come later.
	for deadline := now.Add(3 * time.Minute); got["finwait_refresh_timestamp_seconds"] < float64(now.UnixMilli())/1e3; time.Sleep(100 * time.Millisecond) {
		if got = scrape(t, at); time.Now().After(deadline) {
			t.Fatalf("the last refresh was at %v: %s", got["finwait_refresh_timestamp_seconds"], p.said())
		}
	}
	closeAll(pairs.clients, pairs.servers)
	p.finish(t)
	if got[`finwait_lost_total{cause="missed"}`] > 0 {
		return "transitions were missed"
	}
	if n := got[`finwait_audit_counters{verdict="disagrees"}`]; n != 0 || got[`finwait_audit_counters{verdict="agrees"}`] < 9 {
		t.Errorf("%v counters disagree, %v agree", n, got[`finwait_audit_counters{verdict="agrees"}`])
	}
	if got[`finwait_map_capacity{map="namespaces"}`] < 1023 || got[`finwait_map_entries{map="namespaces"}`] < 1 {
		t.Errorf("of namespaces %v are known", got[`finwait_map_entries{map="namespaces"}`])
	}
	return ""
}

// There are no more groups than the limit, and none is called what it is not.
func TestServeLimit(t *testing.T) {
	ns := sandbox.New(t)
	p, at := served(t, "--netns", pathOf(ns), "--by", "port", "--limit", "2", "--refresh", "0")
	for port := range uint16(5) {
		connected(ns, 6000+port, 1)
	}
	got := scrape(t, at)
	if got["finwait_groups"] != 2 || got["finwait_groups_without_room"] != 3 || got[`finwait_group_connections{port="other",state="established"}`] != 6 {
		t.Errorf("%v groups, %v without room, %v others", got["finwait_groups"], got["finwait_groups_without_room"],
			got[`finwait_group_connections{port="other",state="established"}`])
	}
	var sum float64
	for name, n := range got {
		if strings.HasPrefix(name, "finwait_group_connections") && strings.Contains(name, `state="established"`) {
			sum += n
		}
	}
	if sum != got[`finwait_connections{state="established"}`] || sum != 10 {
		t.Errorf("%v in all groups, %v in all", sum, got[`finwait_connections{state="established"}`])
	}
	if code, _ := ask(t, at+"/findings"); code != http.StatusNotFound {
		t.Errorf("/findings: %d", code)
	}
	p.finish(t)
}

// What it may do while it serves, with each feature that takes more.
func TestPrivilegeOfServe(t *testing.T) {
	file := t.TempDir() + "/web.yml"
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	var sent atomic.Uint64
	collector := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { sent.Add(1) }))
	defer collector.Close()
	url := strings.Replace(collector.URL, "127.0.0.1", "localhost", 1) // it looks the name up
	refreshes := []uintptr{unix.CAP_SYS_PTRACE, unix.CAP_SYS_ADMIN, unix.CAP_DAC_READ_SEARCH}
	names := []uintptr{unix.CAP_SYS_PTRACE, unix.CAP_DAC_READ_SEARCH}
	for _, c := range []struct {
		args     string
		kept     []uintptr
		landlock bool
	}{
		{"", refreshes, false},
		{"--port 9", refreshes, false},
		{"--by pod", refreshes, false},
		{"--refresh 0", nil, true},
		{"--refresh 0 --by port", nil, true},
		{"--refresh 0 --by workload", names, false},
		{"--refresh 0 --web.config.file " + file, nil, false},
		{"--refresh 0 --otlp=" + url, nil, true},
		{"--refresh 0 --otlp-logs transitions --otlp=" + url, names, false},
	} {
		sent.Store(0)
		p, at := served(t, strings.Fields(c.args)...)
		p.awaitConfined(t, c.kept...)
		// The library's collector reads files of /proc/self, which Landlock forbids.
		if _, there := scrape(t, at)["process_cpu_seconds_total"]; there == c.landlock {
			t.Errorf("%s: /proc/self is read: %v", c.args, there)
		}
		if err := p.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := p.Wait(); err != nil || strings.Contains(p.said(), "WRN") || strings.Contains(p.said(), "ermi") {
			t.Errorf("%s: %v, %s", c.args, err, p.said())
		}
		if exports := strings.Contains(c.args, "--otlp"); (sent.Load() > 0) != exports {
			t.Errorf("%s: the collector was asked %d times", c.args, sent.Load())
		}
	}
}

// An ordinary user with the least serves, too, and says what it cannot see.
func TestPrivilegeOfServeLeast(t *testing.T) {
	ns := sandbox.New(t)
	p := newFinwait(t, "serve", "--web.listen-address", "127.0.0.1:0")
	p.SysProcAttr = nobody(least...)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	at := p.awaitServing(t)
	p.awaitConfined(t)
	connected(ns, 5000, 1)
	got := scrape(t, at)
	if got[`finwait_namespaces{visited="true"}`] != 1 || got[`finwait_connections{state="established"}`] < 2 {
		t.Errorf("%v namespaces, %v connections", got[`finwait_namespaces{visited="true"}`], got[`finwait_connections{state="established"}`])
	}
	p.finish(t)
	warned(t, p, unix.CAP_SYS_PTRACE, unix.CAP_SYS_ADMIN)
}

func TestServeUsage(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"--by remote":                    "metrics can be split by comm, container, netns, pod, port, unit, workload",
		"--limit 0 --by pod":             "at least one",
		"--refresh 10ms":                 "the shortest is 1s",
		"--refresh -1s":                  "negative",
		"--web.listen-address 0.0.0.0:0": "--web.any-address",
		"--web.systemd-socket --web.listen-address 0.0.0.0:80": "socket unit",
		"--web.listen-address nonsense":                        "nonsense",
		"more":                                                 "more",
	} {
		var stdout, stderr bytes.Buffer
		code := run(append([]string{"serve"}, strings.Fields(args)...), &stdout, &stderr)
		if code != exitUsage || !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: exit code %d: %s", args, code, &stderr)
		}
	}
	var stdout, stderr bytes.Buffer
	if code := run([]string{"serve", "--estimate", "--by", "pod"}, &stdout, &stderr); code != exitOK || !strings.Contains(stdout.String(), "finwait_group_connections") {
		t.Errorf("exit code %d: %s%s", code, &stdout, &stderr)
	}
}

// BenchmarkScrape is one scrape of a host with 300 network namespaces: without groups, and with each
// namespace as one.
func BenchmarkScrape(b *testing.B) {
	var spaces []*sandbox.NS
	for range 300 {
		spaces = append(spaces, sandbox.New(b))
	}
	for name, split := range map[string]tracer.Split{"": tracer.SplitNone, "netns": tracer.SplitNetNS} {
		b.Run("by="+name, func(b *testing.B) {
			tr, err := tracer.New(tracer.Config{TotalsOnly: true, SplitBy: split, GroupSums: true, Audit: true})
			if err != nil {
				b.Skip(err)
			}
			defer tr.Close()
			live := source.Live{Tracer: tr}
			m, err := meter.Start(live, meter.Options{By: split, Top: math.MaxInt})
			if err != nil {
				b.Fatal(err)
			}
			for _, ns := range spaces {
				p := connected(ns, 5000, 1)
				closeAll(p.clients, p.servers)
				p.listener.Close()
			}
			s := &serving{live: live, meter: m}
			s.begin(&serveOptions{by: name, limit: 50}, nil)
			benchmarkScrape(b, &families.Options{By: name, Limit: 50, Read: s.read})
		})
	}
}

func benchmarkScrape(b *testing.B, o *families.Options) {
	handler := metrics.Handler(families.New(o), connectionLog(logger(io.Discard)))
	var before, after unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &before)
	for b.Loop() {
		w := &discard{header: make(http.Header)}
		r, err := http.NewRequest(http.MethodGet, "/metrics", nil)
		if err != nil {
			b.Fatal(err)
		}
		handler.ServeHTTP(w, r)
		if w.n < 1000 {
			b.Fatalf("%d bytes", w.n)
		}
	}
	_ = unix.Getrusage(unix.RUSAGE_SELF, &after)
	// What other programs on the machine do not change much.
	b.ReportMetric(float64(after.Utime.Nano()+after.Stime.Nano()-before.Utime.Nano()-before.Stime.Nano())/float64(b.N)/1e6, "cpu-ms/op")
}

// discard is a ResponseWriter that counts.
type discard struct {
	header http.Header
	n      int
}

func (d *discard) Header() http.Header { return d.header }
func (d *discard) WriteHeader(int)     {}
func (d *discard) Write(b []byte) (int, error) {
	d.n += len(b)
	return len(b), nil
}
