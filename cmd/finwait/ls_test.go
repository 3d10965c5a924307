package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"finwait/internal/sockets"

	"github.com/google/go-cmp/cmp"
)

// The help names every key, in 80 columns.
func TestLsHelp(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run([]string{"ls", "--help"}, &out, &errs); code != exitOK {
		t.Fatalf("exit code %d: %s", code, &errs)
	}
	about, _, _ := strings.Cut(out.String(), "\nUsage:")
	_, list, _ := strings.Cut(about, "The keys:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	var named []string
	for line := range strings.Lines(list) {
		if names, _, _ := strings.Cut(strings.TrimSpace(line[2:]), "  "); line[2] != ' ' {
			named = append(named, strings.Split(names, ", ")...)
		}
	}
	want := sockets.KeyWords()
	slices.Sort(want)
	slices.Sort(named)
	if d := cmp.Diff(want, named); d != "" {
		t.Errorf("the keys (-) and those of the help (+): %s", d)
	}
	for line := range strings.Lines(about) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %q", n, line)
		}
	}
}

func TestLsUsage(t *testing.T) {
	for line, want := range map[string]string{
		"--output xml":                             "text and json",
		"--color blue":                             "always",
		"--sort age":                               "--sort needs --sockets or --by",
		"--sockets --sort colour":                  "netns, state, recv-q",
		"--columns pid":                            "--columns needs --sockets",
		"--sockets --columns pid,colour":           "netns, state, recv-q",
		"--sockets --columns pid -o json":          "JSON has everything",
		"--sockets --by pid":                       "give one of the two",
		"--by colour":                              "state, port, remote, destination",
		"--by pid,uid,comm":                        "one or two",
		"--by pid --sort colour":                   "sockets, oldest, name, ports, and states",
		"--by pid --columns pid":                   "--columns needs --sockets",
		"--top 3":                                  "--top goes with --by",
		"--by pid --top -1":                        "negative",
		"--by ,":                                   "empty value",
		"--min-age -1s":                            "negative",
		"--from FIN_WAIT_2":                        "unknown flag: --from",
		"--to TIME_WAIT":                           "unknown flag: --to",
		"--min-duration 1s":                        "unknown flag: --min-duration",
		"--state CLOSED":                           "can never match",
		"--state TIME_WAIT --pid 4":                "can never match",
		"--state NEW_SYN_RECV --comm foo":          "can never match",
		"--port 0":                                 "can never match",
		"--state LISTEN --remote-port 80":          "a listener has a local port only",
		"--state LISTEN --port 80 --local-port 81": "a listener has a local port only",
		"--port 80 --local-port 81 --remote-port 82,83": "with local port 81 and remote port 82 or 83 it has no port 80",
		"-4 -6":            "can never match",
		"--state NO_STATE": "no TCP state is called",
		"extra":            "unknown command or argument",
	} {
		var out, errs bytes.Buffer
		if code := run(append([]string{"ls"}, strings.Fields(line)...), &out, &errs); code != exitUsage {
			t.Errorf("ls %s: exit code %d, want %d", line, code, exitUsage)
		}
		if !strings.Contains(errs.String(), want) || out.Len() > 0 {
			t.Errorf("ls %s: said %q and %q, want %q on stderr", line, out.String(), errs.String(), want)
		}
	}
}
