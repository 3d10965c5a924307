package text

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"finwait/tracer"
)

// Widths of columns that several tables have. A cell that is wider moves what follows it in its
// line, until a shorter cell makes up for that.
const (
	PIDWidth   = 8
	CommWidth  = 15
	StateWidth = 11 // all but NEW_SYN_RECV

	AddrWidth = len("255.255.255.255:65535")
	AddrLeast = len("127.0.0.1:65535")
	AddrMost  = len("[2001:db8:1111:2222:3333:4444:5555:6666]:65535")
)

// A Cut says how a cell becomes shorter that has no room on a terminal. "…" stands for what is
// left out.
type Cut string

// The ways to cut.
const (
	Whole  Cut = ""   // not at all: a number, a state
	Middle Cut = "…"  // both ends stay: an address, a path, a name
	Words  Cut = " "  // the first words stay
	Items  Cut = ", " // the first items stay
)

// Never is when a column goes that every terminal shows.
const Never = math.MaxInt

// A Column shows one field of R.
type Column[R any] struct {
	Name  string // on the command line; in capitals it is the title
	About string // what it shows
	Width int    // what it usually has
	Least int    // to which a narrow terminal reduces it; 0: Width
	Most  int    // to which a wide terminal widens it; 0: Width
	Goes  int    // which one a narrow terminal loses first, second, …; 0: it is shown only if it is asked for
	Right bool   // aligned to the right
	Cut   Cut
	Blank bool // there may be nothing to show; otherwise that is not known: "-"

	// Cell appends the text to b, which is empty.
	Cell func(b []byte, r R) []byte
	// Colour gives an escape code, or ""; nil: there is none.
	Colour func(r R) string
}

func (c *Column[R]) title() string { return strings.ToUpper(c.Name) }

// usual, least and most are the widths, which the title has room in.
func (c *Column[R]) usual() int { return max(c.Width, utf8.RuneCountInString(c.Name)) }

func (c *Column[R]) least() int {
	if c.Least == 0 {
		return c.usual()
	}
	return max(c.Least, utf8.RuneCountInString(c.Name))
}

func (c *Column[R]) most() int { return max(c.Most, c.usual()) }

// Columns are those of a table, in their order.
type Columns[R any] struct {
	list []Column[R]
	fit  bool // a terminal that is too narrow loses some
}

// Choose finds columns by name; "all" is all of them. Without a name it chooses the usual ones, of
// which a terminal loses those for which it is too narrow.
func Choose[R any](all []Column[R], names []string) (Columns[R], error) {
	c := Columns[R]{fit: len(names) == 0}
	for i := range all {
		if c.fit && all[i].Goes > 0 || len(names) == 1 && names[0] == "all" {
			c.list = append(c.list, all[i])
		}
	}
	if len(c.list) > 0 {
		return c, nil
	}
	for _, name := range names {
		i, err := Find(all, name)
		if err != nil {
			return c, err
		}
		c.list = append(c.list, all[i])
	}
	return c, nil
}

// Usual are those that are shown if nobody asks for others.
func Usual[R any](all []Column[R]) Columns[R] {
	c, _ := Choose(all, nil) // there is no name that could be wrong
	return c
}

// Remove takes a column away.
func (c *Columns[R]) Remove(name string) {
	c.list = slices.DeleteFunc(slices.Clone(c.list), func(c Column[R]) bool { return c.Name == name })
}

// Find gives the index of a column.
func Find[R any](all []Column[R], name string) (int, error) {
	i := slices.IndexFunc(all, func(c Column[R]) bool { return c.Name == strings.ReplaceAll(name, "_", "-") })
	if i < 0 {
		return 0, fmt.Errorf("no column is called %q; there are %s", name, strings.Join(Names(all), ", "))
	}
	return i, nil
}

// Names are those of columns.
func Names[R any](columns []Column[R]) (names []string) {
	for i := range columns {
		names = append(names, columns[i].Name)
	}
	return names
}

// Names are those of the columns that were chosen.
func (c *Columns[R]) Names() []string { return Names(c.list) }

// Keep makes every terminal show a column.
func (c *Columns[R]) Keep(name string) {
	for i := range c.list {
		if c.list[i].Name == name {
			c.list[i].Goes = Never
		}
	}
}

