package doctor

import (
	"bufio"
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"finwait/internal/text"
)

func shown(t *testing.T, lang *Language, sc *Input, width, lines int, all bool) string {
	t.Helper()
	r, err := Examine(sc, Choice{})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := &Text{W: bufio.NewWriter(&b), Lang: lang, Width: width, Lines: lines, All: all}
	if err := w.Report(sc, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// No line is wider than the terminal, in any language.
func TestTextFits(t *testing.T) {
	for name, sc := range scenarios {
		for _, lang := range Languages() {
			sc.in.Missing = map[Need]Why{NeedLimits: whyNoLimits}
			for line := range strings.Lines(shown(t, lang, sc.in, 80, 0, true)) {
				if n := text.Cells(strings.TrimSuffix(line, "\n")); n > 80 {
					t.Errorf("%s, %s: %d columns: %s", name, lang.Tag, n, line)
				}
			}
			sc.in.Missing = nil
		}
	}
}

// Nor is a line of the list and of a page.
func TestPagesFit(t *testing.T) {
	for _, lang := range Languages() {
		var b bytes.Buffer
		if err := List(bufio.NewWriter(&b), lang); err != nil {
			t.Fatal(err)
		}
		for _, rule := range Rules() {
			if !strings.Contains("\n"+b.String(), "\n"+rule.ID+" ") {
				t.Errorf("%s: %s is not listed", lang.Tag, rule.ID)
			}
			if err := Explain(bufio.NewWriter(&b), lang, rule); err != nil {
				t.Fatal(err)
			}
		}
		for line := range strings.Lines(b.String()) {
			if n := text.Cells(strings.TrimSuffix(line, "\n")); n > 80 {
				t.Errorf("%s: %d columns: %s", lang.Tag, n, line)
			}
		}
	}
}

// A terminal is not overfull: what is left out is told, and --all shows it.
func TestTextOfAScreen(t *testing.T) {
	var spaces []*Space
	for i := range 9 {
		spaces = append(spaces, quiet(func(s *Space) {
			s.Name = fmt.Sprintf("pod%d", i)
			s.CloseWaits[0].Ages = slices.Repeat(ages(time.Hour), 10+i)
		}))
	}
	in := input(spaces...)
	for _, lang := range Languages() {
		part, all := shown(t, lang, in, 80, 40, false), shown(t, lang, in, 80, 40, true)
		if n := strings.Count(part, "\n"); n >= 40 || n < 20 {
			t.Errorf("%d lines:\n%s", n, part)
		}
		if n := strings.Count(all, "close-wait-leak"); n != 9 || shown(t, lang, in, 0, 0, false) != all {
			t.Errorf("%d of 9:\n%s", n, all)
		}
		left := 9 - strings.Count(part, "close-wait-leak")
		if left <= 0 || !strings.Contains(part, fmt.Sprintf(lang.Word("more"), lang.number(uint64(left), "finding"))) {
			t.Errorf("%d are left out:\n%s", left, part)
		}
		if tiny := shown(t, lang, in, 80, 5, false); strings.Count(tiny, "close-wait-leak") != 1 {
			t.Errorf("the worst finding is always shown:\n%s", tiny)
		}
	}
}

// Each finding has its parts, and a command can be pasted.
func TestTextOfAFinding(t *testing.T) {
	in := input(quiet(func(s *Space) { s.Listeners[0].Queued = ages(time.Minute) }))
	in.Missing = map[Need]Why{NeedOwners: whyNoOwners, NeedLimits: whyNoLimits}
	for lang, parts := range map[*Language][]string{
		english: {"\nfailing  accept-stall  network namespace host\n", "\n  cause: ", "\n  fix: ", "Risk: none.", "\n  do not: ", "\n  see: finwait ls ",
			"\nnot checked, without CAP_SYS_PTRACE the owners"},
		chinese: {"\n正在失败  accept-stall  网络命名空间 host\n", "\n  原因：", "\n  解决办法：", "险：无。", "\n  不要这样做：", "\n  查看：finwait ls ",
			"\n未检查，没有 CAP_SYS_PTRACE"},
	} {
		got := shown(t, lang, in, 80, 100, false)
		for _, part := range parts {
			if !strings.Contains(got, part) {
				t.Errorf("no %q in\n%s", part, got)
			}
		}
		r, _ := Examine(in, Choice{})
		command := lang.Say(&r.Findings[0], lang.About("accept-stall").Commands[0])
		pasted := regexp.MustCompile(` \\\n *`).ReplaceAllString(got, " ")
		if !strings.Contains(got, " \\\n") || !strings.Contains(pasted, command) {
			t.Errorf("not %q as one command:\n%s", command, got)
		}
	}
}

// Of 1,506 connections 1,500 are not 100 %.
func TestPercent(t *testing.T) {
	for share, want := range map[float64]string{0: "0 %", 0.286: "29 %", 1500.0 / 1506: "99 %", 1: "100 %"} {
		if got := percent(share); got != want {
			t.Errorf("%v: %s, want %s", share, got, want)
		}
	}
}
