//go:build linux

package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"finwait/tracer"
)

// A tool traces transitions. The fields say how to run it and how to read its output.
type tool struct {
	name  string
	hooks string // finwait's set of hooks; "" for another tool
	argv  []string
	// start is argv with options that print the first event at once. Under load these options
	// would slow down a tool that buffers its output.
	start []string
	// keep: the output is kept, because it must be counted. Other output goes to /dev/null.
	keep bool
	// account reads from the output how many transitions were delivered and lost. made is how
	// many the kernel made.
	account func(stdout, stderr []byte, made uint64) (accounts, error)
	event   string // text in every line of a transition
}

type accounts struct{ made, delivered, lost uint64 }

const scriptName = "tcpstates.bt"

//go:embed tcpstates.bt
var script []byte

// tools lists the tools that can run here. missing says why others cannot. script is the path of
// a bpftrace script.
func tools(finwait, script string) (all []*tool, missing []string) {
	for _, h := range tracer.HookSets()[1:] { // all but auto
		if err := allowed(h); err != nil {
			missing = append(missing, fmt.Sprintf("finwait with %s hooks: %v", h, err))
			continue
		}
		set := h.String()
		stat := []string{finwait, "stat", "--output", "json", "--hooks", set}
		text := []string{finwait, "trace", "--hooks", set}
		object := append(text, "--output", "json")
		all = append(all,
			&tool{name: "finwait stat", hooks: set, argv: stat, start: append(stat, "--interval", "10ms"), keep: true, account: statAccounts, event: `"edges":[{`},
			&tool{name: "finwait trace, text", hooks: set, argv: text, start: text, account: traceAccounts, event: "SYN_SENT"},
			&tool{name: "finwait trace, JSON", hooks: set, argv: object, start: object, account: traceAccounts, event: `"event":"transition"`})
	}
	tcpstates := []string{"tcpstates"}
	bpftrace := []string{"bpftrace", "-B", "full", script}
	for _, t := range []*tool{
		{name: "tcpstates", argv: tcpstates, start: append([]string{"stdbuf", "-oL"}, tcpstates...), keep: true, account: lineAccounts, event: "-> SYN_SENT"},
		{name: "bpftrace", argv: bpftrace, start: []string{"bpftrace", script}, keep: true, account: lineAccounts, event: " -> "},
	} {
		if _, err := exec.LookPath(t.argv[0]); err != nil {
			missing = append(missing, fmt.Sprintf("%s: %v; make bench-deps installs it", t.name, err))
			continue
		}
		all = append(all, t)
	}
	return all, missing
}

// allowed returns why this kernel does not allow the hooks, or nil.
func allowed(h tracer.HookSet) error {
	tr, err := tracer.New(tracer.Config{Hooks: h, TotalsOnly: true})
	if err != nil {
		return err
	}
	return tr.Close()
}

// statAccounts reads the output of finwait stat --output json.
func statAccounts(stdout, _ []byte, made uint64) (accounts, error) {
	var o struct {
		Edges []struct{ Count uint64 }
		Lost  map[string]uint64
	}
	if err := json.Unmarshal(stdout, &o); err != nil {
		return accounts{}, fmt.Errorf("%w: %q", err, stdout)
	}
	a := accounts{made: made}
	for _, e := range o.Edges {
		a.delivered += e.Count
	}
	for _, n := range o.Lost {
		a.lost += n
	}
	return a, nil
}

var field = regexp.MustCompile(`(\w+)=(\d+)`)

// traceAccounts reads the last line of finwait trace's stderr.
func traceAccounts(_, stderr []byte, made uint64) (accounts, error) {
	fields := make(map[string]uint64)
	for _, m := range field.FindAllSubmatch(stderr, -1) {
		n, err := strconv.ParseUint(string(m[2]), 10, 64)
		if err != nil {
			return accounts{}, err
		}
		fields[string(m[1])] = n
	}
	if _, ok := fields["seen"]; !ok {
		return accounts{}, fmt.Errorf("no accounts: %q", stderr)
	}
	a := accounts{made: made, delivered: fields["delivered"]}
	for _, cause := range tracer.Losses() {
		n, ok := fields[cause.String()]
		if !ok {
			return accounts{}, fmt.Errorf("no accounts of %v: %q", cause, stderr)
		}
		a.lost += n
	}
	return a, nil
}

// lineAccounts counts the lines that begin with the address of a socket. Other tools' own reports
// of losses are not used, because they are text and not always printed.
func lineAccounts(stdout, _ []byte, made uint64) (accounts, error) {
	a := accounts{made: made}
	for line := range bytes.Lines(stdout) {
		if bytes.HasPrefix(line, []byte("ff")) {
			a.delivered++
		}
	}
	if a.delivered == 0 {
		return a, errors.New("it told of no transition")
	}
	a.lost = made - min(made, a.delivered)
	return a, nil
}

// command is the command line of the tool, for people.
func (t *tool) command() string {
	words := append([]string{}, t.argv...)
	for i, w := range words {
		if filepath.Base(w) == scriptName {
			words[i] = "internal/test/bench/" + scriptName
		}
	}
	return strings.Join(words, " ")
}