// Going lists the titles of the columns that a terminal loses, the first one first.
func Going[R any](columns []Column[R]) string {
	going := slices.DeleteFunc(slices.Clone(columns), func(c Column[R]) bool { return c.Goes == 0 || c.Goes == Never })
	slices.SortStableFunc(going, func(a, b Column[R]) int { return a.Goes - b.Goes })
	var titles []string
	for i := range going {
		titles = append(titles, going[i].title())
	}
	return strings.Join(titles, ", ")
}

// Explain lists columns, with what each shows.
func Explain[R any](to io.Writer, columns []Column[R]) error {
	wide := Prose(to)
	indent := 0
	for i := range columns {
		indent = max(indent, len(columns[i].Name)+2)
	}
	var usual []string
	w := bufio.NewWriter(to)
	for i := range columns {
		c := &columns[i]
		if c.Goes > 0 {
			usual = append(usual, c.Name)
		}
		Indent(w, c.Name, indent, wide, c.About)
	}
	w.WriteByte('\n')
	Wrap(w, "Without --columns there are "+strings.Join(usual, ", ")+".", wide)
	return w.Flush()
}

// A Form says how tables are written.
type Form struct {
	Colour bool       // with ANSI colours
	NoHead bool       // without a line of titles
	Width  func() int // how many columns the terminal has; nil, or 0: lines may be of any length
}

// A Table writes a line for each R. On a terminal it chooses the columns and their widths, and cuts
// what a line has no room for.
type Table[R any] struct {
	line    *Line
	form    Form
	columns Columns[R]

	begun  bool
	placed bool
	wide   int  // columns of the terminal
	tight  bool // lines are to fit
	shown  []place[R]

	buf   []byte // the texts of the cells
	cells []cell
}

// A place is where a line has a column.
type place[R any] struct {
	*Column[R]
	start, width int
	gap          int // before it, at least
}

// A cell is a part of Table.buf.
type cell struct {
	start, end int
	all, runes int    // of the text, and of what is shown
	stop       int    // in buf, where the first words or items end that are shown; -1: all are
	latest     int    // where it begins at the latest
	colour     string // escape code
}

// NewTable writes to w.
func NewTable[R any](w *bufio.Writer, form Form, columns Columns[R]) *Table[R] {
	columns.list = slices.Clone(columns.list) // Widen changes them
	return &Table[R]{line: NewLine(w, form.Colour), form: form, columns: columns}
}

// Widen makes a column wider for names that are so long. Where they have no room they are cut.
func (t *Table[R]) Widen(name string, width int) {
	for i := range t.columns.list {
		if c := &t.columns.list[i]; c.Name == name && width > c.Width {
			c.Width, t.placed = width, false
		}
	}
}

// Fit lays the columns out for the terminal as it is now, and says whether they stand elsewhere
// than before.
func (t *Table[R]) Fit() (changed bool) {
	wide := 0
	if t.form.Width != nil {
		wide = t.form.Width()
	}
	if t.placed && wide == t.wide {
		return false
	}
	before := t.shown
	t.wide = wide
	t.place(t.fitting())
	t.placed = true
	return !slices.EqualFunc(t.shown, before, func(a, b place[R]) bool { return a.Name == b.Name && a.start == b.start })
}

// fitting are the columns that there is room for.
func (t *Table[R]) fitting() []*Column[R] {
	var list []*Column[R]
	for i := range t.columns.list {
		list = append(list, &t.columns.list[i])
	}
	for t.columns.fit && t.wide > 0 && sum(list, (*Column[R]).least) > t.wide {
		first := slices.MinFunc(list, func(a, b *Column[R]) int { return a.Goes - b.Goes }).Goes
		if first == Never {
			break
		}
		list = slices.DeleteFunc(list, func(c *Column[R]) bool { return c.Goes == first })
	}
	return list
}

// sum is how long a line is with columns of some width.
func sum[R any](list []*Column[R], width func(*Column[R]) int) (n int) {
	for i, c := range list {
		n += width(c) + gap(list, i)
	}
	return n
}

