package main

import (
	"bufio"
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"finwait/internal/test/markdown"
	"finwait/internal/text"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The man page is written by hand, but for the part between these lines.
const (
	manPage  = "../../docs/finwait.1"
	manBegin = ".\\\" The command line: go test ./cmd/finwait -run TestManPage -update\n"
	manEnd   = ".\\\" end\n"
)

// A roff is text in the mdoc(7) language.
type roff struct{ strings.Builder }

// macro is a line that formats what follows it, or its words.
func (r *roff) macro(words ...string) { r.WriteString("." + strings.Join(words, " ") + "\n") }

// escaped is text without what roff(7) takes for its own. What may be pasted must stay ASCII: the
// formatter makes other characters of a bare minus, quotation mark or tilde.
func escaped(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`).Replace(s)
	var b strings.Builder
	for _, c := range s {
		if c > unicode.MaxASCII {
			fmt.Fprintf(&b, `\[u%04X]`, c)
		} else {
			b.WriteRune(c)
		}
	}
	return b.String()
}

// line is a line of text, which no dot makes a macro.
func (r *roff) line(s string) {
	if s = escaped(s); strings.HasPrefix(s, ".") {
		s = `\&` + s
	}
	r.WriteString(s + "\n")
}

// literal is lines that stay as they are.
func (r *roff) literal(lines ...string) {
	r.macro("Bd", "-literal", "-offset", "indent")
	for _, l := range lines {
		r.line(l)
	}
	r.macro("Ed")
}

var sentence = regexp.MustCompile(`([.:?!]["')]?) `)

// prose is a paragraph. A new sentence is on a new line, so that it gets the space it should.
func (r *roff) prose(words string) {
	for s := range strings.SplitSeq(sentence.ReplaceAllString(words, "$1\n"), "\n") {
		var b strings.Builder
		w := bufio.NewWriter(&b)
		text.Wrap(w, s, 72)
		w.Flush() // a strings.Builder does not fail
		for l := range strings.Lines(b.String()) {
			r.line(strings.TrimSpace(l))
		}
	}
}

// long is the text of a help page: paragraphs, and indented tables.
func (r *roff) long(page string) {
	var words, table []string
	flush := func() {
		if len(words) > 0 {
			r.macro("Pp")
			r.prose(strings.Join(words, " "))
		}
		if len(table) > 0 {
			r.literal(table...)
		}
		words, table = nil, nil
	}
	for l := range strings.SplitSeq(page, "\n") {
		indented := strings.HasPrefix(l, " ")
		if l == "" || indented != (len(table) > 0) {
			flush()
		}
		if indented {
			table = append(table, l[2:])
		} else if l != "" {
			words = append(words, l)
		}
	}
	flush()
}

// defaultOf is a flag's default; "" is nothing that would have to be said.
func defaultOf(f *pflag.Flag) string {
	if slices.Contains([]string{"false", "0", "0s", "[]"}, f.DefValue) {
		return ""
	}
	return f.DefValue
}

// flagsOf are the flags that the page lists of a command: not --help, which each has, and of the
// bare command not those of trace.
func flagsOf(cmd *cobra.Command) (flags []*pflag.Flag) {
	trace, _, _ := cmd.Root().Find([]string{"trace"}) // it is there
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		switch bare := !cmd.HasParent(); {
		case f.Name == "help" && !bare:
		case f.Name != "help" && bare && trace.LocalFlags().Lookup(f.Name) != nil:
		default:
			flags = append(flags, f)
		}
	})
	return flags
}

// command is the section of a command.
func (r *roff) command(cmd *cobra.Command) {
	r.macro("Ss", cmd.CommandPath())
	r.literal(cmd.UseLine())
	r.macro("Pp")
	r.prose(cmd.Short + ".")
	// Cobra's own pages of shells are longer than what they say.
	if !strings.HasPrefix(cmd.CommandPath(), "finwait completion ") && cmd.Long != "" {
		r.long(cmd.Long)
	}
	if !cmd.HasParent() {
		r.macro("Pp")
		r.prose("It takes the flags of finwait trace, and these. Each command has --help.")
	}
	flags := flagsOf(cmd)
	if len(flags) > 0 {
		r.macro("Bl", "-tag", "-width", "Ds")
	}
	for _, f := range flags {
		value, usage := pflag.UnquoteUsage(f)
		item := []string{"It"}
		if f.Shorthand != "" {
			item = append(item, "Fl", f.Shorthand, ",")
		}
		if item = append(item, "Fl", escaped("-"+f.Name)); value != "" {
			item = append(item, "Ar", escaped(value))
		}
		r.macro(item...)
		r.prose(strings.TrimSuffix(usage, ".") + ".")
		if d := defaultOf(f); d != "" {
			r.prose("The default is " + d + ".")
		}
	}
	if len(flags) > 0 {
		r.macro("El")
	}
	if cmd.Example != "" {
		r.macro("Pp")
		r.line("Examples:")
		r.literal(strings.Split(strings.ReplaceAll(strings.TrimPrefix(cmd.Example, "  "), "\n  ", "\n"), "\n")...)
	}
}

// The man page has the command line as it is. mandoc(1) checks its language: make check-man.
func TestManPage(t *testing.T) {
	var r roff
	for _, cmd := range commands() {
		r.command(cmd)
	}
	markdown.Between(t, manPage, manBegin, manEnd, r.String(), *update)
}

var (
	itsSection = regexp.MustCompile(`^\.S([sh]) (.*)$`)
	itsFlag    = regexp.MustCompile(`^\.It (?:Fl (\w) , )?Fl \\-([a-z0-9.\\-]+)`)
	itsDefault = regexp.MustCompile(`^The default is (.*)\.$`)
	itsCode    = regexp.MustCompile(`^\.It (\d+)`)
	anyFlag    = regexp.MustCompile(`(?:^|[^\w\\-])(?:\\-\\-|--|Fl \\?-)([a-z](?:[a-z0-9]|\\?[-.][a-z])+)`)
)

// What a reader finds in the page, read from the page alone: commands, flags and defaults as the
// command tree has them, the exit codes of the source, and no other flag anywhere.
func TestManPageIsComplete(t *testing.T) {
	page, err := os.ReadFile(manPage)
	if err != nil {
		t.Fatal(err)
	}
	got, codes, mentioned := make(map[string]string), make(map[int64]bool), make(map[string]bool)
	section, flag := "", ""
	for l := range strings.Lines(string(page)) {
		l = strings.TrimSuffix(l, "\n")
		for _, m := range anyFlag.FindAllStringSubmatch(l, -1) {
			mentioned[strings.ReplaceAll(m[1], `\`, "")] = true
		}
		if m := itsSection.FindStringSubmatch(l); m != nil {
			if section, flag = m[2], ""; m[1] == "s" {
				got[section] = ""
			}
		} else if m := itsFlag.FindStringSubmatch(l); m != nil {
			flag = section + " --" + strings.ReplaceAll(m[2], `\`, "")
			got[flag] = "-" + m[1] + " "
		} else if m := itsDefault.FindStringSubmatch(l); m != nil && flag != "" {
			got[flag] += strings.ReplaceAll(m[1], `\-`, "-")
		} else if m := itsCode.FindStringSubmatch(l); m != nil && section == "EXIT STATUS" {
			code, _ := strconv.ParseInt(m[1], 10, 64)
			codes[code] = true
		}
	}
	want, known := make(map[string]string), make(map[string]bool)
	for _, cmd := range commands() {
		want[cmd.CommandPath()] = ""
		for _, f := range flagsOf(cmd) {
			known[f.Name] = true
			want[cmd.CommandPath()+" --"+f.Name] = "-" + f.Shorthand + " " + defaultOf(f)
		}
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("commands, flags and defaults (-page +command line):\n%s", diff)
	}
	for name := range mentioned {
		if !known[name] {
			t.Errorf("the page speaks of --%s, which no command has", name)
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(codes)), exitCodes(t)); diff != "" {
		t.Errorf("exit codes (-page +constants):\n%s", diff)
	}
}

// exitCodes are the constants of this package whose names begin with exit.
func exitCodes(t *testing.T) (codes []int64) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, "exit") {
				return true
			}
			if lit, ok := spec.Values[0].(*ast.BasicLit); ok && lit.Kind == token.INT {
				code, _ := constant.Int64Val(constant.MakeFromLiteral(lit.Value, token.INT, 0))
				codes = append(codes, code)
			}
			return true
		})
	}
	slices.Sort(codes)
	return codes
}
