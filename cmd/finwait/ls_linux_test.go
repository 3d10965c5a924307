package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"finwait/internal/sandbox"
	"finwait/internal/test/testnet"
	"finwait/tracer"

	"github.com/google/go-cmp/cmp"
)

// A jsonSocket is one line of ls --sockets --output json.
type jsonSocket struct {
	NetNS      uint32 `json:"netns"`
	Cookie     uint64 `json:"cookie"`
	Family     string `json:"family"`
	LocalAddr  string `json:"local_addr"`
	LocalPort  uint16 `json:"local_port"`
	RemoteAddr string `json:"remote_addr"`
	RemotePort uint16 `json:"remote_port"`
	State      string `json:"state"`
	Owner      *struct {
		PID    int    `json:"pid"`
		Comm   string `json:"comm"`
		Holder bool   `json:"holder"`
	} `json:"owner"`
	Role           *string `json:"role"`
	FD             *uint32 `json:"fd"`
	Inode          *uint64 `json:"inode"`
	UID            *uint32 `json:"uid"`
	CgroupID       *uint64 `json:"cgroup_id"`
	NetNSName      *string `json:"netns_name"`
	Pod            *string `json:"pod"`
	Container      *string `json:"container"`
	Unit           *string `json:"unit"`
	RecvQ          *uint32 `json:"recv_q"`
	SendQ          *uint32 `json:"send_q"`
	AcceptQueue    *uint32 `json:"accept_queue"`
	AcceptQueueMax *uint32 `json:"accept_queue_max"`
	Timer          *string `json:"timer"`
	TimerLeftMS    *int64  `json:"timer_left_ms"`
	Retransmits    *uint8  `json:"retransmits"`
	Probes         *uint8  `json:"probes"`
	AgeMS          *int64  `json:"age_ms"`
	AgeNS          *int64  `json:"age_ns"`
	Precision      string  `json:"precision"`
	IdleNS         *int64  `json:"idle_ns"`
	IdlePrecision  string  `json:"idle_precision"`
	Queued         *bool   `json:"queued"`
	Orphan         *bool   `json:"orphan"`
}

func ls(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if code := run(append([]string{"ls", "--output", "json"}, args...), &out, &errs); code != exitOK {
		t.Fatalf("ls %v: exit code %d: %s", args, code, errs.String())
	}
	return out.String()
}

func lsSockets(t *testing.T, args ...string) []jsonSocket {
	t.Helper()
	var all []jsonSocket
	d := json.NewDecoder(strings.NewReader(ls(t, append([]string{"--sockets"}, args...)...)))
	d.DisallowUnknownFields()
	for {
		var s jsonSocket
		err := d.Decode(&s)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
}

func ssState(t *testing.T, name string) string {
	t.Helper()
	if name == "ESTAB" {
		return tracer.Established.String()
	}
	state, err := parse[tracer.State](name)
	if err != nil {
		t.Fatal(err)
	}
	return state.String()
}

// ssAddr unmaps IPv4 addresses and writes port 0 as such.
func ssAddr(t *testing.T, s string) string {
	t.Helper()
	s = strings.Replace(s, ":*", ":0", 1)
	s = strings.Replace(s, "*:", "[::]:", 1)
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()).String()
}

func (s *jsonSocket) endpoints(t *testing.T) (local, remote netip.AddrPort) {
	t.Helper()
	l, err := netip.ParseAddr(s.LocalAddr)
	if err != nil {
		t.Fatal(err)
	}
	r, err := netip.ParseAddr(s.RemoteAddr)
	if err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(l, s.LocalPort), netip.AddrPortFrom(r, s.RemotePort)
}

// What is known of FIN_WAIT_2 and TIME_WAIT is said, and nothing else.
func TestLsTellsOrphansFromHeld(t *testing.T) {
	n := sandbox.New(t)
	testnet.Fill(t, n, testnet.Loopback()[0])

	orphans, held := 0, 0
	for _, s := range lsSockets(t, "--netns", n.Path(), "--state", "fin-wait-2,TIMEWAIT") {
		switch minisock := s.Timer != nil && *s.Timer == "timewait"; {
		case s.State == "TIME_WAIT":
			// To the tick; 10 ms is the longest.
			if s.Orphan != nil || s.AgeMS == nil || *s.AgeMS+*s.TimerLeftMS > 60_000 || *s.AgeMS+*s.TimerLeftMS < 60_000-10 ||
				*s.AgeNS != *s.AgeMS*1e6 || s.Precision != "at_least" {
				t.Errorf("TIME_WAIT: %+v", s)
			}
		case minisock:
			orphans++
			if s.Orphan == nil || !*s.Orphan || s.AgeMS != nil || s.Owner != nil || s.UID != nil {
				t.Errorf("orphan: %+v", s)
			}
		default:
			held++
			if s.Orphan == nil || *s.Orphan || s.AgeMS == nil || s.Precision != "at_least" || s.Owner == nil || s.UID == nil || *s.UID != uint32(os.Getuid()) {
				t.Errorf("held: %+v", s)
			}
		}
	}
	if orphans != 1 || held != 2 {
		t.Errorf("%d orphans and %d held, want 1 and 2", orphans, held)
	}
}

// Without filters the namespaces of other processes are read as well.
func TestLsReachesOtherNamespaces(t *testing.T) {
	n := sandbox.New(t)
	made := testnet.Fill(t, n, testnet.Loopback()[:2]...)
	child := exec.Command("sleep", "600")
	n.Try(child.Start)
	defer func() {
		child.Process.Kill()
		child.Wait()
	}()

	got := make(sandbox.Census)
	for _, s := range lsSockets(t) {
		if s.NetNS == n.Inode {
			state, err := parse[tracer.State](s.State)
			if err != nil {
				t.Fatal(err)
			}
			got[uint8(state)]++
		}
	}
	if d := cmp.Diff(made, got); d != "" {
		t.Error(d)
	}
}