// gap is what there is between a column and the one before, at least. A number and a word need more.
func gap[R any](list []*Column[R], i int) int {
	switch {
	case i == 0:
		return 0
	case list[i-1].Right && !list[i].Right:
		return 2
	}
	return 1
}

// place gives each column its place. Room is first used for the usual widths, then for wider ones.
func (t *Table[R]) place(list []*Column[R]) {
	widths := make([]int, len(list))
	for i, c := range list {
		widths[i] = c.usual()
	}
	least := sum(list, (*Column[R]).least)
	if t.tight = t.wide > 0 && (t.columns.fit || least <= t.wide); t.tight {
		for i, c := range list {
			widths[i] = c.least()
		}
		room := t.wide - least
		for _, upTo := range []func(*Column[R]) int{(*Column[R]).usual, (*Column[R]).most} {
			for grown := true; grown && room > 0; {
				grown = false
				for i, c := range list {
					if widths[i] < upTo(c) && room > 0 {
						widths[i]++
						room--
						grown = true
					}
				}
			}
		}
	}
	t.shown = nil
	start := 0
	for i, c := range list {
		start += gap(list, i)
		t.shown = append(t.shown, place[R]{c, start, widths[i], gap(list, i)})
		start += widths[i]
	}
	if last := &t.shown[len(list)-1]; t.tight && !last.Right { // it has what is left
		last.width = max(last.width, t.wide-last.start)
	}
}

// Row writes a line, below a line of titles if the columns stand elsewhere than before.
func (t *Table[R]) Row(r R) error {
	if t.Fit() || !t.begun {
		if err := t.Head(); err != nil {
			return err
		}
	}
	t.buf, t.cells = t.buf[:0], t.cells[:0]
	for i := range t.shown {
		p := &t.shown[i]
		start := len(t.buf)
		t.buf = append(t.buf, p.Cell(t.buf[start:], r)...)
		colour := ""
		switch {
		case len(t.buf) == start && !p.Blank:
			t.buf, colour = append(t.buf, '-'), Dim
		case p.Colour != nil:
			colour = p.Colour(r)
		}
		t.cell(start, colour)
	}
	return t.write()
}

// cell adds a cell, whose text begins at start.
func (t *Table[R]) cell(start int, colour string) {
	n := utf8.RuneCount(t.buf[start:])
	t.cells = append(t.cells, cell{start: start, end: len(t.buf), all: n, runes: n, stop: -1, colour: colour})
}

// Head writes the line of titles, if there is to be one.
func (t *Table[R]) Head() error {
	t.begun = true
	if t.form.NoHead {
		return nil
	}
	t.Fit()
	t.buf, t.cells = t.buf[:0], t.cells[:0]
	for i := range t.shown {
		start := len(t.buf)
		t.buf = append(t.buf, t.shown[i].title()...)
		t.cell(start, Dim)
	}
	return t.write()
}

// write writes the cells.
func (t *Table[R]) write() error {
	if t.tight {
		t.shorten()
		t.limit()
	}
	l := t.line
	l.Begin()
	pos := 0
	for i := range t.cells {
		c := &t.cells[i]
		if c.runes == 0 {
			continue
		}
		if n := t.at(i, pos) - pos; n > 0 {
			l.Pad(n)
			pos += n
		}
		coloured := l.colour && c.colour != ""
		if coloured {
			l.line = append(l.line, c.colour...)
		}
		l.line = t.append(l.line, i)
		if coloured {
			l.line = append(l.line, Plain...)
		}
		pos += c.runes
	}
	return l.End()
}

// append appends the text of a cell, as far as it is shown.
func (t *Table[R]) append(b []byte, i int) []byte {
	c := &t.cells[i]
	whole := t.buf[c.start:c.end]
	switch {
	case c.stop == c.start:
		return append(b, "…"...)
	case c.stop >= 0:
		return append(append(append(b, t.buf[c.start:c.stop]...), t.shown[i].Cut...), "…"...)
	case c.runes < c.all: // in the middle: of an address the port is in the longer end
		tail := (c.runes - 1) * 3 / 5
		b = append(append(b, whole[:offset(whole, c.runes-1-tail)]...), "…"...)
		return append(b, whole[offset(whole, c.all-tail):]...)
	}
	return append(b, whole...)
}

