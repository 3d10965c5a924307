package docs

import (
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// width is the last column that a paragraph or list may reach.
const width = 100

const root = "../../.."

// A line is one line of a document, with what its place makes of it.
type line struct {
	number int
	text   string
	code   bool // within a fence, or indented code
	table  bool
}

// split says which lines of a document are prose.
func split(text string) (lines []line) {
	fence, after := "", true // after a blank line; the start of a file is like one
	indented, list := false, false
	for i, s := range strings.Split(text, "\n") {
		l := line{number: i + 1, text: s}
		trimmed := strings.TrimLeft(s, " ")
		switch {
		case fence != "":
			l.code = true
			if strings.HasPrefix(trimmed, fence) && strings.Trim(trimmed, fence[:1]+" ") == "" {
				fence = ""
			}
		case strings.HasPrefix(trimmed, "```") || strings.HasPrefix(trimmed, "~~~"):
			l.code, fence = true, trimmed[:3]
		case strings.HasPrefix(s, "    ") && (after || indented) && !list:
			l.code, indented = true, true
		case strings.HasPrefix(trimmed, "|"):
			l.table = true
		case trimmed != "":
			indented = false
			if item.MatchString(s) {
				list = true
			} else if !strings.HasPrefix(s, " ") {
				list = list && !after
			}
		}
		after = trimmed == ""
		lines = append(lines, l)
	}
	return lines
}

var item = regexp.MustCompile(`^ *([-*+]|\d+[.)]) `)

// tooLong are the lines of prose that are wider than they may be. One word that
// cannot be broken, such as a URL, may be.
func tooLong(text string) (wrong []string) {
	for _, l := range split(text) {
		n := utf8.RuneCountInString(l.text)
		if l.code || l.table || n <= width || strings.HasPrefix(l.text, "<!--") || !strings.Contains(strings.TrimSpace(item.ReplaceAllString(l.text, "")), " ") {
			continue
		}
		wrong = append(wrong, fmt.Sprintf("%d: %d columns: %.40s...", l.number, n, l.text))
	}
	return wrong
}

var (
	link    = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	code    = regexp.MustCompile("`([^`]+)`")
	heading = regexp.MustCompile(`^#+ +(.*)`)
	notWord = regexp.MustCompile(`[^\pL\pN _-]`)
)

// anchors are the names by which the headings of a document can be linked to.
func anchors(text string) (names []string) {
	for _, l := range split(text) {
		if m := heading.FindStringSubmatch(l.text); m != nil && !l.code {
			names = append(names, strings.ReplaceAll(notWord.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
		}
	}
	return names
}

// deadLinks are the relative links of a document that no file, or heading, answers to.
func deadLinks(repo fs.FS, name, text string) (dead []string) {
	for _, l := range split(text) {
		if l.code {
			continue
		}
		for _, m := range link.FindAllStringSubmatch(l.text, -1) {
			u, err := url.Parse(m[1])
			if err == nil && (u.Scheme != "" || u.Host != "") {
				continue
			}
			target := name
			if err == nil && u.Path != "" {
				target = path.Join(path.Dir(name), u.Path)
			}
			if err == nil {
				_, err = fs.Stat(repo, target)
			}
			if err == nil && u.Fragment != "" {
				var b []byte
				if b, err = fs.ReadFile(repo, target); err == nil && !slices.Contains(anchors(string(b)), u.Fragment) {
					err = fmt.Errorf("no heading %q", u.Fragment)
				}
			}
			if err != nil {
				dead = append(dead, fmt.Sprintf("%d: link %s: %v", l.number, m[1], err))
			}
		}
	}
	return dead
}

// deadPaths are the paths in backquotes that begin with a directory of the
// repository, or with a file's name at its root, and are not there.
func deadPaths(repo fs.FS, text string) (dead []string) {
	for _, l := range split(text) {
		if l.code {
			continue
		}
		for _, m := range code.FindAllStringSubmatch(l.text, -1) {
			for _, p := range paths(m[1]) {
				top, rest, _ := strings.Cut(p, "/")
				if _, err := fs.Stat(repo, top); err != nil || rest == "" {
					continue // it is not about the repository, or it is a word
				}
				found, err := fs.Glob(repo, strings.TrimSuffix(p, "/"))
				if err == nil && len(found) == 0 {
					dead = append(dead, fmt.Sprintf("%d: path %s does not exist", l.number, p))
				}
			}
		}
	}
	return dead
}

// made are paths below which what is there was built, not written.
var made = []string{"bin/"}

var onePath = regexp.MustCompile(`^(\./)?[\w.{},*-]+(/[\w.{},*-]+)+/?$`)

// paths are those among the words of a command or name, with braces expanded.
func paths(words string) (all []string) {
	for _, word := range strings.Fields(words) {
		if !onePath.MatchString(word) || slices.ContainsFunc(made, func(p string) bool { return strings.HasPrefix(word, p) }) {
			continue
		}
		word = strings.TrimSuffix(strings.TrimPrefix(word, "./"), "/...")
		before, rest, braces := strings.Cut(word, "{")
		list, after, closed := strings.Cut(rest, "}")
		if !braces || !closed {
			all = append(all, word)
			continue
		}
		for _, one := range strings.Split(list, ",") {
			all = append(all, before+one+after)
		}
	}
	return all
}

func TestDocuments(t *testing.T) {
	repo := os.DirFS(root)
	n := 0
	err := fs.WalkDir(repo, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (name == ".git" || name == "bin" || d.Name() == "testdata" || d.Name() == "node_modules") {
			return fs.SkipDir
		}
		if d.IsDir() || filepath.Ext(name) != ".md" {
			return nil
		}
		n++
		b, err := fs.ReadFile(repo, name)
		if err != nil {
			return err
		}
		text := string(b)
		for _, wrong := range slices.Concat(tooLong(text), deadLinks(repo, name, text), deadPaths(repo, text)) {
			t.Errorf("%s:%s", name, wrong)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n < 5 {
		t.Errorf("%d documents were read: is %s the root of the repository?", n, root)
	}
}

// The checks find what is wrong, and leave alone what is not.
func TestChecks(t *testing.T) {
	long := strings.Repeat("long ", 21)
	for _, c := range []struct {
		name, text string
		wrong      int
	}{
		{"paragraph", long, 1},
		{"list", "- " + long + "\n  " + long, 2},
		{"continued list", "- a\n\n    " + long, 1},
		{"table", "| " + long + " |", 0},
		{"fence", "```\n" + long + "\n```\n" + long, 1},
		{"indented code", "a\n\n    " + long + "\n\nb\n" + long, 1},
		{"one word", "- " + strings.Repeat("x", 120), 0},
		{"letters, not bytes", strings.Repeat("ä ", 50), 0},
	} {
		if got := tooLong(c.text); len(got) != c.wrong {
			t.Errorf("%s: %q, want %d", c.name, got, c.wrong)
		}
	}

	repo := os.DirFS(root)
	for text, wrong := range map[string]int{
		"[a](LICENSE) [b](docs/states.md#closing-the-fins-have-crossed) [c](https://example.org/x)": 0,
		"[a](LICENCE)":               1,
		"[a](docs/states.md#no-one)": 1,
		"```\n[a](LICENCE)\n```":     0,
	} {
		if got := deadLinks(repo, "README.md", text); len(got) != wrong {
			t.Errorf("%s: %q, want %d", text, got, wrong)
		}
	}
	for text, wrong := range map[string]int{
		"`bpf/kernel.h` `internal/test/{live,model}` `go test ./tracer/...` `/proc/self/x` `bin/finwait` `net/ipv4/x.c` `cmd/*/main.go`": 0,
		"`bpf/no.h`":                        1,
		"`internal/test/{live,no}`":         1,
		"`go test ./internal/no -run Test`": 1,
		"```\nbpf/no.h\n```":                0,
	} {
		if got := deadPaths(repo, text); len(got) != wrong {
			t.Errorf("%s: %q, want %d", text, got, wrong)
		}
	}
}
