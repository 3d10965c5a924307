// Package doctor says what is wrong with the TCP connections of a host, or that nothing is. Rules
// are functions of what was read: they read nothing themselves, and change nothing.
package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Severity is how bad a finding is: by the harm that was seen, not by numbers.
type Severity uint8

// The severities, the least first.
const (
	OK       Severity = iota // it looks bad to many, and is harmless
	Note                     // worth knowing
	Risk                     // harm is possible
	Slow                     // something takes longer than it must
	WillFail                 // if this goes on, calls fail
	Failing                  // calls fail, or segments are dropped
)

var severities = []string{"ok", "note", "risk", "slow", "will_fail", "failing"}

// String gives the word, such as "will_fail".
func (s Severity) String() string { return severities[s] }

// ParseSeverity finds the severity of a word.
func ParseSeverity(word string) (Severity, error) {
	if i := slices.Index(severities, word); i >= 0 {
		return Severity(i), nil
	}
	return 0, fmt.Errorf("no severity is called %q; there are %s", word, strings.Join(severities, ", "))
}

// SeverityWords are the words of all severities, the least first.
func SeverityWords() []string { return slices.Clone(severities) }

// A Finding is one verdict.
type Finding struct {
	ID       string
	Severity Severity
	Space    *Space // the network namespace; nil: it is of the host
	Inferred bool   // it was concluded, not seen

	// Scope says of what, and Evidence with which numbers. The text of the finding uses them by name.
	Scope, Evidence []Field
}

// A Field is a value with the name that JSON and the texts have for it.
type Field struct {
	Key   string
	Value any // string, bool, a number, time.Duration, netip.Addr, netip.AddrPort or Process
}

// weight orders findings of one severity: the more of what is counted first, the worse.
func (f *Finding) weight() uint64 {
	for _, field := range f.Evidence {
		if n, ok := field.Value.(uint64); ok {
			return n
		}
	}
	return 0
}

// Need is what must have been read for a rule to say something.
type Need uint8

// The needs.
const (
	NeedWindow    Need = 1 << iota // two readings of the counters
	NeedOwners                     // who holds each socket
	NeedPorts                      // which ports connect(2) can choose
	NeedLimits                     // how many files a process may open
	NeedInitial                    // the initial network namespace
	NeedStream                     // the transitions of the window
	NeedOptions                    // the options of listeners
	NeedConntrack                  // the tables of tracked connections
)

// A Threshold is a number that a rule compares with.
type Threshold struct {
	Name  string
	Value float64 // seconds, a share of 1, or a number
	About string
}

// A Rule finds one kind of trouble. Its ID never changes.
type Rule struct {
	ID         string
	Worst      Severity
	Needs      Need // without these it says nothing
	More       Need // without these it says less
	Thresholds []Threshold
	Find       func(in *Input, t Limits) []Finding
}

// Limits are the thresholds of a rule by name.
type Limits map[string]float64

func (l Limits) duration(name string) time.Duration {
	return time.Duration(l[name] * float64(time.Second))
}

// Rules are all that there are, in the order of the documents.
func Rules() []*Rule {
	return slices.Concat(portRules, portWatchRules, timeWaitRules, closingRules, openingRules, hostRules, snapshotRules, watchRules,
		restartRules, probeRules, idleRules, peerRules, conntrackRules)
}

// RuleOf finds a rule by its id.
func RuleOf(id string) (*Rule, error) {
	all := Rules()
	if i := slices.IndexFunc(all, func(r *Rule) bool { return r.ID == id }); i >= 0 {
		return all[i], nil
	}
	ids := make([]string, len(all))
	for i, r := range all {
		ids[i] = r.ID
	}
	return nil, fmt.Errorf("no finding is called %q; there are %s", id, strings.Join(ids, ", "))
}

// Choice says which rules are asked, and with which thresholds.
type Choice struct {
	Only, Ignore []string
	Set          []string // ID.threshold=value
}

// A NotChecked is a rule that could not be asked, or only in part, and why.
type NotChecked struct {
	ID   string
	Part bool // it was asked, and cannot say all
	Why  Why
}

// A Report is what the rules say.
type Report struct {
	Findings   []Finding // the worst first
	NotChecked []NotChecked
	Ignored    []string
	Window     time.Duration // 0: there was one reading
}

// Worst is the worst severity of all findings; false: there is none.
func (r *Report) Worst() (worst Severity, found bool) {
	for i := range r.Findings {
		worst, found = max(worst, r.Findings[i].Severity), true
	}
	return worst, found
}

// Examine asks the rules.
func Examine(in *Input, c Choice) (*Report, error) {
	limits, err := c.limits()
	if err != nil {
		return nil, err
	}
	r := &Report{Window: in.Window, Ignored: c.Ignore}
	for _, rule := range Rules() {
		if len(c.Only) > 0 && !slices.Contains(c.Only, rule.ID) || slices.Contains(c.Ignore, rule.ID) {
			continue
		}
		if why := in.lacks(rule.Needs); why != (Why{}) {
			r.NotChecked = append(r.NotChecked, NotChecked{ID: rule.ID, Why: why})
			continue
		}
		if why := in.lacks(rule.More); why != (Why{}) {
			r.NotChecked = append(r.NotChecked, NotChecked{ID: rule.ID, Part: true, Why: why})
		}
		if (rule.Needs|rule.More)&NeedStream != 0 {
			for _, why := range in.Stream.parts() {
				r.NotChecked = append(r.NotChecked, NotChecked{ID: rule.ID, Part: true, Why: why})
			}
		}
		r.Findings = append(r.Findings, rule.Find(in, limits[rule.ID])...)
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(b.Severity, a.Severity), cmp.Compare(b.weight(), a.weight()))
	})
	return r, nil
}

// limits are the thresholds of all rules. It also checks the ids.
func (c *Choice) limits() (map[string]Limits, error) {
	for _, id := range slices.Concat(c.Only, c.Ignore) {
		if _, err := RuleOf(id); err != nil {
			return nil, err
		}
	}
	all := make(map[string]Limits)
	for _, rule := range Rules() {
		all[rule.ID] = defaults(rule.Thresholds)
	}
	for _, set := range c.Set {
		name, value, ok := strings.Cut(set, "=")
		id, threshold, dotted := strings.Cut(name, ".")
		if !ok || !dotted {
			return nil, fmt.Errorf("%q is not ID.threshold=value", set)
		}
		rule, err := RuleOf(id)
		if err != nil {
			return nil, err
		}
		if _, ok := all[id][threshold]; !ok {
			return nil, fmt.Errorf("%s has no threshold %q; it has %s", id, threshold, strings.Join(rule.thresholds(), ", "))
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil || v < 0 {
			return nil, fmt.Errorf("%q: %q is no number of 0 or more", set, value)
		}
		all[id][threshold] = v
	}
	return all, nil
}

func defaults(of []Threshold) Limits {
	l := make(Limits)
	for _, t := range of {
		l[t.Name] = t.Value
	}
	return l
}

func (r *Rule) thresholds() (names []string) {
	for _, t := range r.Thresholds {
		names = append(names, t.Name)
	}
	if names == nil {
		return []string{"none"}
	}
	return names
}