// offset is how many bytes the first n runes have.
func offset(b []byte, n int) (at int) {
	for ; n > 0; n-- {
		_, size := utf8.DecodeRune(b[at:])
		at += size
	}
	return at
}

// at is where a cell begins, if the one before ends at pos: at its place, or earlier, if otherwise
// the line had no room for all.
func (t *Table[R]) at(i, pos int) int {
	p := &t.shown[i]
	at := p.start
	if p.Right {
		at += p.width - t.cells[i].runes
	}
	if t.tight {
		at = min(at, t.cells[i].latest)
	}
	if pos > 0 {
		return max(at, pos+p.gap)
	}
	return max(at, 0)
}

// length is how long the line is at least.
func (t *Table[R]) length() (n int) {
	for i := range t.cells {
		if t.cells[i].runes == 0 {
			continue
		}
		if n > 0 {
			n += t.shown[i].gap
		}
		n += t.cells[i].runes
	}
	return n
}

// limit says of each cell where it begins at the latest, if the line is to fit.
func (t *Table[R]) limit() {
	latest := t.wide
	if t.length() > t.wide {
		latest = Never
	}
	for i := len(t.cells) - 1; i >= 0; i-- {
		if c := &t.cells[i]; c.runes > 0 {
			latest -= c.runes
			c.latest = latest
			latest -= t.shown[i].gap
		}
	}
}

// shorten cuts names and addresses that are longer than any of IPv4, and items, so that they do not
// move other columns. If a line has no room even with one space between cells, it cuts words, then
// addresses and names, both as far as their column can be reduced.
func (t *Table[R]) shorten() {
	for i := range t.cells {
		switch p := &t.shown[i]; {
		case p.Cut == Middle && t.cells[i].runes > AddrWidth:
			t.cells[i].runes = min(t.cells[i].runes, p.width)
		case p.Cut == Items:
			t.keepFirst(i, p.width)
		}
	}
	t.shortenEnd()
	t.shortenMiddle()
}

// shortenMiddle takes runes from the longest addresses and names, until the line fits.
func (t *Table[R]) shortenMiddle() {
	for t.length() > t.wide {
		longest := -1
		for i := range t.cells {
			if p := &t.shown[i]; p.Cut == Middle && t.cells[i].runes > p.least() && (longest < 0 || t.cells[i].runes > t.cells[longest].runes) {
				longest = i
			}
		}
		if longest < 0 {
			return
		}
		t.cells[longest].runes--
	}
}

// shortenEnd keeps the first words or items.
func (t *Table[R]) shortenEnd() {
	for i := range t.cells {
		p := &t.shown[i]
		if p.Cut != Words && p.Cut != Items {
			continue
		}
		if over := t.length() - t.wide; over > 0 {
			t.keepFirst(i, max(t.cells[i].runes-over, p.least()))
		}
	}
}

// keepFirst keeps as many words or items of a cell as there is room for; of words at least the first.
func (t *Table[R]) keepFirst(i, room int) {
	c, cut := &t.cells[i], string(t.shown[i].Cut)
	if c.runes <= room {
		return
	}
	whole := t.buf[c.start:c.end]
	best, runes := 0, 1 // "…"
	for at := 0; ; at += len(cut) {
		next := bytes.Index(whole[at:], []byte(cut))
		if next < 0 {
			break
		}
		at += next
		n := utf8.RuneCount(whole[:at]) + len(cut) + 1
		if n > room && (best > 0 || cut == string(Items)) {
			break
		}
		best, runes = at, n
	}
	if best == 0 && cut == string(Words) || runes >= c.runes {
		return // one word
	}
	c.stop, c.runes = c.start+best, runes
}

// Endpoint is the column of an address and a port.
func Endpoint[R any](name, about string, goes int, of func(R) (netip.AddrPort, tracer.Scope)) Column[R] {
	return Column[R]{
		Name: name, About: about, Width: AddrWidth, Least: AddrLeast, Most: AddrMost, Goes: goes, Cut: Middle,
		Cell: func(b []byte, r R) []byte {
			a, scope := of(r)
			return AppendEndpoint(b, a, scope)
		},
	}
}
