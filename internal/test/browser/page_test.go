// Package browser tests the page in a real Chromium, with what a real tracer sees.
package browser

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"finwait/internal/load"
	"finwait/internal/sandbox"
	"finwait/internal/text"
	"finwait/tracer"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/google/go-cmp/cmp"
)

// traffic makes connections in a namespace, of which most end in TIME_WAIT, and some that are refused or reset.
func traffic(t *testing.T, ns *sandbox.NS, n int) {
	t.Helper()
	for _, closer := range []load.Closer{load.Client, load.Server, load.Reset} {
		if _, err := load.Run(t.Context(), load.Config{Count: n, Closer: closer, NetNS: ns.Path()}, nil); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		_ = ns.Socket(sandbox.Families[0]).TryConnect(sandbox.At(sandbox.Families[0], 9))
	}
}

// The numbers on the page are those of the meter.
func TestNumbers(t *testing.T) {
	ns := sandbox.New(t)
	d := drive(t, tracer.SplitPort, ns)
	b := browser(t, d.url)
	pair := ns.Pair(sandbox.Families[0])
	for range 3 { // what the page shows is the sum of several readings
		traffic(t, ns, 15)
		d.tick()
	}
	left := ns.Pair(sandbox.Families[0])
	left.Client.Close() // the server is in CLOSE_WAIT
	d.refresh()
	whole := d.finish()
	if whole.Lost.Total() > 0 {
		t.Logf("lost: %+v", whole.Lost)
	}
	b.await(fmt.Sprintf("document.documentElement.dataset.drawn == %d", d.last()))

	labels := eval[[]string](b, "[...document.querySelectorAll('#figure [role=button]')].map(e => e.getAttribute('aria-label'))")
	for _, s := range tracer.States() {
		if s == tracer.Closed || s == tracer.NewSynRecv {
			continue
		}
		want := fmt.Sprintf("%v %d", s, whole.Totals.Live[s])
		if !has(labels, want) {
			t.Errorf("no box says %q: %q", want, labels)
		}
	}
	beside := b.text("#beside")
	for _, e := range whole.Edges() {
		drawn := fmt.Sprintf("%v to %v: ", e.From, e.To)
		said := false
		for _, l := range labels {
			said = said || strings.HasPrefix(l, drawn) && strings.HasSuffix(l, fmt.Sprintf(", %d in all", e.Count))
		}
		if !said && !strings.Contains(beside, fmt.Sprintf("%v → %v %d", e.From, e.To, e.Count)) {
			t.Errorf("%v -> %v %d is not shown: %q %q", e.From, e.To, e.Count, labels, beside)
		}
	}
	rows := func(section string) map[string]string {
		all := make(map[string]string)
		for _, row := range eval[[][]string](b, "[...document.querySelectorAll('"+section+" tbody tr')].map(r => [...r.cells].map(c => c.textContent))") {
			all[strings.TrimSpace(strings.Join(row[:len(row)-1], " "))] = row[len(row)-1]
		}
		return all
	}
	want := make(map[string]string)
	for _, e := range whole.Totals.Endings() {
		reason := e.Reason.String()
		if reason == "" {
			reason = "-"
		}
		want[strings.TrimSpace(fmt.Sprintf("%s %v %v", reason, e.Detail, e.State))] = fmt.Sprint(e.Count)
	}
	if diff := cmp.Diff(want, rows("#ends")); diff != "" {
		t.Errorf("ends: %s", diff)
	}
	spent := map[string]*tracer.Durations{
		"handshake of clients": &whole.Totals.Handshakes,
		"session of clients":   &whole.Totals.Sessions[tracer.RoleClient],
		"session of servers":   &whole.Totals.Sessions[tracer.RoleServer],
	}
	for _, s := range tracer.States() {
		if of := &whole.Totals.Durations[s]; of.Count() > 0 && s != tracer.Listen {
			spent[s.String()] = of
		}
	}
	for name, of := range spent {
		cells := []string{name, fmt.Sprint(of.Count())}
		for _, q := range []float64{0.5, 0.9, 0.99} {
			v, _ := of.Quantile(q)
			cells = append(cells, spelled(v))
		}
		got := eval[[]string](b, fmt.Sprintf("[...document.querySelectorAll('#spent tbody tr')].map(r => [...r.cells].map(c => c.textContent)).find(r => r[0] == %q) ?? []", name))
		if len(got) == 0 || cmp.Diff(cells, got[:5]) != "" {
			t.Errorf("%v: %q, want %q", name, got, cells)
		}
	}
	first := make(map[string]string)
	for _, role := range []tracer.Role{tracer.RoleClient, tracer.RoleServer} {
		of := &whole.Totals.Roles[role]
		if of.ActiveCloses()+of.PassiveCloses() > 0 {
			first[fmt.Sprint(role, " ", of.ActiveCloses())] = fmt.Sprint(of.PassiveCloses())
		}
	}
	if diff := cmp.Diff(first, rows("#first-fins")); len(first) != 2 || diff != "" {
		t.Errorf("first FINs %v: %s", first, diff)
	}
	port := fmt.Sprint(pair.Listener.Local.Port())
	if lists := b.text("#lists"); !strings.Contains(lists, port) || !strings.Contains(lists, "TIME_WAIT") {
		t.Errorf("the lists lack port %s: %s", port, lists)
	}
	if way := eval[string](b, "document.documentElement.dataset.feed"); way != "shared" {
		t.Errorf("events come by %q", way)
	}
	b.quiet()
}

