package doctor

import (
	"io"
	"net/netip"
	"time"

	"finwait/internal/jsonl"

	"github.com/rs/zerolog"
)

// WriteJSON writes a report, one object a line: the findings, and a last one that says what was
// checked.
func WriteJSON(w io.Writer, lang *Language, r *Report) error {
	out := jsonl.NewWriter(w)
	for i := range r.Findings {
		f := &r.Findings[i]
		about := lang.About(f.ID)
		e := out.Event().Str("event", "finding").Str("id", f.ID).Stringer("severity", f.Severity).Str("title", about.Title)
		if f.Space != nil {
			e.Uint32("netns", f.Space.Inode)
			jsonl.Word(e, "netns_name", f.Space.Name)
		} else {
			jsonl.Null(e, "netns")
		}
		confidence := "observed"
		if f.Inferred {
			confidence = "inferred"
		}
		e.Dict("scope", fields(f.Scope)).Dict("evidence", fields(f.Evidence)).Int64("window_ns", int64(r.Window)).
			Str("confidence", confidence).Str("text", lang.Say(f, about.Text)).Str("cause", about.Cause)
		fixes := zerolog.Arr()
		for _, fix := range about.Fixes {
			fixes.Dict(zerolog.Dict().Str("do", fix.Do).Str("risk", fix.Risk))
		}
		commands := make([]string, len(about.Commands))
		for i, c := range about.Commands {
			commands[i] = lang.Say(f, c)
		}
		e.Array("fix", fixes).Strs("do_not", about.DoNot).Strs("commands", commands).Str("url", "docs/findings/"+f.ID+".md").Send()
	}
	n := zerolog.Dict()
	for s := range Severity(len(severities)) {
		of := 0
		for i := range r.Findings {
			if r.Findings[i].Severity == s {
				of++
			}
		}
		n.Int(s.String(), of)
	}
	unchecked := zerolog.Arr()
	for _, u := range r.NotChecked {
		unchecked.Dict(zerolog.Dict().Str("id", u.ID).Bool("in_part", u.Part).Str("why", lang.Why(u.Why)))
	}
	out.Event().Str("event", "checkup").Dict("findings", n).Array("not_checked", unchecked).Strs("ignored", r.Ignored).
		Int64("window_ns", int64(r.Window)).Send()
	return out.Err()
}

func fields(all []Field) *zerolog.Event {
	d := zerolog.Dict()
	for _, f := range all {
		switch v := f.Value.(type) {
		case Process:
			if v.PID == 0 {
				jsonl.Null(d, f.Key)
				continue
			}
			p := zerolog.Dict().Uint32("pid", v.PID).Str("comm", v.Comm)
			jsonl.Word(p, "name", v.Name)
			d.Dict(f.Key, p)
		case netip.AddrPort:
			if !v.IsValid() {
				jsonl.Null(d, f.Key)
				continue
			}
			d.Stringer(f.Key, v)
		case netip.Addr:
			d.Stringer(f.Key, v)
		case time.Duration:
			d.Int64(f.Key+"_ns", int64(v))
		case Bytes:
			d.Uint64(f.Key, uint64(v))
		default:
			d.Any(f.Key, v)
		}
	}
	return d
}
