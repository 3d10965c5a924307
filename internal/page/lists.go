package page

import (
	"bytes"
	"encoding/json"
	"time"

	"finwait/internal/audit"
	"finwait/internal/sockets"
	"finwait/tracer"

	"github.com/rs/zerolog"
)

// listTop is how many groups a list has.
const listTop = 15

// listWords are what the lists are by, and how they are sorted. That by state has the ages.
var listWords = []struct{ by, sort string }{
	{"state", "-sockets"}, {"port", "-sockets"}, {"pid", "-sockets"}, {"pod", "-sockets"}, {"destination", "-ports"},
}

// Lists are the sockets of one moment, grouped in the ways that the page shows.
type Lists struct {
	At     time.Time
	Tables []*sockets.Table
	Names  *sockets.Names
}

// ReadLists reads the sockets once and groups them in each way.
func ReadLists(filter tracer.Filter, o sockets.Options, log *zerolog.Logger) (*Lists, error) {
	sel, err := sockets.Select(filter)
	if err != nil {
		return nil, err
	}
	var groupings []*sockets.Grouping
	for _, w := range listWords {
		g, err := sockets.NewGrouping([]string{w.by}, w.sort, listTop)
		if err != nil {
			return nil, err
		}
		groupings = append(groupings, g)
		o.Need |= g.Need()
	}
	o.Every = func(r *sockets.Row) {
		for _, g := range groupings {
			g.Use(r)
		}
	}
	l := &Lists{At: time.Now()}
	reader, err := sockets.NewReader(sel, o, log)
	if err != nil {
		return nil, err
	}
	l.Names = reader.Names()
	for _, g := range groupings {
		g.Name(l.Names)
	}
	err = reader.Each(func(r *sockets.Row) error {
		for _, g := range groupings {
			if err := g.Count(r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, g := range groupings {
		l.Tables = append(l.Tables, g.Table())
	}
	return l, nil
}

// groupLines are the objects of ls --by, as an array.
func groupLines(t *sockets.Table, names *sockets.Names) (json.RawMessage, error) {
	var b bytes.Buffer
	if err := sockets.NewJSON(&b, names).Groups(t); err != nil {
		return nil, err
	}
	return array(b.Bytes()), nil
}

// array makes an array of objects that are one a line.
func array(lines []byte) json.RawMessage {
	all := bytes.TrimSuffix(lines, []byte("\n"))
	return append(append(json.RawMessage{'['}, bytes.ReplaceAll(all, []byte("\n"), []byte(","))...), ']')
}

// auditOf counts verdicts, and has each comparison that is not plainly equal.
func auditOf(rows []audit.Row) map[string]any {
	counts := map[audit.Verdict]int{}
	apart := 0
	shown := []map[string]any{}
	for _, r := range rows {
		if r.Counter == "" {
			apart++
			shown = append(shown, map[string]any{"netns": r.NetNS, "verdict": r.Verdict, "cause": r.Cause})
			continue
		}
		counts[r.Verdict]++
		if r.Verdict != audit.Agrees {
			shown = append(shown, map[string]any{
				"netns": r.NetNS, "counter": r.Counter, "kernel": r.Kernel, "finwait": r.Finwait, "verdict": r.Verdict, "cause": r.Cause,
			})
		}
	}
	return map[string]any{
		"agree": counts[audit.Agrees], "explained": counts[audit.Explained], "disagree": counts[audit.Disagrees],
		"not_compared": apart, "rows": shown[:min(len(shown), maxAudited)], "rows_left": max(0, len(shown)-maxAudited),
	}
}

// maxAudited is how many comparisons the page is told.
const maxAudited = 30