// spelled writes a duration as the page does.
func spelled(d time.Duration) string {
	if d < time.Millisecond {
		return strings.Replace(text.Rough(d), "us", " µs", 1)
	}
	return strings.NewReplacer("ms", " ms", "s", " s").Replace(text.Rough(d))
}

func has(all []string, prefix string) bool {
	for _, s := range all {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return false
}

// last is the number of the last event.
func (d *driver) last() int {
	d.t.Helper()
	all := history(d)
	return int(all[len(all)-1]["n"].(float64))
}

// Ten tabs have one stream together, and another question is still answered.
func TestTenTabs(t *testing.T) {
	d := drive(t, tracer.SplitNone, sandbox.New(t))
	d.ticks(200 * time.Millisecond)
	tabs := []*tab{browser(t, d.url)}
	for len(tabs) < 10 {
		tabs = append(tabs, tabs[0].another(d.url))
	}
	for _, b := range tabs {
		b.await("document.querySelector('#link').textContent.includes('live')")
	}
	if n := d.most.Load(); n != 1 {
		t.Errorf("%d streams were open for ten tabs", n)
	}
	if kind := eval[string](tabs[9], "fetch('history').then(r => r.json()).then(all => all[0].event)"); kind != "hello" {
		t.Errorf("another question is answered by %q", kind)
	}
	for _, b := range tabs {
		b.quiet()
	}
}

// Without a shared worker the page asks.
func TestPolling(t *testing.T) {
	d := drive(t, tracer.SplitNone, sandbox.New(t))
	d.ticks(200 * time.Millisecond)
	b := browser(t, "about:blank")
	if _, err := chromedp.Call(b.ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: "delete window.SharedWorker"}); err != nil {
		t.Fatal(err)
	}
	b.do(chromedp.Navigate(d.url))
	b.await("document.documentElement.dataset.feed == 'polling' && document.querySelector('#link').textContent.includes('live')")
	first := eval[string](b, "document.querySelector('#moment').max")
	b.await("document.querySelector('#moment').max > " + first)
	if n := d.most.Load(); n != 0 {
		t.Errorf("%d streams", n)
	}
	b.quiet()
}

// A tab that sleeps has everything when it wakes, and a browser that lost its stream comes back to it.
func TestSleep(t *testing.T) {
	d := drive(t, tracer.SplitNone, sandbox.New(t))
	d.tick()
	b := browser(t, d.url)
	b.await("document.querySelector('#link').textContent.includes('live')")
	state := func(s page.SetWebLifecycleStateState) {
		if _, err := chromedp.Call(b.ctx, page.SetWebLifecycleState, page.SetWebLifecycleStateParams{State: s}); err != nil {
			t.Fatal(err)
		}
	}
	state("frozen")
	for range 300 {
		d.tick()
	}
	state("active")
	b.await("document.documentElement.dataset.last == 301") // a tab that is hidden does not draw
	if said := b.text("#link"); strings.Contains(said, "missed") {
		t.Error(said)
	}
	b.quiet()
}

// While the page is paused it shows one moment, and loses nothing; one can step back and on, by keys, too.
func TestPauseAndStepBack(t *testing.T) {
	ns := sandbox.New(t)
	d := drive(t, tracer.SplitNone, ns)
	established := func(n int) string {
		return fmt.Sprintf("[...document.querySelectorAll('#figure [role=button]')].some(e => e.getAttribute('aria-label').startsWith('ESTABLISHED %d '))", n)
	}
	d.tick()
	for range 3 {
		ns.Pair(sandbox.Families[0])
		d.tick()
	}
	b := browser(t, d.url) // a new tab has the history
	b.await(established(6))
	b.run("document.querySelector('#pause').click()")
	b.await("document.querySelector('#pause').getAttribute('aria-pressed') == 'true'")
	ns.Pair(sandbox.Families[0])
	d.tick()
	b.run("document.querySelector('#back').click()")
	b.await(established(4))
	b.run("document.querySelector('#moment').focus()")
	b.do(chromedp.KeyEvent(kb.ArrowLeft)) // arrow left
	b.await(established(2))
	b.run("document.querySelector('#forth').click()")
	b.await(established(4))
	if last := eval[string](b, "document.querySelector('#moment').max"); last != "3" {
		t.Errorf("while it is paused, the last moment is %s", last)
	}
	if said := b.text("#link"); !strings.Contains(said, "paused") {
		t.Error(said)
	}
	b.run("document.querySelector('#pause').click()")
	b.await(established(8))
	b.await("document.querySelector('#moment').max == 4")
	b.quiet()
}

