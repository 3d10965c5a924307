// Package page is the page: the state machine of TCP, live, and what explains it. A Page is an
// http.Handler. It is told what happens, keeps the last ten minutes of that, and tells it to
// browsers as server-sent events. It reads nothing itself.
//
// The page has no inline script and no inline style, and loads nothing from elsewhere. Its source is
// in web/; what esbuild makes of that is in dist/ (make page).
package page

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"time"

	"finwait/internal/audit"
	"finwait/internal/ktime"
	"finwait/internal/meter"
)

// Policy is the Content-Security-Policy of the page.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; worker-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

//go:embed dist
var dist embed.FS

// About is what the page says of where its numbers come from.
type About struct {
	Host    string
	Version string
	By      string        // what the groups of the reports are called by; "": there are none
	Hooks   string        // those that follow TIME_WAIT
	Refresh time.Duration // how often lists, findings and the audit are read; 0: never
}

// A Page tells browsers what it is told.
type Page struct {
	about   About
	start   string // tells this Page from another one, whose events have the same numbers
	history *history
	ranking ranking
	streams chan struct{} // a place for each that is open
	patient time.Duration // how long a browser may take to read what is written
	mux     *http.ServeMux
}

// maxStreams is how many streams of events can be open. Who gets none asks again and again instead.
const maxStreams = 32

// New makes a Page that was told nothing.
func New(about About) *Page {
	p := &Page{
		about: about, start: fmt.Sprintf("%x", time.Now().UnixNano()), history: newHistory(maxBytes),
		streams: make(chan struct{}, maxStreams), patient: 20 * time.Second, mux: http.NewServeMux(),
	}
	p.mux.HandleFunc("GET /events", p.stream)
	p.mux.HandleFunc("GET /history", p.poll)
	files, err := fs.Sub(dist, "dist")
	if err != nil {
		panic(err) // the name is right
	}
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		panic(err) // it is embedded
	}
	for _, e := range entries {
		b, err := fs.ReadFile(files, e.Name())
		if err != nil {
			panic(err)
		}
		at := "/" + e.Name()
		if at == "/index.html" {
			at = "/{$}"
		}
		p.mux.HandleFunc("GET "+at, static(e.Name(), b))
	}
	return p
}

// ServeHTTP serves the page, its files, /events and /history.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", Policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	p.mux.ServeHTTP(w, r)
}

// static serves a file that changes with the program only.
func static(name string, content []byte) http.HandlerFunc {
	sum := sha256.Sum256(content)
	tag := `"` + hex.EncodeToString(sum[:8]) + `"`
	kind := mime.TypeByExtension(path.Ext(name))
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.Header().Set("ETag", tag)
		w.Header().Set("Cache-Control", "no-cache")
		http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(content))
	}
}

// Report tells the page what happened in an interval: what Meter.Interval gives. It is to be called
// from one goroutine. The meter's Options.Top should be large, so that the page can choose.
func (p *Page) Report(r *meter.Report) error {
	groups, others, left := p.ranking.top(r)
	f := newFrame(r, groups, others, left)
	return p.history.add(r.At, func(n uint64) ([]byte, error) {
		f.N = n
		return json.Marshal(f)
	})
}

// Lists tells the page which sockets there are.
func (p *Page) Lists(l *Lists) error {
	of := make(map[string]json.RawMessage, len(l.Tables))
	for _, t := range l.Tables {
		lines, err := groupLines(t, l.Names)
		if err != nil {
			return err
		}
		of[t.By[0]] = lines
	}
	return p.tell("lists", l.At, map[string]any{"lists": of})
}

// Findings tells the page what doctor.WriteJSON writes, and net.ipv4.tcp_fin_timeout: the least and the
// most of all network namespaces; most 0: not known.
func (p *Page) Findings(at time.Time, lines []byte, least, most time.Duration) error {
	fields := map[string]any{"findings": array(lines), "fin_timeout_ns": nil}
	if most > 0 {
		fields["fin_timeout_ns"] = [2]int64{int64(least), int64(most)}
	}
	return p.tell("findings", at, fields)
}

// Audit tells the page how the totals compare with the kernel's counters.
func (p *Page) Audit(at time.Time, rows []audit.Row) error {
	return p.tell("audit", at, auditOf(rows))
}

// Trouble tells the page why something could not be read.
func (p *Page) Trouble(at time.Time, what string, err error) error {
	return p.tell("trouble", at, map[string]any{"what": what, "why": err.Error()})
}

func (p *Page) tell(name string, at time.Time, fields map[string]any) error {
	return p.history.add(at, func(n uint64) ([]byte, error) {
		fields["event"], fields["n"], fields["time"] = name, n, stamp(at)
		return json.Marshal(fields)
	})
}

// hello is what a browser is told first.
func (p *Page) hello() []byte {
	h := map[string]any{
		"event": "hello", "start": p.start, "host": p.about.Host, "version": p.about.Version, "by": p.about.By, "hooks": p.about.Hooks,
		"refresh_ns": int64(p.about.Refresh), "keep_ns": int64(keep), "bounds_ns": bounds(), "time_wait": nil,
	}
	if low, high, err := ktime.TimeWaitBand(); err == nil {
		h["time_wait"] = map[string]int64{"undisturbed_from_ns": int64(low), "undisturbed_to_ns": int64(high)}
	}
	b, err := json.Marshal(h)
	if err != nil {
		panic(err) // there is nothing in it that JSON has not
	}
	return b
}
