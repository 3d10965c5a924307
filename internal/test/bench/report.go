//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"

	"finwait/internal/test/markdown"

	"golang.org/x/sys/unix"
)

// figures are one quantity, measured in each round.
type figures []float64

func (f figures) median() float64 {
	s := slices.Sorted(slices.Values(f))
	if len(s) == 0 {
		return math.NaN()
	}
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// show prints the median, and the least and the most in parentheses.
func (f figures) show(digits int) string {
	if len(f) == 0 {
		return ""
	}
	return fmt.Sprintf("%.*f (%.*f to %.*f)", digits, f.median(), digits, slices.Min(f), digits, slices.Max(f))
}

// A result is all that was measured of a tool.
type result struct {
	tool     *tool
	rate     figures            // connections per second
	share    figures            // percent of the untraced rate
	left     figures            // percent of the rate with empty programs, in the same round
	kernel   figures            // ns per transition, net of the empty programs
	programs map[string]figures // kernel, by program
	cpu      figures            // microseconds per transition, or seconds per million
	memory   figures            // MB
	first    figures            // ms
	accounts                    // sum of all runs
}

func (res *result) name() string {
	if res.tool.hooks == "" {
		return res.tool.name
	}
	return res.tool.name + ", " + res.tool.hooks + " hooks"
}

// setState is the time of finwait's first program on the tracepoint, others that of all its other programs.
func (res *result) setState() float64 { return res.programs[setState].median() }

func (res *result) others() (sum float64) {
	for name, ns := range res.programs {
		if name != setState {
			sum += ns.median()
		}
	}
	return sum
}

const setState = "set_state"

type report struct {
	bench         *bench
	results       []*result
	missing       []string
	untraced      figures
	empty         figures // rate with empty programs
	emptyShare    figures // percent of the untraced rate
	floor         figures // ns per run of an empty program
	perConnection figures // transitions
	distance      figures // ns; before and after each run that measures programs
}

func (r *report) String() string {
	var b strings.Builder
	r.machine(&b)
	r.table(&b)
	r.parts(&b)
	r.targets(&b)
	return b.String()
}

func (r *report) machine(b *strings.Builder) {
	text := fmt.Sprintf("%s, %d CPUs, Linux %s, %s. ", cpuModel(), runtime.NumCPU(), release(), runtime.Version())
	if peers, err := exec.Command("dpkg-query", "-W", "-f", "${Package} ${Version}, ", "libbpf-tools", "bpftrace").Output(); err == nil {
		text += fmt.Sprintf("The other tracers are Debian's: %s. ", strings.TrimSuffix(string(peers), ", "))
	}
	text += fmt.Sprintf("%d rounds of %d connections with %d threads. ", r.bench.rounds, r.bench.connections, runtime.NumCPU())
	b.WriteString(markdown.Paragraph(text + "Each figure is the median of the rounds, with the least and the most in parentheses."))
	if r.bench.noisy > 0 {
		b.WriteString(markdown.Paragraph(fmt.Sprintf("**%d of %d runs began while other programs used the CPUs. Do not rely on these figures.**",
			r.bench.noisy, r.bench.runs)))
	}
	for _, why := range r.missing {
		b.WriteString(markdown.Paragraph("Not measured: " + why + "."))
	}
}

func (r *report) table(b *strings.Builder) {
	fmt.Fprintf(b, `| | connections/s | of untraced, %% | of empty programs, %% | kernel, ns per transition | reader's CPU, s per million | peak memory, MB | first event, ms |
|---|---:|---:|---:|---:|---:|---:|---:|
| untraced | %s | | | | | | |
| empty programs on the tracepoints that finwait uses | %s | %s | | | | | |
`, r.untraced.show(0), r.empty.show(0), r.emptyShare.show(1))
	for _, res := range r.results {
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s | %s |\n", res.name(), res.rate.show(0), res.share.show(1), res.left.show(1),
			res.kernel.show(0), res.cpu.show(2), res.memory.show(0), res.first.show(0))
	}
	fmt.Fprint(b, "\n| all runs together | transitions made | delivered | lost | command |\n|---|---:|---:|---:|---|\n")
	for _, res := range r.results {
		fmt.Fprintf(b, "| %s | %d | %d | %d | `%s` |\n", res.name(), res.made, res.delivered, res.lost, res.tool.command())
	}
	b.WriteString("\n" + markdown.Paragraph(fmt.Sprintf("The kernel passed the tracepoint `%s` %s times per connection. "+
		"An empty program on that tracepoint took %s ns per run.", stateTracepoint, r.perConnection.show(3), r.floor.show(0))))
	if len(r.distance) > 0 {
		b.WriteString(markdown.Paragraph(fmt.Sprintf("A cache line went from one CPU to the other in %s ns. What both CPUs write "+
			"is as much faster or slower.", r.distance.show(0))))
	}
}

