package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"finwait/tracer"
)

// A result is what came of one kernel.
type result struct {
	kernel  kernel
	passed  int
	failed  []string
	skipped map[string]string // test -> reason
	costs   map[string]string // program -> instructions that the verifier looked at
	refusal string            // what finwait said of a kernel that is too old
	err     error
	took    time.Duration
}

func (r *result) bad() bool { return r.err != nil || len(r.failed) > 0 }

func (r *result) String() string {
	s := fmt.Sprintf("%s: %s (%v)", r.kernel.version, r.summary(), r.took.Round(time.Second))
	if r.err != nil {
		s += ": " + r.err.Error()
	}
	for _, test := range r.failed {
		s += "\n    FAIL " + test
	}
	return s
}

func (r *result) summary() string {
	switch {
	case r.err != nil:
		return "FAIL"
	case r.refusal != "":
		return "refused, as it should be"
	}
	return fmt.Sprintf("%d passed, %d failed, %d skipped", r.passed, len(r.failed), len(r.skipped))
}

var exitMark = regexp.MustCompile(`(?m)^exit status (\d+)$`)

// judgeRefusal wants finwait to have ended by itself, with a sentence that
// names what the kernel lacks.
func (r *result) judgeRefusal(out string) error {
	exit := exitMark.FindStringSubmatch(out)
	if exit == nil || exit[1] != "1" {
		return fmt.Errorf("finwait should have ended with exit status 1: %q", out)
	}
	for line := range strings.Lines(out) {
		if strings.Contains(line, "this kernel has no ") && strings.Contains(line, "use a kernel from "+tracer.MinimumKernel+" on") {
			r.refusal = strings.TrimSpace(line)
			return nil
		}
	}
	return fmt.Errorf("finwait did not name what this kernel lacks: %q", out)
}

var (
	costLine = regexp.MustCompile(`verified (\w+): (\d+) instructions`)
	logLine  = regexp.MustCompile(`\w+\.go:\d+: (.*)`)
)

// judgeTests counts what the test binaries reported.
func (r *result) judgeTests(out string) error {
	exit := exitMark.FindStringSubmatch(out)
	if exit == nil {
		return errors.New("the machine stopped before the tests had ended")
	}
	convert := exec.Command("go", "tool", "test2json")
	convert.Stdin = strings.NewReader(out)
	events, err := output(convert)
	if err != nil {
		return err
	}
	r.skipped, r.costs = make(map[string]string), make(map[string]string)
	logs := make(map[string]string) // the last line that each test logged
	for line := range strings.Lines(events) {
		var e struct{ Action, Test, Output string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			return fmt.Errorf("%w: %q", err, line)
		}
		if e.Test == "" {
			continue
		}
		switch e.Action {
		case "output":
			if m := costLine.FindStringSubmatch(e.Output); m != nil {
				r.costs[m[1]] = m[2]
			}
			if m := logLine.FindStringSubmatch(e.Output); m != nil {
				logs[e.Test] = m[1]
			}
		case "pass":
			r.passed++
		case "fail":
			r.failed = append(r.failed, e.Test)
		case "skip":
			r.skipped[e.Test] = logs[e.Test]
		}
	}
	switch {
	case exit[1] != "0" && len(r.failed) == 0:
		return fmt.Errorf("no test failed, but the exit status is %s", exit[1])
	case r.passed == 0:
		return errors.New("no test ran")
	}
	return nil
}

// table is one line for each kernel.
func table(results []*result) string {
	names := make(map[string]bool)
	for _, r := range results {
		for name := range r.costs {
			names[name] = true
		}
	}
	programs := slices.Sorted(maps.Keys(names))
	var b strings.Builder
	fmt.Fprintf(&b, "| kernel | passed | failed | skipped | %s |\n", strings.Join(programs, " | "))
	fmt.Fprintf(&b, "|---|%s\n", strings.Repeat("---:|", 3+len(programs)))
	for _, r := range results {
		fmt.Fprintf(&b, "| %s ", strings.TrimSuffix(r.kernel.version, "-cloud-amd64"))
		if r.err != nil || r.refusal != "" {
			fmt.Fprintf(&b, "| %s | | ", r.summary())
		} else {
			fmt.Fprintf(&b, "| %d | %d | %d ", r.passed, len(r.failed), len(r.skipped))
		}
		for _, name := range programs {
			fmt.Fprintf(&b, "| %s ", r.costs[name])
		}
		b.WriteString("|\n")
	}
	return b.String()
}

// skips lists why tests were left out, and on which kernels.
func skips(results []*result) string {
	where := make(map[string][]string)
	for _, r := range results {
		for test, reason := range r.skipped {
			top, _, _ := strings.Cut(test, "/")
			claim := fmt.Sprintf("%s: %s", top, reason)
			if series := r.kernel.series; !slices.Contains(where[claim], series) {
				where[claim] = append(where[claim], series)
			}
		}
	}
	var b strings.Builder
	for _, claim := range slices.Sorted(maps.Keys(where)) {
		fmt.Fprintf(&b, "- %s (%s)\n", claim, strings.Join(where[claim], ", "))
	}
	return b.String()
}

// document is docs/kernels.md.
func document(results []*result) string {
	var b strings.Builder
	b.WriteString(`# Kernels that finwait is tested on

Written by ` + "`make docs-kernels`" + `: Debian's cloud kernels for amd64, the newest of every
series that Debian's mirror had, each booted in QEMU without hardware support. The
tests are those of internal/live in short mode: the 60 seconds of a TIME_WAIT
are not waited for, which the tests on the running kernel do. The columns on
the right are how many instructions the kernel's verifier looked at to accept each
program; its limit is one million.

`)
	b.WriteString(table(results))
	if s := skips(results); s != "" {
		b.WriteString("\nSkipped:\n\n" + s)
	}
	for _, r := range results {
		if r.refusal != "" {
			fmt.Fprintf(&b, "\nOn %s finwait refuses to start, and says why:\n\n    %s\n", r.kernel.series, r.refusal)
		}
	}
	return b.String()
}
