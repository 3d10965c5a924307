package main

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"finwait/internal/reasons"
)

func helpReasons(t *testing.T, words ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := run(append([]string{"help", "reasons"}, words...), &stdout, &stderr); code != exitOK || stderr.Len() > 0 {
		t.Fatalf("%v: exit code %d, stderr %q", words, code, &stderr)
	}
	return stdout.String()
}

// All that is in the list is shown, within 80 columns.
func TestHelpReasons(t *testing.T) {
	flat := strings.Join(strings.Fields(helpReasons(t)), " ")
	for _, e := range reasons.All() {
		for _, part := range append([]string{e.Word(), e.What, e.Means, e.Demo}, e.Counters...) {
			if !strings.Contains(flat, part) {
				t.Errorf("%s: %q is not shown", e.Word(), part)
			}
		}
	}
	for line := range strings.Lines(helpReasons(t)) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 || strings.TrimRight(line, " \n") != strings.TrimSuffix(line, "\n") {
			t.Errorf("%d columns: %q", n, line)
		}
	}
}

// One word: its reason with all details, or one detail, without an introduction.
func TestHelpReason(t *testing.T) {
	for word, want := range map[string][2]string{
		"reset":       {"reset\n  The peer sent an RST.", "  reset fin_unacked\n    The peer"},
		"unread_data": {"  aborted unread_data\n    Our program", "See it: finwait demo"},
	} {
		if got := helpReasons(t, word); !strings.HasPrefix(got, want[0]) || !strings.Contains(got, want[1]) || strings.Contains(got, "linger_zero") {
			t.Errorf("%s:\n%s", word, got)
		}
	}
	if got := helpReasons(t, "aborted", "unread_data"); !strings.HasPrefix(got, "aborted\n") || strings.Count(got, "aborted unread_data\n") != 1 || strings.Contains(got, "linger_zero") {
		t.Errorf("both words of a line:\n%s", got)
	}
	if got := helpReasons(t, "killed", "syn"); !strings.Contains(got, "killed") || !strings.Contains(got, "rst_sent syn") {
		t.Errorf("two words:\n%s", got)
	}
}

func TestHelpTopics(t *testing.T) {
	for args, say := range map[string]string{
		"help demo frobnicate":            `"demo frobnicate"`,
		"help reasons frobnicate":         `"frobnicate"; the reasons are fin_received,`,
		"help reasons killed unread-data": `"unread-data"`,
		"help findings frobnicate":        `"frobnicate"; there are port-exhausted,`,
	} {
		var stdout, stderr bytes.Buffer
		if code := run(strings.Fields(args), &stdout, &stderr); code != exitUsage || stdout.Len() > 0 || !strings.Contains(stderr.String(), say) {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q without %q", args, code, &stdout, &stderr, say)
		}
	}
	for _, args := range []string{"help help", "--help"} {
		var stdout, stderr bytes.Buffer
		if code := run(strings.Fields(args), &stdout, &stderr); code != exitOK || !strings.Contains(stdout.String(), "finwait help reasons") {
			t.Errorf("%s: exit code %d, and nothing of finwait help reasons:\n%s", args, code, &stdout)
		}
	}
}

func TestHelpFindings(t *testing.T) {
	t.Setenv("LC_ALL", "C.UTF-8")
	for args, want := range map[string][]string{
		"help findings": {"accept-stall ", "accept-stall.age=1: "},
		"help findings accept-stall close-wait-leak": {"# accept-stall\n", "\n## Cause\n", "\n# close-wait-leak\n"},
	} {
		var stdout, stderr bytes.Buffer
		code := run(strings.Fields(args), &stdout, &stderr)
		for _, w := range want {
			if code != exitOK || stderr.Len() > 0 || !strings.Contains(stdout.String(), w) {
				t.Errorf("%s: exit code %d, no %q in %s%s", args, code, w, &stdout, &stderr)
			}
		}
	}
	t.Setenv("LC_ALL", "zh_CN.UTF-8")
	var stdout, stderr bytes.Buffer
	if code := run([]string{"help", "findings", "accept-stall"}, &stdout, &stderr); code != exitOK || !strings.Contains(stdout.String(), "## 原因") {
		t.Errorf("exit code %d, %s%s", code, &stdout, &stderr)
	}
}

func TestCompleteHelp(t *testing.T) {
	for args, want := range map[string]string{
		"help ":                   "trace\t",
		"help demo ":              "load\t",
		"help reasons unread":     "unread_data\t",
		"help reasons time_wait_": "time_wait_overflow\t",
		"help findings accept-":   "accept-stall\t",
	} {
		var stdout, stderr bytes.Buffer
		words := strings.Split(args, " ")
		if code := run(append([]string{"__complete"}, words...), &stdout, &stderr); code != exitOK || !strings.Contains(stdout.String(), want) {
			t.Errorf("%q: exit code %d, %q without %q", args, code, &stdout, want)
		}
	}
}
