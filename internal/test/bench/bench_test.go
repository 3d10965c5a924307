//go:build linux

package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFigures(t *testing.T) {
	for want, f := range map[string]figures{
		"":                 nil,
		"2.0 (2.0 to 2.0)": {2},
		"2.5 (1.0 to 9.0)": {9, 1, 3, 2},
		"3.0 (1.0 to 4.0)": {4, 1, 3},
	} {
		if got := f.show(1); got != want {
			t.Errorf("%v: %q, want %q", []float64(f), got, want)
		}
	}
}

// What each tool prints, as it printed it.
func TestAccounts(t *testing.T) {
	for name, c := range map[string]struct {
		account        func(stdout, stderr []byte, made uint64) (accounts, error)
		stdout, stderr string
		want           accounts
	}{
		"stat": {statAccounts,
			`{"event":"stat","states":[{"state":"CLOSED","live":0}],"edges":[{"from":"CLOSED","to":"SYN_SENT","count":3},{"from":"SYN_SENT","to":"CLOSED","count":2}],"lost":{"ring_full":0,"map_full":0,"missed":1,"unwind":0}}`,
			"INF counting TCP transitions; Ctrl-C ends it and shows the totals\n", accounts{6, 5, 1}},
		"trace": {traceAccounts, "",
			"INF tracing TCP transitions; Ctrl-C ends it\nWRN 3 transitions of the host were lost of 6 seen (50 %): what was shown is not all that happened delivered=3 filtered=0 hooks=tracepoint map_full=1 missed=1 ring_full=1 seen=6 unwind=0\n",
			accounts{6, 3, 3}},
		"tcpstates": {lineAccounts,
			"SKADDR           PID     COMM       LADDR           LPORT RADDR           RPORT OLDSTATE    -> NEWSTATE    MS\n" +
				"ffff88813adaca00 16260   bash       127.0.0.1       0     127.0.0.1       9     CLOSE       -> SYN_SENT    0.000\n" +
				"ffff88813adaca00 16260   bash       127.0.0.1       57054 127.0.0.1       9     SYN_SENT    -> CLOSE       0.266\n",
			"lost 4 events on CPU #0\n", accounts{6, 2, 4}},
		"bpftrace": {lineAccounts,
			"Attaching 2 probes...\nffff8881b05ae5c0 21518 bash 127.0.0.1 0 127.0.0.1 9 7 -> 2 0\n\n\n", "", accounts{6, 1, 5}},
	} {
		if got, err := c.account([]byte(c.stdout), []byte(c.stderr), 6); got != c.want || err != nil {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, c.want)
		}
		if got, err := c.account(nil, nil, 6); err == nil {
			t.Errorf("%s that printed nothing: %+v", name, got)
		}
	}
}

func TestInsert(t *testing.T) {
	path := filepath.Join(t.TempDir(), "doc.md")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("before\n" + beginMark + "old\n" + endMark + "after\n")
	if err := insert(path, "new\n"); err != nil {
		t.Fatal(err)
	}
	want := "before\n" + beginMark + "\nnew\n\n" + endMark + "after\n"
	if got, err := os.ReadFile(path); string(got) != want || err != nil {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	write("without marks\n")
	if insert(path, "new\n") == nil {
		t.Error("a file without marks is written to")
	}
}
