package main

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"finwait/internal/demo"
	"finwait/internal/scenario"

	"golang.org/x/sys/unix"
)

func runDemo(t *testing.T, code int, args ...string) (stdout, stderr string) {
	t.Helper()
	p := startFinwait(t, append([]string{"demo"}, args...)...)
	_ = p.Wait() // ExitCode tells
	if got := p.ProcessState.ExitCode(); got != code {
		t.Fatalf("finwait demo %s: exit code %d, want %d: %s", strings.Join(args, " "), got, code, p.said())
	}
	return p.stdout.String(), p.said()
}

// masks hide what no two runs share.
var masks = []struct{ what, by string }{
	{`(?m)^ +\d+\.\d{6}`, "       TIME"},
	{`\d+\.\d{3}(us|ms|s)\b`, "SPAN"},
	{`[\d.]+ (µs|ms|s)\b`, "SPAN"},
	{`127\.0\.0\.1:\d+`, "ADDR"},
	{` +`, " "}, // alignment follows what was masked
}

func masked(out string) string {
	for _, m := range masks {
		out = regexp.MustCompile(m.what).ReplaceAllString(out, m.by)
	}
	return out
}

func TestDemoLadder(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"linger-zero": ` SECONDS CLIENT SEGMENT SERVER
 TIME # the client connects
 TIME listener LISTEN
 -- ADDR to ADDR
 TIME SYN_SENT ── SYN ──────>
 TIME ESTABLISHED after SPAN <── SYN+ACK ──
 TIME ESTABLISHED ── ACK ──────> SYN_RECV
 TIME ESTABLISHED ESTABLISHED after SPAN
 TIME # the client sets SO_LINGER to 0 and calls close()
 TIME CLOSED after SPAN ── RST ──────> ESTABLISHED
 TIME ── RST ──────> CLOSED after SPAN

The client was in ESTABLISHED for SPAN`,
		"refused": ` SECONDS CLIENT SEGMENT SERVER
 TIME # the client connects to a port on which nobody listens
 -- ADDR to ADDR
 TIME SYN_SENT ── SYN ──────>
 TIME CLOSED after SPAN <────── RST ──
 TIME # connect(): connection refused

SYN_SENT lasted SPAN: the answer was an RST`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stdout, stderr := runDemo(t, exitOK, name)
			if got := masked(stdout); !strings.HasPrefix(got, want) {
				t.Errorf("stdout:\n%s\nwant:\n%s", got, want)
			}
			if stderr != "" {
				t.Errorf("stderr: %s", stderr)
			}
			if strings.Contains(stdout, "\x1b") {
				t.Error("colours in a pipe")
			}
			for line := range strings.Lines(stdout) {
				if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 100 {
					t.Errorf("%d columns: %s", n, line)
				}
			}
		})
	}
}

// --fast says what it leaves out, and the TIME_WAIT is shown as what it was then.
func TestDemoFast(t *testing.T) {
	t.Parallel()
	stdout, _ := runDemo(t, exitOK, "close", "--fast", "--color", "always")
	for _, want := range []string{"--fast: the minute is skipped", "netns_removed", "\x1b[33mTIME_WAIT\x1b[0m", "<────── FIN ──"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("nothing said of %q:\n%s", want, stdout)
		}
	}
}

func TestDemoJSON(t *testing.T) {
	t.Parallel()
	// Nothing is skipped with --fast where no TIME_WAIT is waited for.
	stdout, stderr := runDemo(t, exitOK, "reset", "--fast", "--output", "json")
	lines := decodeLines(t, []byte(stdout))
	var client []string
	for _, l := range lines[:len(lines)-1] {
		if l["event"] != "transition" {
			t.Errorf("event %v", l["event"])
		}
		if l["role"] == "client" {
			client = append(client, l["to"].(string))
		}
	}
	if want := []string{"SYN_SENT", "ESTABLISHED", "CLOSED"}; !slices.Equal(client, want) {
		t.Errorf("the client went %v, want %v", client, want)
	}
	last := lines[len(lines)-1]
	if last["event"] != "demo" || last["name"] != "reset" || last["result"] != demo.AsExpected || last["fast"] != false || last["text"] == "" || stderr != "" {
		t.Errorf("%v, stderr %q", last, stderr)
	}
}