// A click on a state or an edge, or the Enter key, filters what is below.
func TestPick(t *testing.T) {
	ns := sandbox.New(t)
	d := drive(t, tracer.SplitNone, ns)
	traffic(t, ns, 5)
	d.refresh()
	d.finish()
	b := browser(t, d.url)
	b.await("document.querySelectorAll('#ends tbody tr').length > 2")
	states := "[...new Set([...document.querySelectorAll('#ends tbody tr')].map(r => r.cells[2].textContent))].join()"
	state := func(name string) string {
		return fmt.Sprintf("document.querySelector('#figure .state[aria-label^=%s]')", name)
	}
	b.run(state("ESTABLISHED") + ".dispatchEvent(new MouseEvent('click'))")
	b.await(states + " == 'ESTABLISHED'")
	if h := b.text("#h-length"); h != "Length of ESTABLISHED" {
		t.Error(h)
	}
	if pressed := eval[string](b, state("ESTABLISHED")+".getAttribute('aria-pressed')"); pressed != "true" {
		t.Errorf("pressed: %s", pressed)
	}
	b.run(state("ESTABLISHED") + ".dispatchEvent(new MouseEvent('click'))")
	b.await(states + " != 'ESTABLISHED'")
	b.run("document.querySelector('#figure [aria-label^=\"SYN_SENT to CLOSED\"]')" + ".focus()")
	b.do(chromedp.KeyEvent(kb.Enter))
	b.await(states + " == 'SYN_SENT'")
	if rows := b.text("#ends tbody"); !strings.Contains(rows, "refused") {
		t.Error(rows)
	}
	b.run(state("TIME_WAIT") + ".dispatchEvent(new MouseEvent('click'))")
	b.await("document.querySelector('#lists').textContent.includes('in TIME_WAIT')")
	b.quiet()
}

// The name of a process stays text.
func TestHostileNames(t *testing.T) {
	ns := sandbox.New(t)
	d := drive(t, tracer.SplitComm, ns)
	const name = "<img src=x id=z>" // the kernel keeps 15 bytes
	program := filepath.Join(t.TempDir(), name)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, content, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), listenEnv+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	ns.Start(cmd)
	t.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	d.refresh()
	d.finish()
	b := browser(t, d.url)
	for _, section := range []string{"#lists", "#groups"} {
		b.await(fmt.Sprintf("document.querySelector(%q).textContent.includes(%q)", section, name[:15]))
	}
	if n := eval[int](b, "document.querySelectorAll('img, #z').length"); n != 0 {
		t.Errorf("%d elements were made of a name", n)
	}
	b.quiet()
}

// axe-core finds nothing, at every width, light and dark, with everything open.
func TestAccessible(t *testing.T) {
	script, err := os.ReadFile("../../../web/node_modules/axe-core/axe.min.js")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	ns := sandbox.New(t)
	ns.Sysctl("ip_local_port_range", "40000 40011") // so that there is a finding
	d := drive(t, tracer.SplitPort, ns)
	ns.Pair(sandbox.Families[0])
	l := ns.Socket(sandbox.Families[0]).Bind(5000).Listen()
	for range 10 {
		ns.Socket(sandbox.Families[0]).Connect(l.Local)
		l.Accept().Close()
	}
	d.tick()
	d.refresh()
	d.finish()
	b := browser(t, d.url)
	b.await("document.querySelector('#lists table') && document.querySelector('#findings article')")
	b.run(string(script))
	for _, c := range []struct {
		width  int64
		scheme string
		before string
	}{
		{1440, "light", ""}, {1440, "dark", ""}, {360, "light", ""}, {360, "dark", ""}, {3840, "light", ""},
		{1024, "light", "document.querySelector('#figure .state[aria-label^=TIME_WAIT]').dispatchEvent(new MouseEvent('click')); document.querySelector('#pause').click()"},
	} {
		b.media(c.width, 900, c.scheme)
		if c.before != "" {
			b.run(c.before)
		}
		b.run("document.querySelectorAll('details').forEach(d => d.open = true)")
		time.Sleep(300 * time.Millisecond) // the page draws what has changed
		violations := eval[[]struct {
			ID, Help string
			Nodes    []struct{ HTML, FailureSummary string }
		}](b, "axe.run(document, {resultTypes: ['violations']}).then(r => r.violations.map(v => ({ID: v.id, Help: v.help, Nodes: v.nodes.map(n => ({HTML: n.html, FailureSummary: n.failureSummary}))})))")
		for _, v := range violations {
			t.Errorf("%d %s: %s: %s", c.width, c.scheme, v.ID, v.Help)
			for _, n := range v.Nodes[:min(3, len(v.Nodes))] {
				t.Logf("  %s\n  %s", n.HTML, n.FailureSummary)
			}
		}
		if over := eval[int](b, "document.documentElement.scrollWidth - document.documentElement.clientWidth"); over > 0 {
			t.Errorf("%d: the page is %d px wider than the screen", c.width, over)
		}
	}
	b.quiet()
}
