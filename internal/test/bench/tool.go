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

// A tool is something that traces transitions, and how to read what it says.
type tool struct {
	name  string
	hooks string // finwait's set; "": the tool is another
	argv  []string
	// start is argv with what makes the first event appear at once. A tool that
	// fills a buffer first is spared that where it is measured under load.
	start []string
	// keep: what it prints must be kept to be counted. Of others it goes to /dev/null.
	keep bool
	// account says how much of what it was shown it tells of. Made is what the kernel did.
	account func(stdout, stderr []byte, made uint64) (accounts, error)
	event   string // is in a line that tells of a transition
}

type accounts struct{ made, delivered, lost uint64 }

const scriptName = "tcpstates.bt"

//go:embed tcpstates.bt
var script []byte

// tools lists what can be run here, and says why the rest cannot. script is the
// path of a bpftrace script.
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

// allowed says why this kernel does not allow the hooks, if it does not.
func allowed(h tracer.HookSet) error {
	tr, err := tracer.New(tracer.Config{Hooks: h, TotalsOnly: true})
	if err != nil {
		return err
	}
	return tr.Close()
}

// statAccounts reads the object that finwait stat --output json prints.
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

// traceAccounts reads the last line of what finwait trace says on stderr.
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

// lineAccounts counts the lines that begin with the address of a socket. Others' own
// word on what they lost is not taken: it comes as text, and not always.
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

// command is what to type, for people.
func (t *tool) command() string {
	words := append([]string{}, t.argv...)
	for i, w := range words {
		if filepath.Base(w) == scriptName {
			words[i] = "internal/test/bench/" + scriptName
		}
	}
	return strings.Join(words, " ")
}