func TestLsCounts(t *testing.T) {
	n := sandbox.New(t)
	made := testnet.Fill(t, n, testnet.Loopback()...)

	want := make(map[string]int)
	for _, state := range tracer.States() {
		if state != tracer.Closed {
			want[state.String()] = made[uint8(state)]
		}
	}
	const notKnown = -1
	count := func(args ...string) map[string]int {
		t.Helper()
		got := make(map[string]int)
		for line := range strings.Lines(ls(t, append([]string{"--netns", n.Path()}, args...)...)) {
			var s struct {
				State string
				Live  *int
			}
			if err := json.Unmarshal([]byte(line), &s); err != nil {
				t.Fatal(err)
			}
			if got[s.State] = notKnown; s.Live != nil {
				got[s.State] = *s.Live
			}
		}
		return got
	}
	if d := cmp.Diff(want, count()); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string]int{"SYN_RECV": 3, "NEW_SYN_RECV": 3}, count("--state", "SYN_RECV,NEW_SYN_RECV")); d != "" {
		t.Error(d)
	}
	// By owner, only what this process holds: all but minisocks, requests, orphans and what was not accepted.
	// Whose those are or were is not known.
	held := count("--pid", strconv.Itoa(os.Getpid()))
	for state, n := range map[string]int{"LISTEN": 12, "FIN_WAIT_2": 6, "TIME_WAIT": notKnown, "NEW_SYN_RECV": notKnown, "CLOSE_WAIT": 6, "LAST_ACK": notKnown} {
		if held[state] != n {
			t.Errorf("held in %s: %d, want %d", state, held[state], n)
		}
	}
}

func TestLsSorted(t *testing.T) {
	n := sandbox.New(t)
	testnet.Fill(t, n, testnet.Loopback()...)
	var remote []netip.AddrPort
	for _, s := range lsSockets(t, "--netns", n.Path(), "--sort", "-remote") {
		_, r := s.endpoints(t)
		remote = append(remote, r)
	}
	if !slices.IsSortedFunc(remote, func(a, b netip.AddrPort) int { return b.Compare(a) }) {
		t.Errorf("not sorted: %v", remote)
	}
}

// A reader that goes away ends the list, quietly.
func TestLsIntoAClosedPipe(t *testing.T) {
	n := sandbox.New(t)
	testnet.TimeWaits(t, n, 2003) // several buffers full
	for _, output := range []string{"text", "json"} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		var errs bytes.Buffer
		if code := run([]string{"ls", "--sockets", "--output", output, "--netns", n.Path()}, w, &errs); code != exitOK || errs.Len() > 0 {
			t.Errorf("%s: exit code %d, said %q", output, code, errs.String())
		}
		w.Close()
	}
}

func BenchmarkLs(b *testing.B) {
	const sockets = 100_000
	n := sandbox.New(b)
	testnet.TimeWaits(b, n, sockets)
	for name, args := range map[string][]string{
		"count":  {},
		"text":   {"--sockets"},
		"json":   {"--sockets", "--output", "json"},
		"sorted": {"--sockets", "--sort", "age"},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if code := run(append([]string{"ls", "--netns", n.Path()}, args...), io.Discard, io.Discard); code != exitOK {
					b.Fatalf("exit code %d", code)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*sockets), "ns/socket")
		})
	}
}

func TestLsInterrupted(t *testing.T) {
	n := sandbox.New(t)
	testnet.Fill(t, n, testnet.Loopback()[0])
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	o := lsOptions{out: outputFlags{output: "text", color: "never"}, filters: filterFlags{netns: []string{n.Path()}}}
	var out bytes.Buffer
	if err := o.run(ctx, &out, io.Discard); !errors.Is(err, errInterrupted) || out.Len() > 0 {
		t.Errorf("got %v and %q; counts of a part are not to be shown", err, out.String())
	}
}

// Who lists what a process holds hears how many sockets might be its own.
func TestLsSaysWhatItCannotTell(t *testing.T) {
	n := sandbox.New(t)
	made := testnet.Fill(t, n, testnet.Loopback()[0])
	waits := made[uint8(tracer.TimeWait)]
	for args, want := range map[string]string{
		"--pid 1 --state TIME_WAIT,LISTEN":             fmt.Sprintf("not listed: %d sockets whose owner is not known", waits),
		"--pid 1 --state LISTEN":                       "",
		"--state TIME_WAIT":                            "",
		"--pid 1 --state TIME_WAIT,LISTEN --port 1":    "",
		"--comm no-such --state TIME_WAIT,ESTABLISHED": "whose owner is not known",
		"--min-age 1h --state TIME_WAIT":               fmt.Sprintf("left out: %d sockets that are not known to be 1h0m0s in their state: %[1]d may be younger, of 0 no age", waits),
		"--min-age 1ns --state LISTEN,LAST_ACK":        fmt.Sprintf("of %d no age is known", made[uint8(tracer.Listen)]+made[uint8(tracer.LastAck)]),
	} {
		var out, errs bytes.Buffer
		code := run(append([]string{"ls", "--sockets", "--netns", n.Path()}, strings.Fields(args)...), &out, &errs)
		if code != exitOK || (want == "") != (errs.Len() == 0) || !strings.Contains(errs.String(), want) {
			t.Errorf("%s: exit code %d, said %q, want %q", args, code, &errs, want)
		}
	}
}
