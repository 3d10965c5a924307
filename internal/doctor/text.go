package doctor

import (
	"bufio"
	"fmt"
	"strings"

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
	t.wrap("", 0, fmt.Sprintf(t.Lang.Word("sockets"), count(live), count(len(in.Spaces)))+".")
	if worst, found := r.Worst(); !found || worst == OK {
		t.W.WriteByte('\n')
		t.wrap("", 0, t.Lang.Word("healthy"))
	}
	left := len(r.Findings)
	for i := range r.Findings {
		if t.Width > 0 && !t.All && i >= t.room() {
			break
		}
		t.W.WriteByte('\n')
		t.finding(&r.Findings[i])
		left--
	}
	if left > 0 {
		fmt.Fprintf(t.W, "\n"+t.Lang.Word("more")+"\n", left)
	}
	t.unchecked(r)
	return t.W.Flush()
}

// room is how many findings a terminal has room for: at least one.
func (t *Text) room() int {
	const each = 7 // lines, about
	return max(1, (t.Lines-4)/each)
}

func (t *Text) finding(f *Finding) {
	about := t.Lang.About(f.ID)
	head := t.severity(f.Severity) + "  " + f.ID
	if f.Inferred {
		head += " (" + t.Lang.Word("inferred") + ")"
	}
	if f.Space != nil {
		head += "  " + t.Lang.Word("namespace") + " " + f.Space.Label()
	}
	t.W.WriteString(head + "\n")
	t.wrap("", 2, t.Lang.Say(f, about.Text))
	for _, fix := range about.Fixes[:min(1, len(about.Fixes))] {
		t.wrap(t.Lang.Word("fix")+": ", 2, fix.Do)
	}
	for _, command := range about.Commands[:min(1, len(about.Commands))] {
		t.W.WriteString("  " + t.Lang.Word("evidence") + ": " + t.Lang.Say(f, command) + "\n")
	}
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
		why := key + ", " + n.Why + ": "
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
	width := t.Width
	if width == 0 || width > 100 {
		width = textWidth
	}
	if head == "" && indent == 0 {
		text.Wrap(t.W, words, width)
		return
	}
	text.Indent(t.W, "", indent, width, head+words)
}

// Explain writes the page of a rule: what docs/findings has, too.
func Explain(w *bufio.Writer, lang *Language, rule *Rule) error {
	about := lang.About(rule.ID)
	fmt.Fprintf(w, "# %s\n\n%s.\n", rule.ID, about.Title)
	section := func(title string, paragraphs ...string) {
		if len(paragraphs) == 0 || paragraphs[0] == "" {
			return
		}
		fmt.Fprintf(w, "\n## %s\n\n", title)
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
		fixes = append(fixes, f.Do+" ("+lang.Word("risk")+": "+f.Risk+")")
	}
	section(lang.Word("fix"), fixes...)
	section(lang.Word("do_not"), about.DoNot...)
	if rule.Thresholds != nil {
		var all []string
		for _, t := range rule.Thresholds {
			all = append(all, fmt.Sprintf("%s.%s=%v: %s", rule.ID, t.Name, t.Value, t.About))
		}
		section(lang.Word("thresholds"), all...)
	}
	if about.Demo != "" {
		section(lang.Word("demo"), "`"+about.Demo+"`")
	}
	section(lang.Word("sources"), about.Sources...)
	return w.Flush()
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

// List writes a line for each rule, and its thresholds.
func List(w *bufio.Writer, lang *Language) error {
	for _, r := range Rules() {
		fmt.Fprintf(w, "%-28s %-9s %s\n", r.ID, r.Worst, lang.About(r.ID).Title)
		for _, t := range r.Thresholds {
			fmt.Fprintf(w, "  %s.%s=%v: %s\n", r.ID, t.Name, t.Value, t.About)
		}
	}
	return w.Flush()
}
