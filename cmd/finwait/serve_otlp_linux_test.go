package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"finwait/internal/conns"
	"finwait/internal/sandbox"
	"finwait/tracer"
)

// What cannot be meant is said in one line, before anything is traced.
func TestOTLPRefuses(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "")
	for args, say := range map[string]string{
		"--otlp-logs transitions":                                       "--otlp-logs needs --otlp",
		"--otlp --otlp-logs segments":                                   "there are transitions and connections",
		"--otlp --otlp-logs transitions --otlp-queue 0":                 "--otlp-queue 0: at least one",
		"--otlp --otlp-logs connections --to CLOSED":                    "they need --otlp-logs transitions",
		"--state TIME_WAIT":                                             "they need --otlp-logs transitions",
		"--otlp --otlp-logs transitions --from NOWHERE":                 "NOWHERE",
		"--otlp --otlp-logs transitions --from SYN_SENT --to TIME_WAIT": "TCP never goes from SYN_SENT to TIME_WAIT",
		"--otlp=localhost:4318":                                         "is no URL of a collector",
		"--otlp=http://user:secret@localhost:4318/a?b=c":                "OTEL_EXPORTER_OTLP_HEADERS can have a password",
	} {
		var stdout, stderr bytes.Buffer
		code := run(append([]string{"serve"}, strings.Fields(args)...), &stdout, &stderr)
		if code != exitUsage || stdout.Len() > 0 || !strings.Contains(stderr.String(), say) || strings.Contains(stderr.String(), "secret") {
			t.Errorf("%s: exit code %d, %s%s", args, code, &stdout, &stderr)
		}
	}
}

// The environment alone sends nothing.
func TestOTLPIsAskedFor(t *testing.T) {
	var asked atomic.Uint64
	collector := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_METRIC_EXPORT_INTERVAL", "10")
	for flag, sends := range map[string]bool{"--refresh=0": false, "--otlp": true} {
		asked.Store(0)
		p, _ := served(t, flag)
		p.finish(t) // the last metrics are sent then
		if got := asked.Load(); (got > 0) != sends {
			t.Errorf("%s: the collector was asked %d times: %s", flag, got, p.said())
		}
	}
}

var (
	sentRecords = regexp.MustCompile(`sent=(\d+)`)
	lostRecords = regexp.MustCompile(`export=(\d+)`)
)

// Each transition that the kernel has counted was sent in a record, or is counted as lost: also if
// there never is a collector, and metrics cannot be sent either. It goes on to serve.
func TestOTLPWithoutCollector(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	l.Close()
	const (
		room        = 7
		n           = 20
		transitions = 2 + 10*n // of the listener, and of each connection up to TIME_WAIT, which lasts
	)
	ns := sandbox.New(t)
	t.Setenv("OTEL_METRIC_EXPORT_INTERVAL", "100")
	p, at := served(t, "--refresh", "0", "--port", "6001", "--otlp=http://"+nobody, "--otlp-logs", "transitions", "--otlp-queue", fmt.Sprint(room))
	p.awaitSaid(t, "metrics cannot be sent by OTLP")
	pairs := connected(ns, 6001, n)
	closeAll(pairs.clients, pairs.servers)
	pairs.listener.Close()
	p.awaitSaid(t, "log records cannot be sent by OTLP")
	var counted float64
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		got := scrape(t, at)
		counted = 0
		for name, v := range got {
			if strings.HasPrefix(name, "finwait_transitions_total{") {
				counted += v
			}
		}
		// A batch that has left the queue is not lost while it may still be sent. Of the transitions
		// that were missed, some may be of other sockets of the host.
		lost, missed := got[`finwait_lost_total{cause="export"}`], got[`finwait_lost_total{cause="missed"}`]
		if counted <= transitions && counted+missed >= transitions && lost > 0 && lost <= counted {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v transitions and %v missed, want %v; %v lost", counted, missed, transitions, lost)
		}
	}
	begun := time.Now()
	p.finish(t)
	if took := time.Since(begun); took > 25*time.Second {
		t.Errorf("the end took %v", took)
	}
	sent, lost := sentRecords.FindStringSubmatch(p.said()), lostRecords.FindStringSubmatch(p.said())
	if sent == nil || lost == nil {
		t.Fatal(p.said())
	}
	if n, err := strconv.Atoi(lost[1]); err != nil || sent[1] != "0" || n < int(counted) || n > transitions {
		t.Errorf("of %v transitions: %s", counted, p.said())
	}
	for _, what := range []string{"metrics", "log records"} {
		if strings.Count(p.said(), what+" cannot be sent by OTLP") != 1 {
			t.Errorf("%s: not said once: %s", what, p.said())
		}
	}
}

// Records are of the transitions that are asked for. The metrics count all of them.
func TestOTLPChoosesRecords(t *testing.T) {
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	defer collector.Close()
	const n = 20
	ns := sandbox.New(t)
	p, at := served(t, "--refresh", "0", "--port", "6001", "--otlp="+collector.URL, "--otlp-logs", "transitions", "--state", "TIME_WAIT")
	pairs := connected(ns, 6001, n)
	closeAll(pairs.clients, pairs.servers)
	pairs.listener.Close()
	const entered = `finwait_transitions_total{from="fin_wait_2",to="time_wait"}`
	var got map[string]float64
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if got = scrape(t, at); got[entered]+got[`finwait_lost_total{cause="missed"}`] >= n {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v entered TIME_WAIT, want %d", got[entered], n)
		}
	}
	if opened := got[`finwait_transitions_total{from="closed",to="syn_sent"}`]; opened == 0 || opened > n {
		t.Errorf("%v were opened, want %d", opened, n)
	}
	p.finish(t)
	sent := sentRecords.FindStringSubmatch(p.said())
	if sent == nil {
		t.Fatal(p.said())
	}
	if records, err := strconv.Atoi(sent[1]); err != nil || records < int(got[entered]) || records > n {
		t.Errorf("%v entered TIME_WAIT: %s", got[entered], p.said())
	}
}

// A connection that there is no room for is counted.
func TestOTLPUntracked(t *testing.T) {
	f := otlpFlags{url: "http://127.0.0.1:9", logs: logConnections, room: 1}
	e, err := f.open(context.Background(), nil, logger(new(bytes.Buffer)))
	if err != nil {
		t.Fatal(err)
	}
	if n := e.withoutRoom(); n == nil || *n != 0 {
		t.Fatalf("%v at the start", n)
	}
	e.joined = conns.NewSink(e.logs, conns.Options{Most: 1})
	for cookie := range uint64(3) {
		if err := e.join(&tracer.Transition{Cookie: cookie + 1, From: tracer.Closed, To: tracer.SynSent}); err != nil {
			t.Fatal(err)
		}
	}
	if n := *e.withoutRoom(); n != 2 {
		t.Errorf("%d of 3 had no room, want 2", n)
	}
	f.logs = logTransitions
	if e, err = f.open(context.Background(), nil, logger(new(bytes.Buffer))); err != nil || e.withoutRoom() != nil {
		t.Errorf("log records of transitions: %v, %v", e.withoutRoom(), err)
	}
}
