package doctor

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/template"
	"time"

	"finwait/internal/text"
)

// Texts are what one language says of a finding. Title, Cause, Mechanism and the like are fixed; Text
// and Commands are templates of the finding's fields (package text/template), which a field that is
// missing makes fail.
type Texts struct {
	Title    string   // what it is, in general
	Text     string   // what was found, in one or two sentences, with numbers and names
	Cause    string   // why that comes to be
	Fixes    []Fix    // what mends it
	DoNot    []string // what is often advised, and does not help
	Commands []string // by which a person sees the same

	// Of --explain only.
	Mechanism string
	Demo      string // a demonstration of finwait demo, or a command
	Sources   []string
}

// A Fix is what a person can do. finwait does none of it.
type Fix struct{ Do, Risk string }

// A Language is a catalogue of texts.
type Language struct {
	Tag   string
	texts map[string]Texts
	words map[string]string // the labels of the output

	thresholds map[string]string // by ID.threshold; nil: those of the rules, which are English
	funcs      template.FuncMap

	parsed sync.Map // template.Template by text
}

// Languages are all that there are; the first is the default.
func Languages() []*Language { return []*Language{english, chinese} }

// LanguageOf finds the language of a locale, such as zh_CN.UTF-8: the first one that matches, else the
// default.
func LanguageOf(locale string) *Language {
	for _, l := range Languages() {
		if strings.HasPrefix(strings.ToLower(strings.ReplaceAll(locale, "-", "_")), l.Tag) {
			return l
		}
	}
	return english
}

// About are the texts of a finding.
func (l *Language) About(id string) Texts { return l.texts[id] }

// Word is a label of the output.
func (l *Language) Word(key string) string { return l.words[key] }

// number writes a number of things.
func (l *Language) number(n uint64, noun string) string {
	return l.funcs["n"].(func(uint64, string) string)(n, noun)
}

// Threshold says what a threshold of a rule is.
func (l *Language) Threshold(rule *Rule, t *Threshold) string {
	if about := l.thresholds[rule.ID+"."+t.Name]; about != "" {
		return about
	}
	return t.About
}

// Why is the text of a reason for which something was not checked.
func (l *Language) Why(why Why) string {
	if why.Detail == "" {
		return l.words["why_"+why.Word]
	}
	return fmt.Sprintf(l.words["why_"+why.Word], why.Detail)
}

// Say fills in a template with what a finding has.
func (l *Language) Say(f *Finding, text string) string {
	t, ok := l.parsed.Load(text)
	if !ok {
		t = template.Must(template.New("").Option("missingkey=error").Funcs(l.funcs).Parse(text))
		l.parsed.Store(text, t)
	}
	values := make(map[string]any)
	for _, field := range slices.Concat(f.Scope, f.Evidence) {
		values[field.Key] = field.Value
	}
	values["netns"] = ""
	if f.Space != nil {
		values["netns"] = f.Space.Label()
	}
	var b bytes.Buffer
	if err := t.(*template.Template).Execute(&b, values); err != nil {
		return fmt.Sprintf("%s: %v", f.ID, err)
	}
	return b.String()
}

// count writes 28190 as 28,190.
func count(n any) string {
	digits := fmt.Sprint(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

func endpoint(v any) string { return fmt.Sprint(v) }

// percent writes a share of 1. 100 % is all, and not nearly all.
func percent(share float64) string {
	if share < 1 {
		share = min(share, 0.99)
	}
	return strconv.FormatFloat(100*share, 'f', 0, 64) + " %"
}

// size writes an amount of memory.
func size(n Bytes) string {
	switch {
	case n < 1<<20:
		return strconv.FormatFloat(float64(n)/(1<<10), 'f', 1, 64) + " KiB"
	}
	return strconv.FormatFloat(float64(n)/(1<<20), 'f', 1, 64) + " MiB"
}

// span writes a duration in the two largest of its units.
func span(d time.Duration, day, hour, minute, second string) string {
	switch {
	case d < time.Minute:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + second
	case d < time.Hour:
		return fmt.Sprintf("%d%s %d%s", d/time.Minute, minute, d%time.Minute/time.Second, second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%d%s %d%s", d/time.Hour, hour, d%time.Hour/time.Minute, minute)
	}
	return fmt.Sprintf("%d%s %d%s", d/(24*time.Hour), day, d%(24*time.Hour)/time.Hour, hour)
}

// short writes a duration of up to some minutes, in four digits or so: what is short is not 0.
func short(d time.Duration, milli, second string) string {
	switch {
	case d < 10*time.Millisecond:
		return strconv.FormatFloat(d.Seconds()*1e3, 'f', 3, 64) + milli
	case d < time.Second:
		return strconv.FormatFloat(d.Seconds()*1e3, 'f', 1, 64) + milli
	}
	return strconv.FormatFloat(d.Seconds(), 'f', 2, 64) + second
}

// wildcard reports whether an address is that of every interface.
func wildcard(a netip.AddrPort) bool { return a.Addr().IsUnspecified() }

// common are the functions that every language has.
func common(more template.FuncMap) template.FuncMap {
	all := template.FuncMap{"count": count, "pct": percent, "size": size, "ep": endpoint, "wildcard": wildcard,
		"port": func(a netip.AddrPort) string { return strconv.Itoa(int(a.Port())) },
		"comm": func(p Process) string { return text.Printable(p.Comm) },
		"pid":  func(p Process) string { return strconv.FormatUint(uint64(p.PID), 10) },
		"addr": func(a netip.AddrPort) string { return a.Addr().String() }}
	maps.Copy(all, more)
	return all
}
