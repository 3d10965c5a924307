package main

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"finwait/internal/conns"
	"finwait/internal/meter"
	"finwait/internal/sink"
	"finwait/internal/sockets"
	"finwait/internal/text"
)

// --columns help names each column, within 80 columns, and --help in which order they go. Neither needs
// root.
func TestColumnsHelp(t *testing.T) {
	for command, c := range map[string]struct {
		names []string
		going string
	}{
		"trace": {text.Names(sink.Columns), text.Going(sink.Columns)},
		"conns": {text.Names(conns.Columns), text.Going(conns.Columns)},
		"ls":    {text.Names(sockets.Columns), text.Going(sockets.Columns)},
		"stat":  {nil, meter.GoingStates()},
	} {
		var page, list, errs bytes.Buffer
		if code := run([]string{command, "--help"}, &page, &errs); code != exitOK {
			t.Fatalf("%s --help: exit code %d: %s", command, code, &errs)
		}
		about, _, _ := strings.Cut(page.String(), "\nUsage:")
		if flat := strings.Join(strings.Fields(about), " "); c.going == "" || !strings.Contains(flat, c.going) {
			t.Errorf("%s --help does not say that %s go, in this order:\n%s", command, c.going, about)
		}
		if c.names != nil {
			if code := run([]string{command, "--columns", "help"}, &list, &errs); code != exitOK || errs.Len() > 0 {
				t.Fatalf("%s --columns help: exit code %d: %s", command, code, &errs)
			}
		}
		for _, name := range c.names {
			if !strings.Contains("\n"+list.String(), "\n"+name+" ") {
				t.Errorf("%s --columns help has no %s:\n%s", command, name, &list)
			}
		}
		for line := range strings.Lines(list.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
				t.Errorf("%s: %d columns: %q", command, n, line)
			}
		}
	}
}

// Every column has a sentence, and no two are called the same.
func TestColumnsSaySomething(t *testing.T) {
	about := make(map[string]string)
	add := func(command, name, sentence string) {
		key := command + " " + name
		if _, twice := about[key]; twice || sentence == "" || name != strings.ToLower(name) {
			t.Errorf("%s: %q", key, sentence)
		}
		about[key] = sentence
	}
	for _, c := range sink.Columns {
		add("trace", c.Name, c.About)
	}
	for _, c := range conns.Columns {
		add("conns", c.Name, c.About)
	}
	for _, c := range sockets.Columns {
		add("ls", c.Name, c.About)
	}
}
