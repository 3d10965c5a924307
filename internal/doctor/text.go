package doctor

import (
	"bufio"
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"finwait/internal/text"
)

// Text writes a report for people.
type Text struct {
	W      *bufio.Writer
	Lang   *Language
	Colour bool
	Width  int // of the terminal; 0: there is none, and everything is shown
	Lines  int // how many it has
	All    bool
}

// textWidth is how long lines are where there is no terminal.
const textWidth = 80

// Report writes it: the worst finding first, and, on a terminal, no more than has room.
func (t *Text) Report(in *Input, r *Report) error {
	var live uint64
	for _, s := range in.Spaces {
		live += s.Live()
	}
	head := t.block(func() {
		t.wrap("", 0, fmt.Sprintf(t.Lang.Word("sockets"), t.Lang.number(live, "socket"), t.Lang.number(uint64(len(in.Spaces)), "network namespace"))+t.Lang.Word("stop"))
		if worst, found := r.Worst(); !found || worst == OK {
			t.W.WriteByte('\n')
			t.wrap("", 0, t.Lang.Word("healthy"))
		}
	})
	foot := t.block(func() { t.unchecked(r) })
	room := t.Lines - 3 - lines(head) - lines(foot) // 3: those of what is left out, and the prompt
	t.W.WriteString(head)
	left := len(r.Findings)
	for i := range r.Findings {
		one := t.block(func() { t.finding(&r.Findings[i]) })
		room -= lines(one)
		if t.Width > 0 && !t.All && i > 0 && room < 0 {
			break
		}
		t.W.WriteString(one)
		left--
	}
	if left > 0 {
		t.W.WriteByte('\n')
		t.wrap("", 0, fmt.Sprintf(t.Lang.Word("more"), t.Lang.number(uint64(left), "finding")))
	}
	t.W.WriteString(foot)
	return t.W.Flush()
}

// block is what write writes.
func (t *Text) block(write func()) string {
	var b bytes.Buffer
	to := t.W
	t.W = bufio.NewWriter(&b)
	write()
	t.W.Flush() // a bytes.Buffer does not fail
	t.W = to
	return b.String()
}

func lines(block string) int { return strings.Count(block, "\n") }

func (t *Text) finding(f *Finding) {
	about := t.Lang.About(f.ID)
	t.W.WriteByte('\n')
	head := t.severity(f.Severity) + "  " + f.ID
	if f.Inferred {
		head += " (" + t.Lang.Word("inferred") + ")"
	}
	if f.Space != nil {
		head += "  " + t.Lang.Word("namespace") + " " + text.Printable(f.Space.Label())
	}
	t.W.WriteString(head + "\n")
	t.wrap("", 2, t.Lang.Say(f, about.Text))
	t.labelled("cause", about.Cause)
	for _, fix := range about.Fixes[:min(1, len(about.Fixes))] {
		t.labelled("fix", fmt.Sprintf(t.Lang.Word("with_risk"), fix.Do, fix.Risk))
	}
	for _, not := range about.DoNot[:min(1, len(about.DoNot))] {
		t.labelled("do_not", not)
	}
	for _, command := range about.Commands[:min(1, len(about.Commands))] {
		t.command(t.Lang.Word("evidence")+t.Lang.Word("colon"), t.Lang.Say(f, command))
	}
}

func (t *Text) labelled(word, words string) { t.wrap(t.Lang.Word(word)+t.Lang.Word("colon"), 2, words) }

// command writes a command that can be pasted: where it is broken, the shell reads on.
func (t *Text) command(label, command string) {
	const indent = "  "
	t.W.WriteString(indent + label)
	n := len(indent) + text.Cells(label)
	for i, word := range strings.Fields(command) {
		if i > 0 && n+1+text.Cells(word)+2 > t.columns() { // 2: " \\"
			t.W.WriteString(" \\\n" + indent + indent)
			n = 2 * len(indent)
		} else if i > 0 {
			t.W.WriteByte(' ')
			n++
		}
		t.W.WriteString(word)
		n += text.Cells(word)
	}
	t.W.WriteByte('\n')
}

// unchecked says what the verdict does not cover.
func (t *Text) unchecked(r *Report) {
	byWhy := make(map[string][]string)
	var order []string
	for _, n := range r.NotChecked {
		key := t.Lang.Word("not_checked")
		if n.Part {
			key = t.Lang.Word("in_part")
		}
		why := fmt.Sprintf(t.Lang.Word("because"), key, t.Lang.Why(n.Why))
		if byWhy[why] == nil {
			order = append(order, why)
		}
		byWhy[why] = append(byWhy[why], n.ID)
	}
	if len(order)+len(r.Ignored) > 0 {
		t.W.WriteByte('\n')
	}
	for _, why := range order {
		t.wrap("", 0, why+strings.Join(byWhy[why], ", "))
	}
	if len(r.Ignored) > 0 {
		t.wrap("", 0, t.Lang.Word("ignored")+": "+strings.Join(r.Ignored, ", "))
	}
}

