package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Mistakes on the command line end with 2, one sentence on stderr and nothing on stdout.
func TestUsageErrors(t *testing.T) {
	cases := map[string]struct {
		args []string
		say  string
	}{
		"unknown command":     {[]string{"frobnicate"}, "frobnicate"},
		"unknown flag":        {[]string{"trace", "--frobnicate"}, "--frobnicate"},
		"stray argument":      {[]string{"trace", "now"}, `"now"`},
		"output":              {[]string{"--output", "xml"}, `"xml"`},
		"colour":              {[]string{"--color", "blue"}, `"blue"`},
		"hooks":               {[]string{"--hooks", "kprobe"}, `"kprobe"`},
		"negative duration":   {[]string{"--duration", "-1s"}, "-1s"},
		"no duration":         {[]string{"--duration", "soon"}, "soon"},
		"state":               {[]string{"--state", "half-open"}, "half-open"},
		"port":                {[]string{"--port", "65536"}, "65536"},
		"number":              {[]string{"--count", "many"}, `--count "many": not a whole number of 0 or more`},
		"negative number":     {[]string{"stat", "--top", "few"}, `--top "few": not a whole number`},
		"large number":        {[]string{"--count", "18446744073709551616"}, "out of range"},
		"switch":              {[]string{"stat", "--audit=maybe"}, "true and false"},
		"unit of a duration":  {[]string{"stat", "--interval", "1x"}, `--interval "1x": not a duration such as 500ms`},
		"too long":            {[]string{"--duration", "1e99"}, "not a duration"},
		"no number":           {[]string{"--duration", "NaN"}, "not a duration"},
		"stat no interval":    {[]string{"stat", "0"}, `"0"`},
		"stat no count":       {[]string{"stat", "1", "few"}, `"few" intervals`},
		"stat three":          {[]string{"stat", "1", "2", "3"}, `"1"`},
		"linger negative":     {[]string{"demo", "load", "--linger", "-1s"}, "-1s is negative"},
		"linger elsewhere":    {[]string{"demo", "load", "--linger", "1s", "--connect", "localhost:1"}, "--connect has not"},
		"no such time":        {[]string{"--time", "swatch"}, "there are local, utc, date, none, relative, delta"},
		"no such fields":      {[]string{"--fields", "cookies"}, "there are bytes, rtt"},
		"no such stack":       {[]string{"--stack", "hay"}, "kernel, user and both"},
		"raw fields":          {[]string{"--raw", "--fields", "rtt"}, "--fields does not go with it"},
		"stat twice":          {[]string{"stat", "--interval", "1s", "2"}, `"2"`},
		"pid":                 {[]string{"ls", "--pid", "init"}, `pid "init"`},
		"two lines":           {[]string{"ls", "--comm", "a\nb"}, "double quotes"},
		"ring":                {[]string{"--ring-bytes", "3"}, "power of two"},
		"port name":           {[]string{"--port", "http"}, "http"},
		"address":             {[]string{"--addr", "10.0.0.0/33"}, "10.0.0.0/33"},
		"ports backwards":     {[]string{"--port", "90-80"}, "the first is above the last"},
		"ports without end":   {[]string{"--not-port", "90-"}, `port ""`},
		"address and no port": {[]string{"--addr", "[::1]:0"}, "neither an address"},
		"cookie":              {[]string{"--cookie", "sk:xyz"}, `cookie "sk:xyz"`},
		"role":                {[]string{"--role", "boss"}, "client, server and listener"},
		"reason":              {[]string{"--reason", "bored"}, "bored"},
		"raw reason":          {[]string{"--raw", "--reason", "reset"}, "--raw"},
		"never: reason":       {[]string{"--reason", "reset", "--to", "TIME_WAIT"}, "has a reason"},
		"never: role":         {[]string{"stat", "--role", "listener", "--state", "TIME_WAIT"}, "a listener makes none"},
		"never: not":          {[]string{"--comm", "a", "--not-comm", "a"}, "to be left out"},
		"no end":              {[]string{"conns", "--reason", "fin_received"}, "no connection ends with fin_received"},
		"no connection":       {[]string{"conns", "--role", "listener"}, "a listener is no connection"},
		"metrics not shown":   {[]string{"--fields", "rtt", "--columns", "time,to"}, "--fields is shown in the column why"},
		"time not shown":      {[]string{"--time", "utc", "--columns", "comm,to"}, "--time is shown in the column time"},
		"handlers not shown":  {[]string{"conns", "--handlers", "--columns", "local"}, "--handlers is shown in the column why"},
		"brief JSON":          {[]string{"stat", "--by", "port", "--brief", "--json"}, "--brief is for text"},
		"end at close":        {[]string{"conns", "--reason", "reset", "--at", "close"}, "--at close does not wait"},
		"negative minimum":    {[]string{"--min-duration=-1s"}, "-1s"},
		"too many ports":      {[]string{"--port", "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17"}, "17 port filters"},
		"raw transitions":     {[]string{"--raw", "--from", "LISTEN"}, "--raw"},
		"never: edge":         {[]string{"--from", "TIME_WAIT", "--to", "ESTABLISHED"}, "never goes from TIME_WAIT to ESTABLISHED"},
		"never: families":     {[]string{"-4", "-6"}, "can never match"},
		"never: ports":        {[]string{"--port", "80", "--local-port", "81", "--remote-port", "82"}, "it has no port 80"},
		"never: timed":        {[]string{"stat", "--from", "CLOSED", "--min-duration", "1s"}, "nothing is timed in CLOSED"},
		"never: listener":     {[]string{"--to", "LISTEN", "--remote-port", "80"}, "a listener has a local port only"},
		"top without groups":  {[]string{"stat", "--top", "3"}, "--top goes with --by"},
		"never: comm":         {[]string{"--comm", "a-name-of-16-byt"}, "15 bytes"},
		"namespace went away": {[]string{"--netns", "no-such-namespace"}, "not there"},
		"brief of nothing":    {[]string{"stat", "--brief"}, "--brief goes with --by"},
		"trace column":        {[]string{"trace", "--columns", "time,colour"}, "there are time, netns, cookie"},
		"conns column":        {[]string{"conns", "--columns", "sent,colour"}, "there are opened, netns, cookie"},
		"columns of JSON":     {[]string{"trace", "--columns", "time", "--json"}, "JSON has everything"},
		"columns of raw":      {[]string{"trace", "--columns", "time", "--raw"}, "--columns does not go with it"},
		"no time":             {[]string{"trace", "--columns", "time,to", "--time", "none"}, "--columns asks for it"},
		"no time opened":      {[]string{"conns", "--columns", "opened", "--time", "none"}, "--columns asks for it"},
		"no delta":            {[]string{"conns", "--time", "delta"}, "there are local, utc, date, none, relative"},
		"stat argument":       {[]string{"stat", "now"}, `"now"`},
		"stat before --":      {[]string{"stat", "now", "--", "true"}, `"now"`},
		"no command":          {[]string{"stat", "--"}, "no command after --"},
		"empty command":       {[]string{"stat", "--", "", "x"}, "no command after --"},
		"stat output":         {[]string{"stat", "--output", "xml"}, `"xml"`},
		"stat split":          {[]string{"stat", "--by", "host"}, `"host"`},
		"stat top":            {[]string{"stat", "--by", "port", "--top", "0"}, "--top 0"},
		"stat interval":       {[]string{"stat", "--interval", "1ms"}, "10ms"},
		"stat negative":       {[]string{"stat", "--duration", "-1s"}, "-1s"},
		"stat both ends":      {[]string{"stat", "--duration", "1s", "--", "true"}, "--duration"},
		"audit of a part":     {[]string{"stat", "--audit", "--port", "80"}, "no filter"},
		"audit of a command":  {[]string{"stat", "--audit", "--", "true"}, "--audit compares with counters that count everything"},
		"RSTs of a command":   {[]string{"stat", "--rst", "--", "true"}, "with a command they go with --all"},
		"SYN-ACKs of it":      {[]string{"stat", "--handshakes", "--", "true"}, "with a command they go with --all"},
		"two cgroups":         {[]string{"stat", "--cgroup", "/", "--", "true"}, "the command has a cgroup of its own"},
		"all of no command":   {[]string{"stat", "--all"}, "--all goes with a command"},
		"stat never":          {[]string{"stat", "-4", "-6"}, "can never match"},
		"no such page":        {[]string{"help", "frobnicate"}, `"frobnicate"`},
		"no such shell":       {[]string{"completion", "frobnicate"}, `"frobnicate" for finwait completion;`},
		"shell's argument":    {[]string{"completion", "bash", "now"}, `"now" for finwait completion bash;`},
		"no such cgroup":      {[]string{"--cgroup", "no/such/cgroup"}, "cgroup"},
		"no such pod":         {[]string{"--pod", "no-such-pod"}, `no pod is called "no-such-pod"`},
		"no such container":   {[]string{"stat", "--container", "no-such"}, `no container is called "no-such"`},
		"no such unit":        {[]string{"ls", "--unit", "no-such"}, `no unit is called "no-such"`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := run(c.args, &stdout, &stderr); code != exitUsage {
				t.Errorf("exit code %d, want %d", code, exitUsage)
			}
			if stdout.Len() > 0 {
				t.Errorf("stdout: %s", &stdout)
			}
			if !strings.Contains(stderr.String(), c.say) || strings.Count(stderr.String(), "\n") != 1 {
				t.Errorf("stderr does not say %q in one line: %q", c.say, &stderr)
			}
			page := "; see finwait --help\n"
			switch word := c.args[0]; word {
			case "trace", "stat", "ls", "conns", "help":
				page = "; see finwait " + word + " --help\n"
			case "demo":
				page = "; see finwait demo load --help\n"
			case "completion":
				page = "; see finwait " + strings.Join(c.args[:len(c.args)-1], " ") + " --help\n"
			}
			if !strings.HasSuffix(stderr.String(), page) {
				t.Errorf("stderr does not end in %q: %q", page, &stderr)
			}
			for _, inside := range []string{"strconv", "parsing", "syntax", "time:", "csv", "parse error"} {
				if strings.Contains(stderr.String(), inside) {
					t.Errorf("stderr speaks of %q: %q", inside, &stderr)
				}
			}
		})
	}
}

