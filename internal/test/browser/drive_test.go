package browser

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"finwait/internal/audit"
	"finwait/internal/doctor"
	"finwait/internal/meter"
	"finwait/internal/netns"
	"finwait/internal/page"
	"finwait/internal/sandbox"
	"finwait/internal/sockets"
	"finwait/internal/source"
	"finwait/tracer"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/rs/zerolog"
)

// A driver feeds a page with what a tracer sees, as the command does.
type driver struct {
	t       *testing.T
	page    *page.Page
	url     string
	streams atomic.Int64 // that are open
	most    atomic.Int64 // that were open at a time

	mu     sync.Mutex
	live   source.Live
	meter  *meter.Meter
	spaces []netns.NS // to look at; none: all
	before *audit.Snapshot
}

// drive traces the namespaces; without one, the host, and then there is an audit, too.
func drive(t *testing.T, by tracer.Split, spaces ...*sandbox.NS) *driver {
	t.Helper()
	d := &driver{t: t}
	cfg := tracer.Config{TotalsOnly: true, SplitBy: by, Audit: len(spaces) == 0}
	for _, ns := range spaces {
		cfg.Filter.NetNS = append(cfg.Filter.NetNS, ns.Cookie)
		d.spaces = append(d.spaces, netns.NS{Name: "test", Path: ns.Path(), Inode: ns.Inode, Cookie: ns.Cookie})
	}
	tr, err := tracer.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	d.live = source.Live{Tracer: tr}
	if cfg.Audit {
		if d.before, err = audit.Take(tr); err != nil {
			t.Fatal(err)
		}
	}
	if d.meter, err = meter.Start(d.live, meter.Options{By: by, Top: 1000}); err != nil {
		t.Fatal(err)
	}
	d.page = page.New(page.About{Host: "web-1.example", Version: "test", By: by.String(), Hooks: d.live.Hooks().String(), Refresh: 15 * time.Second})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/events" {
			d.most.Store(max(d.most.Load(), d.streams.Add(1)))
			defer d.streams.Add(-1)
		}
		d.page.ServeHTTP(w, r)
	}))
	d.url = server.URL
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return d
}

func (d *driver) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

// tick takes a reading.
func (d *driver) tick() {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	r, err := d.meter.Interval()
	d.must(err)
	d.must(d.page.Report(r))
}

// ticks takes readings until the end of the test, or until stop is called.
func (d *driver) ticks(every time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(d.t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(every):
				d.tick()
			}
		}
	})
	stop = func() { cancel(); running.Wait() }
	d.t.Cleanup(stop)
	return stop
}

// refresh reads what takes longer.
func (d *driver) refresh() {
	d.t.Helper()
	log := zerolog.Nop()
	lists, err := page.ReadLists(tracer.Filter{}, sockets.Options{NetNS: d.spaces}, &log)
	d.must(err)
	d.must(d.page.Lists(lists))
	in, err := doctor.NewCollector(doctor.Source{NetNS: d.spaces, Log: &log, Root: d.t.TempDir()}).Take()
	d.must(err)
	report, err := doctor.Examine(in, doctor.Choice{})
	d.must(err)
	var lines bytes.Buffer
	d.must(doctor.WriteJSON(&lines, doctor.LanguageOf("en"), report))
	least, most := in.FinTimeout()
	d.must(d.page.Findings(time.Now(), lines.Bytes(), least, most))
	if d.before != nil {
		now, err := audit.Take(d.live.Tracer)
		d.must(err)
		d.must(d.page.Audit(time.Now(), audit.Compare(d.before, now, 2)))
	}
}

// finish takes the last reading, and gives what all of them come to.
func (d *driver) finish() *meter.Report {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	rest, whole, err := d.meter.Finish()
	d.must(err)
	d.must(d.page.Report(rest))
	return whole
}

// A tab is one of a real browser.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu   sync.Mutex
	said []string // by the console: errors and warnings
}

// browser starts Chromium, and opens the page in it.
func browser(t *testing.T, url string) *tab {
	t.Helper()
	const chromium = "/usr/bin/chromium"
	if _, err := os.Stat(chromium); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath(chromium), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.WindowSize(1440, 1000),
		chromedp.WSURLReadTimeout(time.Minute))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	return open(t, ctx, url)
}

// another opens the page in another tab of the same browser.
func (b *tab) another(url string) *tab {
	b.t.Helper()
	return open(b.t, b.ctx, url)
}

func open(t *testing.T, parent context.Context, url string) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(parent)
	t.Cleanup(cancel)
	b := &tab{t: t, ctx: ctx}
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil { // the first action must have no time limit
		t.Fatal(err)
	}
	messages := chromedp.Console(ctx)
	go func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			if m.Type == "error" || m.Type == "warning" || m.IsException() {
				b.mu.Lock()
				b.said = append(b.said, m.String())
				b.mu.Unlock()
			}
		}
	}()
	b.do(chromedp.Navigate(url))
	return b
}

// patience is how long an action may take on a machine that has other things to do.
const patience = 30 * time.Second

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// eval gives the value of a JavaScript expression.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// run runs a statement.
func (b *tab) run(statement string) { b.t.Helper(); eval[bool](b, statement+";true") }

// text is that of the first element that a selector finds.
func (b *tab) text(selector string) string {
	b.t.Helper()
	return eval[string](b, fmt.Sprintf("document.querySelector(%q)?.textContent ?? ''", selector))
}

// await waits until a JavaScript expression is true.
func (b *tab) await(condition string) {
	b.t.Helper()
	for until := time.Now().Add(30 * time.Second); !eval[bool](b, "!!("+condition+")"); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(until) {
			b.t.Fatalf("not within 30 s: %s; the page shows\n%.3000s\nconsole: %v", condition, eval[string](b, "document.body.innerText"), b.complaints())
		}
	}
}

func (b *tab) complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.said)
}

// quiet fails the test if the console has said anything.
func (b *tab) quiet() {
	b.t.Helper()
	if said := b.complaints(); len(said) > 0 {
		b.t.Errorf("the console: %s", strings.Join(said, "\n"))
	}
}

// media emulates a screen of a size, light or dark.
func (b *tab) media(width, height int64, scheme string) {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(width, height))
	features := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features}); err != nil {
		b.t.Fatal(err)
	}
}
