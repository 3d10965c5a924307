package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"finwait/internal/reasons"
	"finwait/internal/sandbox"
	"finwait/internal/scenario"
	"finwait/tracer"

	"github.com/spf13/pflag"
)

// offered is what a shell is offered after these words, without the directive at the end.
func offered(t *testing.T, words ...string) (lines []string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := run(append([]string{"__complete"}, words...), &stdout, &stderr); code != exitOK {
		t.Fatalf("%q: exit code %d: %s", words, code, &stderr)
	}
	lines = strings.Split(strings.TrimSpace(stdout.String()), "\n")
	return lines[:len(lines)-1]
}

// A demonstration comes with its sentence, a reason with what happened.
func TestCompleteWithSentences(t *testing.T) {
	t.Parallel()
	demos, words := offered(t, "demo", ""), offered(t, "help", "reasons", "")
	for _, sc := range scenario.All() {
		if !slices.Contains(demos, sc.Name+"\t"+sc.Sentence) {
			t.Errorf("%s is not offered with its sentence", sc.Name)
		}
	}
	for _, e := range reasons.All() {
		if !slices.Contains(words, e.Word()+"\t"+e.What) {
			t.Errorf("%s is not offered with what it means", e.Word())
		}
	}
	if more := offered(t, "demo", "close", ""); len(more) > 0 {
		t.Errorf("after the one that demo takes: %q", more)
	}
}

func TestCompleteValues(t *testing.T) {
	t.Parallel()
	states := wordsOf(tracer.States())
	for args, want := range map[string][]string{
		"--state ":               states,
		"trace --from ":          states,
		"stat --to ":             states,
		"ls --state ":            states,
		"ls --state LISTEN,":     {"LISTEN,TIME_WAIT", "LISTEN,CLOSE_WAIT"},
		"ls --state time":        {"time-wait"},
		"ls --state LISTEN,clos": {"LISTEN,close-wait", "LISTEN,closing"},
		"stat --by ":             append(wordsOf(tracer.Splits()), "pod", "container", "unit", "workload"),
		"serve --by ":            {"port", "netns", "pod", "workload"},
		"ls --by comm,":          {"comm,state", "comm,destination"},
		"ls --sort ":             {"age", "oldest", "TIME_WAIT"},
		"--output ":              {"text", "json"},
		"demo load --output ":    {"text", "json"},
		"conns --color ":         {"auto", "always", "never"},
		"conns --at ":            {"end", "close"},
		"trace --fields rtt,":    {"rtt,bytes"},
		"demo load --closer ":    {"client", "server", "both", "reset"},
	} {
		got := offered(t, strings.Split(args, " ")...)
		for _, w := range want {
			if !slices.Contains(got, w) {
				t.Errorf("%q: %q without %q", args, got, w)
			}
		}
	}
}

// A name that ip netns has given is offered, beside self and host.
func TestCompleteNamespaces(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("a name for a network namespace needs root")
	}
	name := fmt.Sprintf("finwait-complete-%d", os.Getpid())
	named(t, sandbox.New(t), name)
	got := offered(t, "ls", "--netns", "")
	for _, want := range []string{"self\t", "host\t", name} {
		if !slices.ContainsFunc(got, func(line string) bool { return strings.HasPrefix(line, want) }) {
			t.Errorf("%q without %q", got, want)
		}
	}
}

// free are flags with values that nobody can list.
var free = strings.Fields("port local-port remote-port addr pid comm handler-comm cookie write rate connect set root web.listen-address web.host web.config.file otlp")

// Each flag that takes a value offers some, or is one of those.
func TestEveryFlagCompletes(t *testing.T) {
	t.Parallel()
	for _, cmd := range commands() {
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			switch f.Value.Type() {
			case "bool", "int", "uint32", "uint64", "duration":
				return
			}
			_, offers := cmd.GetFlagCompletionFunc(f.Name)
			if offers == slices.Contains(free, strings.TrimPrefix(f.Name, "not-")) {
				t.Errorf("%s --%s: offers values: %v", cmd.CommandPath(), f.Name, offers)
			}
		})
	}
}