func TestDemoList(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run([]string{"demo"}, &stdout, &stderr); code != exitOK {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	lines := strings.Split(strings.TrimSpace(stdout.String()), "\n")
	for i, sc := range scenario.All() {
		if !strings.HasPrefix(lines[i], sc.Name+" ") || !strings.Contains(lines[i], sc.Sentence) || len(lines[i]) > 100 {
			t.Errorf("%s: %q", sc.Name, lines[i])
		}
	}
	stdout.Reset()
	if code := run([]string{"demo", "-o", "json"}, &stdout, &stderr); code != exitOK {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	if got := decodeLines(t, stdout.Bytes()); len(got) != len(lines) || got[0]["event"] != "demo_listed" || got[0]["name"] != "close" || got[0]["minute"] != true {
		t.Errorf("%v", got)
	}
}

func TestDemoUsageErrors(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		say  string
	}{
		"no such demonstration": {[]string{"frobnicate"}, `"frobnicate"`},
		"two":                   {[]string{"close", "reset"}, `"reset"`},
		"output":                {[]string{"close", "-o", "xml"}, `"xml"`},
		"colour":                {[]string{"close", "--color", "blue"}, `"blue"`},
		"rate":                  {[]string{"load", "--rate", "fast"}, `"fast"`},
		"no connections":        {[]string{"load", "--count", "0"}, "0 connections"},
		"hold":                  {[]string{"load", "--hold=-1s"}, "-1s"},
		"closer":                {[]string{"load", "--closer", "nobody"}, `"nobody"`},
		"no port":               {[]string{"load", "--connect", "localhost"}, "HOST:PORT"},
		"no host":               {[]string{"load", "--connect", ":9"}, "HOST:PORT"},
		"no such port":          {[]string{"load", "--connect", "localhost:frobnicate"}, `"frobnicate"`},
		"port 0":                {[]string{"load", "--connect", "localhost:0"}, `"0"`},
		"both, but one is ours": {[]string{"load", "--connect", "localhost:9", "--closer", "both"}, "both"},
		"load's output":         {[]string{"load", "-o", "xml"}, `"xml"`},
	} {
		var stdout, stderr bytes.Buffer
		if code := run(append([]string{"demo"}, c.args...), &stdout, &stderr); code != exitUsage || stdout.Len() > 0 {
			t.Errorf("%s: exit code %d, stdout %q", name, code, &stdout)
		}
		if !strings.Contains(stderr.String(), c.say) || strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("%s: stderr does not say %q in one line: %q", name, c.say, &stderr)
		}
	}
}

func TestDemoLoad(t *testing.T) {
	t.Parallel()
	stdout, _ := runDemo(t, exitOK, "load", "--rate", "max", "--count", "97", "--hold", "1ms", "-o", "json")
	l := decodeLines(t, []byte(stdout))[0]
	if l["event"] != "load" || l["made"] != 97.0 || l["time_wait"] != 97.0 || l["connect_p50_ns"].(float64) <= 0 {
		t.Errorf("%v", l)
	}
	stdout, _ = runDemo(t, exitOK, "load", "--rate", "1000/s", "--count", "97", "--hold", "0s", "--closer", "reset")
	if !strings.HasPrefix(stdout, "made      97 connections") || !strings.Contains(stdout, "left      0 in TIME_WAIT") {
		t.Errorf("stdout: %s", stdout)
	}
}

// Where --hold does not let --rate be, that is said.
func TestDemoLoadHeldBack(t *testing.T) {
	t.Parallel()
	const said = "held back: at most"
	if _, stderr := runDemo(t, exitOK, "load", "--rate", "1000000/s", "--count", "7", "--hold", "10ms"); !strings.Contains(stderr, said) {
		t.Errorf("stderr: %q", stderr)
	}
	if _, stderr := runDemo(t, exitOK, "load", "--rate", "1000/s", "--count", "7", "--hold", "10ms"); strings.Contains(stderr, said) {
		t.Errorf("stderr: %q", stderr)
	}
}

func TestLoadResolve(t *testing.T) {
	for connect, want := range map[string]string{
		"127.0.0.1:9": "127.0.0.1:9", "[::ffff:127.0.0.1]:9": "127.0.0.1:9", "[::1]:9": "[::1]:9", "[fe80::1%lo]:9": "[fe80::1%lo]:9",
	} {
		if got, err := (&loadOptions{connect: connect}).resolve(t.Context()); err != nil || got.String() != want {
			t.Errorf("%s: %v, %v", connect, got, err)
		}
	}
}

// demoWith runs a demonstration as nobody, with some capabilities.
func demoWith(t *testing.T, caps []uintptr, args ...string) *process {
	t.Helper()
	p := newFinwait(t, append([]string{"demo"}, args...)...)
	p.SysProcAttr = nobody(caps...)
	_ = p.Run() // ExitCode tells
	return p
}

func TestDemoNotPermitted(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"close"}, {"load"}} {
		p := demoWith(t, nil, args...)
		if s := p.said(); p.ProcessState.ExitCode() != exitFailure || !strings.Contains(s, "CAP_SYS_ADMIN") || strings.Count(s, "\n") != 1 {
			t.Errorf("exit code %d, stderr %q", p.ProcessState.ExitCode(), s)
		}
	}
}

// A capability that is missing is named, and only what needs it does not run.
func TestDemoCapabilities(t *testing.T) {
	t.Parallel()
	p := demoWith(t, []uintptr{unix.CAP_SYS_ADMIN}, "load", "--count", "1")
	if s := p.said(); p.ProcessState.ExitCode() != exitFailure || !strings.Contains(s, "CAP_NET_ADMIN") {
		t.Errorf("exit code %d, stderr %q", p.ProcessState.ExitCode(), s)
	}
	p = demoWith(t, []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_SYSLOG}, "rst-in-time-wait")
	if s := p.stdout.String(); p.ProcessState.ExitCode() != exitOK || !strings.HasPrefix(s, "not run: ") || !strings.Contains(s, "CAP_NET_RAW") {
		t.Errorf("exit code %d, stdout %q, stderr %q", p.ProcessState.ExitCode(), s, p.said())
	}
}

// Ctrl-C ends a demonstration in the midst of it, in order.
func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("/proc/self/exe", "demo", "half-close")
	cmd.Env = append(os.Environ(), asFinwait+"=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	interrupted := false
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if strings.Contains(lines.Text(), "FIN_WAIT_2") { // for three seconds
			interrupted = true
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait() // ExitCode tells
	if !interrupted || cmd.ProcessState.ExitCode() != exitFailure || !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("interrupted: %v, exit code %d, stderr %s", interrupted, cmd.ProcessState.ExitCode(), &stderr)
	}
}
