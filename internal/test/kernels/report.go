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

	"finwait/internal/test/markdown"
	"finwait/tracer"
)

// errStopped: the kernel panicked, or the emulator did.
var errStopped = errors.New("the machine stopped before the tests had ended")

// A result is the outcome of one kernel.
type result struct {
	kernel  kernel
	sets    []outcome
	costs   map[string]string // program -> instructions that the verifier looked at
	refusal string            // finwait's error on a kernel that is too old
	again   bool              // the result is that of a second boot, because the machine stopped in the first
	err     error
	took    time.Duration
}

// An outcome counts the tests with one set of hooks. hooks is empty for the tests before these.
type outcome struct {
	hooks   string
	passed  int
	failed  []string
	again   []string          // tests that failed once and then passed twice
	skipped map[string]string // test -> reason
}

func (r *result) bad() bool {
	return r.err != nil || slices.ContainsFunc(r.sets, func(o outcome) bool { return len(o.failed) > 0 })
}

func (r *result) String() string {
	s := fmt.Sprintf("%s: %s (%v)", r.kernel, r.summary(), r.took.Round(time.Second))
	if r.again {
		s += " in a second boot"
	}
	if r.err != nil {
		s += ": " + r.err.Error()
	}
	for _, o := range r.sets {
		for _, test := range o.again {
			s += fmt.Sprintf("\n    failed once, then passed twice: %s %s", o.hooks, test)
		}
		for _, test := range o.failed {
			s += fmt.Sprintf("\n    FAIL %s %s", o.hooks, test)
		}
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
	var all []string
	for _, o := range r.sets {
		if o.hooks != "" {
			all = append(all, fmt.Sprintf("%s %d passed, %d failed, %d skipped", o.hooks, o.passed, len(o.failed), len(o.skipped)))
		}
	}
	return strings.Join(all, "; ")
}

var exitMark = regexp.MustCompile(`(?m)^exit status (\d+)$`)

// judgeRefusal checks that finwait ended by itself, with an error that names what the
// kernel lacks.
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
	hookLine = regexp.MustCompile(`(?m)^hooks (\w+)$`)
	again    = regexp.MustCompile(`(?ms)^again$.*^that was again$`)
)

// judgeTests counts what the test binaries reported, for each set of hooks.
func (r *result) judgeTests(out string) error {
	exit := exitMark.FindStringSubmatch(out)
	if exit == nil {
		return errStopped
	}
	r.costs = make(map[string]string)
	hooks := ""
	for {
		part, next := out, hookLine.FindStringSubmatchIndex(out)
		if next != nil {
			part = out[:next[0]]
		}
		o, err := r.judgeSet(hooks, part)
		if err != nil {
			return err
		}
		r.sets = append(r.sets, o)
		if next == nil {
			break
		}
		hooks, out = out[next[2]:next[3]], out[next[1]:]
	}
	if exit[1] != "0" && !r.bad() {
		return fmt.Errorf("no test failed, but the exit status is %s", exit[1])
	}
	return nil
}

// judgeSet counts the tests of one set of hooks. A test that failed once and then passed
// twice counts as passed, and is listed in outcome.again.
func (r *result) judgeSet(hooks, out string) (outcome, error) {
	o, err := r.judgeRun(hooks, again.ReplaceAllString(out, ""))
	if err != nil {
		return o, err
	}
	if repeated := again.FindString(out); repeated != "" {
		second, err := r.judgeRun(hooks, repeated)
		if err != nil {
			return o, err
		}
		if len(second.failed) == 0 {
			o.passed += len(o.failed)
			o.failed, o.again = nil, o.failed
		}
	}
	return o, nil
}

func (r *result) judgeRun(hooks, out string) (outcome, error) {
	o := outcome{hooks: hooks, skipped: make(map[string]string)}
	convert := exec.Command("go", "tool", "test2json")
	convert.Stdin = strings.NewReader(out)
	events, err := output(convert)
	if err != nil {
		return o, err
	}
	logs := make(map[string]string) // the last line that each test logged
	for line := range strings.Lines(events) {
		var e struct{ Action, Test, Output string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			return o, fmt.Errorf("%w: %q", err, line)
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
			o.passed++
		case "fail":
			o.failed = append(o.failed, e.Test)
		case "skip":
			o.skipped[e.Test] = logs[e.Test]
		}
	}
	if o.passed+len(o.failed) == 0 {
		return o, fmt.Errorf("no test ran: hooks %q", hooks)
	}
	return o, nil
}

// table has one row for each kernel and set of hooks.
func table(results []*result) string {
	var b strings.Builder
	b.WriteString("| kernel | hooks | passed | failed | skipped |\n|---|---|---:|---:|---:|\n")
	for _, r := range results {
		if r.err != nil || r.refusal != "" {
			fmt.Fprintf(&b, "| %s | | %s | | |\n", r.kernel, r.summary())
			continue
		}
		for _, o := range r.sets {
			if o.hooks != "" {
				fmt.Fprintf(&b, "| %s | %s | %d | %d | %d |\n", r.kernel, o.hooks, o.passed, len(o.failed), len(o.skipped))
			}
		}
	}
	return b.String()
}

