package doctor

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"finwait/internal/netstat"
	"finwait/tracer"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the texts of findings down")

func ages(of ...time.Duration) []time.Duration { return of }

// quiet is a namespace in which nothing is wrong: a busy server that also opens some connections.
func quiet(change func(*Space)) *Space {
	s := &Space{
		Inode: 4026531840, Name: "host", Low: 32768, High: 60999, Usable: 28232, HeldKnown: true,
		Choosable: func(p uint16) bool { return p >= 32768 && p <= 60999 },
		TimeWaits: Ends{Served: 400, Opened: 20},
		Destinations: []Destination{{Local: netip.MustParseAddr("10.0.0.4"), Remote: netip.MustParseAddrPort("10.0.0.9:80"), Used: 60, TimeWaits: 20,
			Owner: Process{PID: 812, Comm: "curl"}}},
		Listeners: []Listener{{Local: netip.MustParseAddrPort("0.0.0.0:443"), Owner: Process{PID: 4, Comm: "nginx"}, Waiting: 3, Limit: 511, Queued: ages(time.Millisecond)}},
		CloseWaits: []Waiting{{Owner: Process{PID: 9, Comm: "java"}, Remote: netip.MustParseAddrPort("10.0.0.99:6379"),
			Ages: ages(time.Second, 2*time.Second), Files: 100, FileLimit: 1024}},
		FinWait2s: []Waiting{{Owner: Process{PID: 10, Comm: "proxy"}, Remote: netip.MustParseAddrPort("10.0.0.98:9000"), Ages: ages(time.Second)}},
		Sysctls: map[string]string{"net.ipv4.tcp_max_tw_buckets": "65536", "net.ipv4.tcp_fin_timeout": "60", "net.ipv4.tcp_tw_reuse": "2",
			"net.ipv4.tcp_timestamps": "1", "net.core.somaxconn": "4096"},
		Moved: netstat.Counters{"TcpExt.ListenOverflows": 0, "TcpExt.TCPTimeWaitOverflow": 0},
	}
	s.Sockets[tracer.Established], s.Sockets[tracer.TimeWait] = 1000, 420
	if change != nil {
		change(s)
	}
	return s
}

func input(spaces ...*Space) *Input {
	return &Input{Spaces: spaces, Self: 4026531840, Window: 10 * time.Second, TimeWait: 61 * time.Second}
}

// full makes the destination use so many ports, nearly all in TIME_WAIT.
func full(n uint64) func(*Space) {
	return func(s *Space) { s.Destinations[0].Used, s.Destinations[0].TimeWaits = n, n-42 }
}

func both(changes ...func(*Space)) func(*Space) {
	return func(s *Space) {
		for _, change := range changes {
			change(s)
		}
	}
}

func sysctl(key, value string) func(*Space) {
	return func(s *Space) { s.Sysctls["net.ipv4."+key] = value }
}

type scenario struct {
	in   *Input
	want string // ids with their severities
}