// An empty value is a mistake, of every flag of every command that takes a value.
func TestEmptyValues(t *testing.T) {
	refused := func(page string, args ...string) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		code := run(args, &stdout, &stderr)
		if said := stderr.String(); code != exitUsage || stdout.Len() > 0 ||
			!strings.Contains(said, "an empty value") || !strings.HasSuffix(said, "; see "+page+" --help\n") {
			t.Errorf("finwait %q: exit code %d, stdout %q, stderr %q", args, code, &stdout, said)
		}
	}
	flags := 0
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.NoOptDefVal == "" { // it takes a value
				flags++
				refused(cmd.CommandPath(), append(strings.Fields(cmd.CommandPath())[1:], "--"+f.Name, "")...)
			}
		})
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(newRoot(io.Discard))
	if flags < 50 {
		t.Errorf("only %d flags", flags)
	}
	for _, list := range []string{"nginx,", ",nginx", "nginx,,curl", ","} {
		refused("finwait ls", "ls", "--comm", list)
	}
	refused("finwait", "--comm", "nginx", "--comm", "")
}

// Values are given one by one or separated by commas; quotes are for a comma.
func TestValues(t *testing.T) {
	var v values
	for _, s := range []string{"a,b", `"c,d"`, `e"f`, " g"} {
		if err := v.Set(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	if want := (values{"a", "b", "c,d", `e"f`, " g"}); !slices.Equal(v, want) {
		t.Errorf("%q, want %q", v, want)
	}
}

func TestVersionHelpAndCompletion(t *testing.T) {
	for args, want := range map[string]string{
		"version":         "finwait ",
		"--help":          "finwait watches every TCP state transition",
		"help":            "finwait watches every TCP state transition",
		"help trace":      "--min-duration",
		"help demo load":  "--closer",
		"completion bash": "__start_finwait",
	} {
		var stdout, stderr bytes.Buffer
		if code := run(strings.Fields(args), &stdout, &stderr); code != exitOK || !strings.Contains(stdout.String(), want) {
			t.Errorf("finwait %s: exit code %d, stderr %q, stdout without %q", args, code, &stderr, want)
		}
	}
}

// closedPipe is a reader that has gone away.
type closedPipe struct{}

func (closedPipe) Write([]byte) (int, error) {
	return 0, &os.PathError{Op: "write", Path: "|1", Err: syscall.EPIPE}
}

func TestClosedPipeIsQuiet(t *testing.T) {
	var stderr bytes.Buffer
	if code := run([]string{"version"}, closedPipe{}, &stderr); code != exitOK || stderr.Len() > 0 {
		t.Errorf("exit code %d, stderr %q", code, &stderr)
	}
}

// full is a disk with no room left.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestWriteErrorIsAFailure(t *testing.T) {
	var stderr bytes.Buffer
	if code := run([]string{"version"}, full{}, &stderr); code != exitFailure || !strings.Contains(stderr.String(), "no space") {
		t.Errorf("exit code %d, stderr %q", code, &stderr)
	}
}

func decodeLines(t *testing.T, b []byte) []map[string]any {
	t.Helper()
	var lines []map[string]any
	dec := json.NewDecoder(bytes.NewReader(b))
	for dec.More() {
		var m map[string]any
		if err := dec.Decode(&m); err != nil {
			t.Fatalf("%v in %s", err, b)
		}
		lines = append(lines, m)
	}
	return lines
}

// A number is seconds, as sleep takes it; otherwise a duration is as Go writes it.
func TestSpan(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"5": 5 * time.Second, "0.25": 250 * time.Millisecond, "0": 0, "1m30s": 90 * time.Second, "-1": -time.Second,
	} {
		if got, err := parseSpan(text); err != nil || got != want {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
	o := new(statOptions)
	cmd := newStat(io.Discard)
	if err := o.sample(cmd, []string{"0.5", "4"}); err != nil || o.interval != 500*time.Millisecond || o.duration != 2*time.Second {
		t.Errorf("stat 0.5 4: %v, %v, %v", o.interval, o.duration, err)
	}
}