var colours = map[Severity]string{OK: "\x1b[32m", Note: "\x1b[2m", Risk: "\x1b[33m", Slow: "\x1b[33m", WillFail: "\x1b[31m", Failing: "\x1b[1;31m"}

func (t *Text) severity(s Severity) string {
	word := s.String()
	if s == Risk {
		word = "risk_word"
	}
	word = t.Lang.Word(word)
	if !t.Colour {
		return word
	}
	return colours[s] + word + "\x1b[0m"
}

func (t *Text) wrap(head string, indent int, words string) {
	text.Indent(t.W, "", indent, t.columns(), head+words)
}

// columns is how long a line may be.
func (t *Text) columns() int {
	if t.Width == 0 || t.Width > 100 {
		return textWidth
	}
	return t.Width
}

// Explain writes the page of a rule: what docs/findings has, too.
func Explain(w *bufio.Writer, lang *Language, rule *Rule) error {
	about := lang.About(rule.ID)
	fmt.Fprintf(w, "# %s\n\n", rule.ID)
	text.Wrap(w, about.Title+lang.Word("stop"), textWidth)
	section := func(title string, paragraphs ...string) {
		if len(paragraphs) == 0 || paragraphs[0] == "" {
			return
		}
		fmt.Fprintf(w, "\n## %s\n\n", capital(title))
		for i, p := range paragraphs {
			if i > 0 || len(paragraphs) > 1 {
				p = "- " + p
			}
			wrapMarkdown(w, p)
		}
	}
	section(lang.Word("cause"), about.Cause)
	section(lang.Word("mechanism"), about.Mechanism)
	var fixes []string
	for _, f := range about.Fixes {
		fixes = append(fixes, fmt.Sprintf(lang.Word("with_risk"), f.Do, f.Risk))
	}
	section(lang.Word("fix"), fixes...)
	section(lang.Word("do_not"), about.DoNot...)
	if rule.Thresholds != nil {
		var all []string
		for _, t := range rule.Thresholds {
			all = append(all, rule.threshold(lang, &t))
		}
		section(lang.Word("thresholds"), all...)
	}
	if about.Demo != "" {
		section(lang.Word("demo"), "`"+about.Demo+"`")
	}
	section(lang.Word("sources"), about.Sources...)
	return w.Flush()
}

func (r *Rule) threshold(lang *Language, t *Threshold) string {
	return fmt.Sprintf("%s.%s=%s%s%s", r.ID, t.Name, strconv.FormatFloat(t.Value, 'f', -1, 64), lang.Word("colon"), lang.Threshold(r, t))
}

// capital makes a label a heading.
func capital(label string) string {
	first, size := utf8.DecodeRuneInString(label)
	return string(unicode.ToUpper(first)) + label[size:]
}

// wrapMarkdown breaks a paragraph or an item of a list at 80 columns.
func wrapMarkdown(w *bufio.Writer, p string) {
	indent := 0
	if strings.HasPrefix(p, "- ") {
		indent = 2
	}
	if indent == 0 {
		text.Wrap(w, p, textWidth)
		return
	}
	text.Indent(w, "- ", indent, textWidth, p[indent:])
}

// Index writes the page that leads to the pages of all rules.
func Index(w *bufio.Writer, lang *Language) error {
	fmt.Fprintf(w, "# %s\n\n", lang.Word("index"))
	wrapMarkdown(w, lang.Word("about_index"))
	fmt.Fprintf(w, "\n| %s | %s | %s |\n|---|---|---|\n", lang.Word("id"), lang.Word("worst"), lang.Word("what"))
	for _, r := range Rules() {
		fmt.Fprintf(w, "| [%s](%s.md) | %s | %s |\n", r.ID, r.ID, r.Worst, lang.About(r.ID).Title)
	}
	return w.Flush()
}

// List writes a line for each rule, and its thresholds.
func List(w *bufio.Writer, lang *Language) error {
	for _, r := range Rules() {
		head := fmt.Sprintf("%-28s %-9s ", r.ID, r.Worst)
		text.Indent(w, head, len(head), textWidth, lang.About(r.ID).Title)
		for _, t := range r.Thresholds {
			text.Indent(w, "", 2, textWidth, r.threshold(lang, &t))
		}
	}
	return w.Flush()
}