// scenarios are inputs, and which findings they give: all of them, so that no rule gives a false alarm
// beside. Each finding has one in which it is given, and one close by in which it is not.
var scenarios = map[string]scenario{
	"idle":  {input(&Space{Inode: 1}), ""},
	"quiet": {input(quiet(nil)), ""},

	"exhausted":                     {input(quiet(full(28232))), "port-exhausted will_fail, tw-reuse-cannot-help note"},
	"exhausted, and reuse may help": {input(quiet(both(full(28232), sysctl("tcp_tw_reuse", "1")))), "port-pressure risk"},
	"exhausted by what is open":     {input(quiet(both(full(28232), sysctl("tcp_tw_reuse", "1"), func(s *Space) { s.Destinations[0].TimeWaits = 0 }))), "port-exhausted will_fail"},
	"pressure":                      {input(quiet(full(22586))), "port-pressure risk, tw-reuse-cannot-help note"},
	"less than pressure":            {input(quiet(full(22585))), ""},
	"reuse is off":                  {input(quiet(both(full(28000), sysctl("tcp_tw_reuse", "0")))), "port-pressure risk, tw-reuse-cannot-help note"},
	"reuse without timestamps":      {input(quiet(both(full(28000), sysctl("tcp_tw_reuse", "1"), sysctl("tcp_timestamps", "0")))), "port-pressure risk, tw-reuse-cannot-help note"},
	"reuse of orphans":              {input(quiet(both(full(28000), sysctl("tcp_tw_reuse", "1"), func(s *Space) { s.Destinations[0].Orphans = 20000 }))), "port-pressure risk, tw-reuse-cannot-help note"},
	"reuse on the loopback":         {input(quiet(both(full(28000), func(s *Space) { s.Destinations[0].Remote = netip.MustParseAddrPort("127.0.0.1:80") }))), "port-pressure risk"},
	"ports that are not known":      {input(quiet(both(full(28232), func(s *Space) { s.Usable = 0 }))), ""},
	"listener in the range":         {input(quiet(func(s *Space) { s.Listeners[0].Local = netip.MustParseAddrPort("0.0.0.0:50051") })), "listener-in-ephemeral-range note"},
	"listener on a reserved port": {input(quiet(func(s *Space) {
		s.Listeners[0].Local = netip.MustParseAddrPort("0.0.0.0:50051")
		s.Choosable = func(p uint16) bool { return p != 50051 }
	})), ""},
	"few ports":                       {input(quiet(func(s *Space) { s.Low, s.High, s.Usable = 40000, 49998, 9999 })), "port-range-shape note"},
	"enough ports":                    {input(quiet(func(s *Space) { s.Low, s.High, s.Usable = 40000, 49999, 10000 })), ""},
	"few ports, and nothing uses any": {input(&Space{Inode: 1, Low: 40000, High: 40099, Usable: 100}), ""},

	"many TIME_WAITs of a server": {input(quiet(func(s *Space) { s.TimeWaits.Served = 32000 })), "time-wait-harmless ok"},
	"few TIME_WAITs":              {input(quiet(func(s *Space) { s.TimeWaits.Served = 979 })), ""},
	"TIME_WAITs near the limit":   {input(quiet(func(s *Space) { s.TimeWaits.Served = 60000 })), "time-wait-overflow will_fail"},
	"between":                     {input(quiet(func(s *Space) { s.TimeWaits.Served = 50000 })), ""},
	"overflow":                    {input(quiet(func(s *Space) { s.TimeWaits.Served = 2000; s.Moved["TcpExt.TCPTimeWaitOverflow"] = 31 })), "time-wait-overflow failing"},
	"short fin_timeout":           {input(quiet(sysctl("tcp_fin_timeout", "15"))), "fin-timeout-misunderstood note"},
	"short fin_timeout that cuts": {input(quiet(both(sysctl("tcp_fin_timeout", "15"), func(s *Space) { s.OrphanedFIN2 = 5 }))), ""},
	"longer fin_timeout":          {input(quiet(sysctl("tcp_fin_timeout", "120"))), ""},

	"leak": {input(quiet(func(s *Space) { s.CloseWaits[0].Ages = slices.Repeat(ages(61*time.Second), 8500) })), "close-wait-leak risk"},
	"leak near the limit": {input(quiet(func(s *Space) {
		s.CloseWaits[0].Ages, s.CloseWaits[0].Files = slices.Repeat(ages(time.Hour), 800), 1000
	})), "close-wait-leak will_fail"},
	"a few that wait":       {input(quiet(func(s *Space) { s.CloseWaits[0].Ages = slices.Repeat(ages(time.Hour), 4) })), ""},
	"many for a short time": {input(quiet(func(s *Space) { s.CloseWaits[0].Ages = slices.Repeat(ages(59*time.Second), 400) })), ""},
	"half-closed":           {input(quiet(func(s *Space) { s.FinWait2s[0].Ages = ages(2*time.Hour, time.Second) })), "half-closed-held risk"},

	"nobody accepts":    {input(quiet(func(s *Space) { s.Listeners[0].Queued, s.Listeners[0].Left = ages(41*time.Second, 2*time.Second, 0), 2 })), "accept-stall failing"},
	"a full queue":      {input(quiet(func(s *Space) { s.Listeners[0].Waiting = 512 })), "listen-overflow will_fail"},
	"a queue just full": {input(quiet(func(s *Space) { s.Listeners[0].Waiting = 511 })), ""},
	"a full queue that drops": {input(quiet(func(s *Space) {
		s.Listeners[0].Waiting, s.Listeners[0].Limit, s.Moved["TcpExt.ListenOverflows"] = 4097, 4096, 412
	})), "listen-overflow failing"},
	"a queue that was full":      {input(quiet(func(s *Space) { s.Moved["TcpExt.ListenOverflows"] = 1 })), "listen-overflow failing"},
	"a listener that wants none": {input(quiet(func(s *Space) { s.Listeners[0].Waiting, s.Listeners[0].Limit = 0, 0 })), ""},

	"TIME_WAITs elsewhere": {input(quiet(nil), &Space{Inode: 7, TimeWaits: Ends{Served: 3400}}), "hidden-namespaces note"},
	"here is not known":    {input(&Space{Inode: 7, TimeWaits: Ends{Served: 3400}}), ""},
	"most are here":        {input(quiet(nil), &Space{Inode: 7, TimeWaits: Ends{Served: 400}}), ""},
}