// costs has one row for each program.
func costs(results []*result) string {
	names := make(map[string]bool)
	var tested []*result
	for _, r := range results {
		if len(r.costs) > 0 {
			tested = append(tested, r)
		}
		for name := range r.costs {
			names[name] = true
		}
	}
	var b strings.Builder
	b.WriteString("| program |")
	for _, r := range tested {
		fmt.Fprintf(&b, " %s |", r.kernel.name())
	}
	fmt.Fprintf(&b, "\n|---|%s\n", strings.Repeat("---:|", len(tested)))
	for _, name := range slices.Sorted(maps.Keys(names)) {
		fmt.Fprintf(&b, "| %s |", name)
		for _, r := range tested {
			fmt.Fprintf(&b, " %s |", r.costs[name])
		}
		b.WriteString("\n")
	}
	return b.String()
}

// repeats lists the tests that failed once and then passed.
func repeats(results []*result) string {
	var b strings.Builder
	for _, r := range results {
		for _, o := range r.sets {
			for _, test := range o.again {
				b.WriteString(markdown.Item(fmt.Sprintf("%s, %s: %s", r.kernel, o.hooks, test)))
			}
		}
	}
	return b.String()
}

// skips lists why tests were skipped, and on which kernels.
func skips(results []*result) string {
	where := make(map[string][]string)
	for _, r := range results {
		for _, o := range r.sets {
			for test, reason := range o.skipped {
				top, _, _ := strings.Cut(test, "/")
				claim := fmt.Sprintf("%s: %s", top, reason)
				if name := r.kernel.name(); !slices.Contains(where[claim], name) {
					where[claim] = append(where[claim], name)
				}
			}
		}
	}
	var b strings.Builder
	for _, claim := range slices.Sorted(maps.Keys(where)) {
		b.WriteString(markdown.Item(fmt.Sprintf("%s (%s)", claim, strings.Join(where[claim], ", "))))
	}
	return b.String()
}

// document is docs/kernels.md.
func document(results []*result) string {
	var b strings.Builder
	b.WriteString("# Kernels that finwait is tested on\n\n")
	b.WriteString(markdown.Paragraph("`make docs-kernels`" + ` writes this document. It boots Debian's cloud
		kernels in QEMU, without hardware support: the newest kernel of each series that Debian's mirror
		has for amd64, and one for arm64. The two CPUs of a machine take turns on one CPU of the host.`))
	b.WriteString(markdown.Paragraph(`The tests are those of internal/test/live in short mode. Short mode does
		not wait for the 60 seconds of a TIME_WAIT, and tries one filter of each kind. Tests that do not
		depend on the hooks of minisocks (filters, groups, opening and closing a tracer, a full ring
		buffer) run with one set of hooks only. What is the same on every kernel does not run here: that
		nothing leaks, that the last event is read, the order across CPUs, floods, full tables of groups,
		and filters that only compare. On the running kernel all tests run in full.`))
	b.WriteString(table(results))
	if s := skips(results); s != "" {
		b.WriteString("\nSkipped:\n\n" + s)
	}
	if s := repeats(results); s != "" {
		b.WriteString("\n" + markdown.Paragraph(`These tests failed once and then passed twice. An emulated machine
			can stand still for longer than any test waits.`) + s)
	}
	for _, r := range results {
		if r.refusal != "" {
			fmt.Fprintf(&b, "\nOn %s finwait refuses to start and says why:\n\n    %s\n", r.kernel.series, r.refusal)
		}
	}
	b.WriteString("\n## What is argued, not tested\n\n")
	b.WriteString(markdown.Paragraph("The oldest kernel that finwait is meant for is " + tracer.MinimumKernel + `.
		Debian has no kernel between 5.10 and 6.1, so it is not tested. That finwait runs there follows
		from the features that it uses: fentry (5.5), the ring buffer (5.8), iter/tcp (5.9), socket
		storage in tracing programs and bpf_get_current_task_btf() (5.11), and socket cookies in tracing
		programs, memory arguments of global functions and atomic instructions (5.12). finwait does not
		use bpf_get_func_ret() (5.17): it reads a function's return value from where BTF says that the
		arguments end. bpf/compat.h has the structs that were different then, and the kernel's BTF chooses
		between them. The cost for the verifier of these kernels is not known.`))
	b.WriteString(markdown.Paragraph(`On arm64 the JIT has atomic instructions from 5.18 on, and tail calls in
		programs with functions from 6.0 on. arm64 has fentry from 6.4 on (2aa6ac03516d, "arm64: ftrace:
		Add direct call support").`))
	b.WriteString("## What the verifier looks at\n\n")
	b.WriteString(markdown.Paragraph(`The table shows how many instructions the kernel's verifier looked at to
		accept each program. The programs include the totals, which finwait trace leaves out. The
		verifier's limit is one million.`))
	b.WriteString(costs(results))
	return b.String()
}
