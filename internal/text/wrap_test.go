package text

import (
	"bufio"
	"bytes"
	"strings"
	"testing"
)

func TestCells(t *testing.T) {
	for words, want := range map[string]int{"": 0, "abc": 3, "连接": 4, "a连b，": 6, "e\u0301": 1, "…": 1, "（80）": 6} {
		if got := Cells(words); got != want {
			t.Errorf("%q: %d columns, want %d", words, got, want)
		}
	}
}

func TestWrapWide(t *testing.T) {
	for words, want := range map[string]string{
		"one two three":     "one two\nthree\n",
		"连接没有关闭":            "连接没有\n关闭\n",
		"连接没有。关闭":           "连接没\n有。关闭\n",      // no line begins with a full stop
		"连接没（关）闭":           "连接没\n（关）闭\n",      // none ends with an opening bracket
		"CLOSE_WAIT 连接":     "CLOSE_WAIT\n连接\n", // what is too long has a line of its own
		"在FIN_WAIT_2中":      "在\nFIN_WAIT_2\n中\n",
		"有 28 个端口":          "有 28 个\n端口\n",
		"averyverylongword": "averyverylongword\n",
	} {
		var b bytes.Buffer
		w := bufio.NewWriter(&b)
		Wrap(w, words, 8)
		w.Flush()
		if b.String() != want {
			t.Errorf("%q: %q, want %q", words, &b, want)
		}
	}
}

func TestIndentWide(t *testing.T) {
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	Indent(w, "因：", 6, 14, "连接没有关闭")
	w.Flush()
	if want := "因：  连接没有\n      关闭\n"; b.String() != want {
		t.Errorf("%q, want %q", &b, want)
	}
	for line := range strings.Lines(b.String()) {
		if n := Cells(strings.TrimSuffix(line, "\n")); n > 14 {
			t.Errorf("%d columns: %q", n, line)
		}
	}
}