func TestScenarios(t *testing.T) {
	fired, texts := make(map[string]bool), make(map[string]string)
	for name, sc := range scenarios {
		r, err := Examine(sc.in, Choice{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for i := range r.Findings {
			f := &r.Findings[i]
			got = append(got, f.ID+" "+f.Severity.String())
			fired[f.ID] = true
			for _, lang := range Languages() {
				say := lang.Say(f, lang.About(f.ID).Text)
				texts[fmt.Sprintf("%s, %s, %s", f.ID, name, lang.Tag)] = say
				sameFigures(t, english.Say(f, english.About(f.ID).Text), say)
				for _, c := range lang.About(f.ID).Commands {
					if said := lang.Say(f, c); strings.Contains(said, "<") || strings.Contains(said, f.ID+":") {
						t.Errorf("%s: %s", name, said)
					}
				}
			}
		}
		if d := cmp.Diff(sc.want, strings.Join(got, ", ")); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	for _, rule := range Rules() {
		if !fired[rule.ID] && rule.ID != "sysctl-lint" {
			t.Errorf("no scenario gives %s", rule.ID)
		}
	}
	golden(t, "texts.txt", texts)
}

// golden compares texts with those that were written down.
func golden(t *testing.T, file string, texts map[string]string) {
	t.Helper()
	var b strings.Builder
	for _, key := range slices.Sorted(func(yield func(string) bool) {
		for k := range texts {
			if !yield(k) {
				return
			}
		}
	}) {
		fmt.Fprintf(&b, "%s:\n  %s\n", key, texts[key])
	}
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), b.String()); d != "" {
		t.Errorf("go test -update writes it anew: %s", d)
	}
}

// sameFigures: a text in another language has the same numbers.
func sameFigures(t *testing.T, a, b string) {
	t.Helper()
	digits := func(s string) []string {
		f := strings.FieldsFunc(s, func(r rune) bool { return (r < '0' || r > '9') && r != '.' && r != ',' && r != ':' })
		for i := range f {
			f[i] = strings.Trim(f[i], ".,:")
		}
		f = slices.DeleteFunc(f, func(s string) bool { return s == "" })
		slices.Sort(f)
		return f
	}
	if d := cmp.Diff(digits(a), digits(b)); d != "" {
		t.Errorf("%q and %q have other figures: %s", a, b, d)
	}
}

// Every rule has every text in every language.
func TestTextsAreComplete(t *testing.T) {
	for _, lang := range Languages() {
		for _, rule := range Rules() {
			about, en := lang.About(rule.ID), english.About(rule.ID)
			if about.Title == "" || about.Text == "" || about.Cause == "" || about.Mechanism == "" || len(about.Fixes) != len(en.Fixes) || len(about.Fixes) == 0 ||
				len(about.DoNot) != len(en.DoNot) || len(about.Commands) == 0 || len(about.Sources) == 0 {
				t.Errorf("%s: %s lacks a text", lang.Tag, rule.ID)
			}
			for _, threshold := range rule.Thresholds {
				if say := lang.Threshold(rule, &threshold); say == "" || lang != english && say == threshold.About {
					t.Errorf("%s: no text of %s.%s", lang.Tag, rule.ID, threshold.Name)
				}
			}
			for _, fix := range about.Fixes {
				if fix.Do == "" || fix.Risk == "" {
					t.Errorf("%s: %s: a fix without its risk", lang.Tag, rule.ID)
				}
			}
			var b bytes.Buffer
			if err := Explain(bufio.NewWriter(&b), lang, rule); err != nil || b.Len() < 300 {
				t.Errorf("%s: %s: %v, %q", lang.Tag, rule.ID, err, &b)
			}
		}
		for id := range lang.texts {
			if _, err := RuleOf(id); err != nil {
				t.Errorf("%s: texts of no rule: %s", lang.Tag, id)
			}
		}
		for _, why := range whys {
			if said := lang.Why(why); said == "" || !strings.Contains(said, why.Detail) || strings.Contains(said, "%!") {
				t.Errorf("%s: %v: %q", lang.Tag, why, said)
			}
		}
		for key := range english.words {
			if lang.Word(key) == "" {
				t.Errorf("%s: no word %q", lang.Tag, key)
			}
		}
	}
}

// What could not be read is not fine, and is listed.
func TestNotChecked(t *testing.T) {
	in := input(quiet(func(s *Space) { s.CloseWaits[0].Ages = slices.Repeat(ages(time.Hour), 10) }))
	in.Missing = map[Need]Why{NeedOwners: whyNoOwners, NeedWindow: whyOneReading}
	r, err := Examine(in, Choice{Ignore: []string{"port-pressure"}})
	if err != nil {
		t.Fatal(err)
	}
	want := []NotChecked{
		{"time-wait-overflow", true, whyOneReading}, {"close-wait-leak", false, whyNoOwners},
		{"half-closed-held", false, whyNoOwners}, {"listen-overflow", true, whyOneReading},
		{"syn-queue-cookies", false, whyOneReading}, {"orphans-near-limit", true, whyOneReading}, {"conntrack-half-close", false, whyNoOwners},
	}
	if d := cmp.Diff(want, r.NotChecked); d != "" || len(r.Findings) != 0 || !slices.Equal(r.Ignored, []string{"port-pressure"}) {
		t.Errorf("%s; %+v", d, r)
	}
}

func TestChoice(t *testing.T) {
	in := input(quiet(both(full(28232), func(s *Space) { s.TimeWaits.Served = 60000 })))
	for name, c := range map[string]struct {
		choice Choice
		want   string
	}{
		"all":    {Choice{}, "port-exhausted time-wait-overflow tw-reuse-cannot-help"},
		"only":   {Choice{Only: []string{"port-exhausted"}}, "port-exhausted"},
		"ignore": {Choice{Ignore: []string{"port-exhausted", "tw-reuse-cannot-help"}}, "time-wait-overflow"},
		"set":    {Choice{Set: []string{"time-wait-overflow.share=0.99"}}, "port-exhausted tw-reuse-cannot-help"},
	} {
		r, err := Examine(in, c.choice)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range r.Findings {
			got = append(got, f.ID)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", name, got, c.want)
		}
	}
	for want, c := range map[string]Choice{
		`no finding is called "x"`: {Only: []string{"x"}}, `"a" is not ID.threshold=value`: {Set: []string{"a"}},
		`no threshold "b"`: {Set: []string{"port-pressure.b=1"}}, "is no number": {Set: []string{"port-pressure.share=much"}},
	} {
		if _, err := Examine(in, c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
}

func TestLint(t *testing.T) {
	for line, want := range map[string]string{
		"net.ipv4.tcp_tw_recycle=1": "recycle", "net.ipv4.tcp_max_tw_buckets = 2000": "few_buckets", "net/ipv4/tcp_fin_timeout = 10": "short_fin_timeout",
		"-net.ipv4.tcp_timestamps = 0": "no_timestamps", "net.ipv4.tcp_abort_on_overflow=1": "abort_on_overflow", "net.ipv4.tcp_tw_timestamps=1": "unknown",
		"net.ipv4.tcp_fin_timeout = 30": "", "net.core.somaxconn = 4096": "", "# net.ipv4.tcp_tw_recycle=1": "none", "kernel.pid_max = 5": "none",
	} {
		all := parseSettings("f", "\n"+line+"\n")
		if want == "none" {
			if len(all) != 0 {
				t.Errorf("%q: %+v", line, all)
			}
			continue
		}
		if len(all) != 1 || all[0].Line != 2 || lint(&all[0]) != want {
			t.Errorf("%q: %+v, want %q", line, all, want)
			continue
		}
		if want != "" {
			r, _ := Examine(&Input{Settings: all}, Choice{})
			if len(r.Findings) != 1 || r.Findings[0].ID != "sysctl-lint" {
				t.Errorf("%q: %+v", line, r.Findings)
			} else if say := english.Say(&r.Findings[0], english.About("sysctl-lint").Text); !strings.HasPrefix(say, "f:2: net.ipv4.tcp_") {
				t.Error(say)
			}
		}
	}
}

// The JSON is as the documents have it: a line for each finding, and one for the checkup.
func TestJSON(t *testing.T) {
	for name, sc := range scenarios {
		r, err := Examine(sc.in, Choice{})
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := WriteJSON(&b, english, r); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
		if len(lines) != len(r.Findings)+1 {
			t.Errorf("%s: %d lines", name, len(lines))
		}
		for i, line := range lines {
			var o map[string]any
			if err := json.Unmarshal([]byte(line), &o); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			keys := "cause commands confidence do_not event evidence fix id netns scope severity text title url window_ns"
			if i == len(lines)-1 {
				keys = "event findings ignored not_checked window_ns"
			}
			for key := range strings.FieldsSeq(keys) {
				if _, ok := o[key]; !ok {
					t.Errorf("%s: no %s: %s", name, key, line)
				}
			}
		}
	}
}