// parts is the time of each of finwait's programs.
func (r *report) parts(b *strings.Builder) {
	names := make(map[string]bool)
	var ours []*result
	for _, res := range r.results {
		if res.tool.hooks == "" {
			continue
		}
		ours = append(ours, res)
		for name := range res.programs {
			names[name] = true
		}
	}
	if len(ours) == 0 {
		return
	}
	b.WriteString("| program, net ns per transition |")
	for _, res := range ours {
		fmt.Fprintf(b, " %s |", res.name())
	}
	fmt.Fprintf(b, "\n|---|%s\n", strings.Repeat("---:|", len(ours)))
	for _, name := range slices.Sorted(maps.Keys(names)) {
		fmt.Fprintf(b, "| `%s` |", name)
		for _, res := range ours {
			fmt.Fprintf(b, " %s |", res.programs[name].show(0))
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
}

// targets compares the medians with the budgets. The rates are compared with what empty
// programs leave in the same round: nothing that finwait does can change that part.
func (r *report) targets(b *strings.Builder) {
	b.WriteString("| target | | measured | met |\n|---|---|---:|---|\n")
	row := func(what string, res *result, got, want float64, unit string, atLeast bool) {
		met, off := got <= want, got-want
		sign := "<="
		if atLeast {
			met, off, sign = got >= want, want-got, ">="
		}
		verdict := "yes"
		if !met {
			verdict = fmt.Sprintf("**no**, by %.3g %s", off, unit)
		}
		fmt.Fprintf(b, "| %s %s %.3g %s | %s | %.3g | %s |\n", what, sign, want, unit, res.name(), got, verdict)
	}
	for _, res := range r.results {
		if res.tool.hooks == "" {
			continue
		}
		stat, object := strings.Contains(res.tool.name, "stat"), strings.Contains(res.tool.name, "JSON")
		if stat {
			row("`set_state`, net of the empty program", res, res.setState(), 200, "ns", false)
			row("connections/s of what empty programs leave", res, res.left.median(), 92, "%", true)
		} else {
			row("`set_state`, net of the empty program", res, res.setState(), 320, "ns", false)
		}
		row("other programs together, net", res, res.others(), 60, "ns", false)
		if object {
			row("connections/s of what empty programs leave", res, res.left.median(), 86, "%", true)
			row("reader's CPU per transition", res, res.cpu.median(), 0.5, "µs", false)
		}
		row("lost", res, float64(res.lost), 0, "transitions", false)
		row("first event", res, res.first.median(), 250, "ms", false)
		row("peak memory", res, res.memory.median(), 40, "MB", false)
	}
	b.WriteString("| allocations per event = 0 | text and JSON | 0 | yes: tested by TestSinksAllocateNothing and TestResolveAllocatesNothing |\n")
}

// cpuModel is the model name of the CPU in proc_cpuinfo(5).
func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "?"
	}
	return unix.ByteSliceToString(u.Release[:])
}

const (
	beginMark = "<!-- measured: written by make bench -->\n"
	endMark   = "<!-- end -->\n"
)

// insert puts text between the marks of a file.
func insert(path, text string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, rest, begun := bytes.Cut(old, []byte(beginMark))
	_, tail, ended := bytes.Cut(rest, []byte(endMark))
	if !begun || !ended {
		return errors.New(path + " has no marks to write between")
	}
	return os.WriteFile(path, slices.Concat(head, []byte(beginMark), []byte("\n"+text+"\n"), []byte(endMark), tail), 0o644)
}
