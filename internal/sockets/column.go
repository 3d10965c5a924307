package sockets

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"finwait/internal/sockdiag"
	"finwait/internal/text"
	"finwait/tracer"
)

// A column shows one field of sockets, and orders them by it.
type column struct {
	name    string
	width   int
	goes    int // which one a narrow terminal loses first, second, …; 0: it is shown only if it is asked for
	need    Need
	known   func(*Row) bool // nil: always
	compare func(a, b *Row) int
	cell    func(t *Text, b []byte, r *Row) []byte
}

// columns are all that there are, in the order in which they are shown.
var columns = []column{
	{"netns", 10, 5, 0, nil,
		func(a, b *Row) int { return cmp.Compare(a.NetNS, b.NetNS) },
		func(_ *Text, b []byte, r *Row) []byte { return strconv.AppendUint(b, uint64(r.NetNS), 10) }},
	{"state", 12, never, 0, nil, // NEW_SYN_RECV
		func(a, b *Row) int { return cmp.Compare(a.State, b.State) },
		func(_ *Text, b []byte, r *Row) []byte { return append(b, r.TCPState().String()...) }},
	{"recv-q", 7, 0, 0, queued,
		func(a, b *Row) int { return cmp.Compare(a.RecvQueue, b.RecvQueue) },
		func(_ *Text, b []byte, r *Row) []byte { return strconv.AppendUint(b, uint64(r.RecvQueue), 10) }},
	{"send-q", 7, 0, 0, queued,
		func(a, b *Row) int { return cmp.Compare(a.SendQueue, b.SendQueue) },
		func(_ *Text, b []byte, r *Row) []byte { return strconv.AppendUint(b, uint64(r.SendQueue), 10) }},
	{"local", text.AddrWidth, never, 0, nil,
		func(a, b *Row) int { return a.Local.Compare(b.Local) },
		func(_ *Text, b []byte, r *Row) []byte { return text.AppendEndpoint(b, r.Local, r.Scope) }},
	{"remote", text.AddrWidth, never, 0, nil,
		func(a, b *Row) int { return a.Remote.Compare(b.Remote) },
		func(_ *Text, b []byte, r *Row) []byte { return text.AppendEndpoint(b, r.Remote, r.Scope) }},
	{"pid", 7, 9, NeedOwners, owned, // PID_MAX_LIMIT is 4194304
		func(a, b *Row) int { return cmp.Compare(a.Owner.PID, b.Owner.PID) },
		func(_ *Text, b []byte, r *Row) []byte { return strconv.AppendUint(b, uint64(r.Owner.PID), 10) }},
	{"comm", text.CommWidth, 6, NeedOwners, owned,
		func(a, b *Row) int { return bytes.Compare(a.Owner.Comm.Bytes(), b.Owner.Comm.Bytes()) },
		func(_ *Text, b []byte, r *Row) []byte { return text.AppendName(b, &r.Owner.Comm) }},
	{"fd", 6, 0, NeedOwners, owned,
		func(a, b *Row) int { return cmp.Compare(a.FD, b.FD) },
		func(_ *Text, b []byte, r *Row) []byte { return strconv.AppendUint(b, uint64(r.FD), 10) }},
	{"uid", 6, 2, 0,
		func(r *Row) bool { return r.UIDKnown },
		func(a, b *Row) int { return cmp.Compare(a.UID, b.UID) },
		func(_ *Text, b []byte, r *Row) []byte { return strconv.AppendUint(b, uint64(r.UID), 10) }},
	{"role", 8, 0, NeedInfo,
		func(r *Row) bool { return r.Role() != tracer.RoleUnknown },
		func(a, b *Row) int { return cmp.Compare(a.Role(), b.Role()) },
		func(_ *Text, b []byte, r *Row) []byte { return append(b, r.Role().String()...) }},
	{"timer", 10, 4, 0, ticking,
		func(a, b *Row) int { return cmp.Compare(a.TimerLeft, b.TimerLeft) },
		func(_ *Text, b []byte, r *Row) []byte { return append(b, r.Timer.String()...) }},
	{"left", 8, 3, 0, ticking,
		func(a, b *Row) int { return cmp.Compare(a.TimerLeft, b.TimerLeft) },
		func(_ *Text, b []byte, r *Row) []byte { return text.AppendMillis(b, r.TimerLeft) }},
	{"retries", 7, 0, 0,
		func(r *Row) bool { return r.Timer != sockdiag.NoTimer && r.Timer != sockdiag.TimeWait },
		func(a, b *Row) int { return cmp.Compare(a.Retries, b.Retries) },
		func(_ *Text, b []byte, r *Row) []byte { return strconv.AppendUint(b, uint64(r.Retries), 10) }},
	{"age", 8, 8, NeedInfo,
		func(r *Row) bool { _, p := r.Age(); return p != tracer.PrecisionUnknown },
		func(a, b *Row) int { return cmp.Compare(age(a), age(b)) },
		func(_ *Text, b []byte, r *Row) []byte { d, p := r.Age(); return text.AppendAge(b, d, p) }},
	{"idle", 8, 0, NeedInfo,
		func(r *Row) bool { _, known := r.Idle(); return known },
		func(a, b *Row) int { return cmp.Compare(idle(a), idle(b)) },
		func(_ *Text, b []byte, r *Row) []byte { return text.AppendMillis(append(b, '~'), idle(r)) }},
	{"held", 6, 7, NeedInfo,
		func(r *Row) bool { return r.held() != "" },
		func(a, b *Row) int { return cmp.Compare(a.held(), b.held()) },
		func(_ *Text, b []byte, r *Row) []byte { return append(b, r.held()...) }},
	{"netns-name", 16, 0, NeedNames, nil,
		func(a, b *Row) int { return cmp.Compare(a.NetNS, b.NetNS) },
		func(t *Text, b []byte, r *Row) []byte { return text.AppendPrintable(b, cmp.Or(t.names.netNS(r), "-")) }},
	{"name", 24, 0, NeedNames, nil,
		func(a, b *Row) int { return cmp.Compare(a.CgroupID, b.CgroupID) },
		func(t *Text, b []byte, r *Row) []byte {
			c := t.names.cgroup(r.CgroupID)
			return text.AppendPrintable(b, cmp.Or(c.Name(), "-"))
		}},
	{"cgroup", 0, 1, NeedCgroupPaths,
		func(r *Row) bool { return r.CgroupID != 0 },
		func(a, b *Row) int { return cmp.Compare(a.CgroupID, b.CgroupID) },
		func(t *Text, b []byte, r *Row) []byte { return t.appendCgroup(b, r.CgroupID) }},
}

// never goes: it is shown on every terminal.
const never = 100

func queued(r *Row) bool  { _, _, known := r.Queues(); return known }
func owned(r *Row) bool   { return r.Owner.PID != 0 }
func ticking(r *Row) bool { return r.Timer != sockdiag.NoTimer }

func age(r *Row) time.Duration  { d, _ := r.Age(); return d }
func idle(r *Row) time.Duration { d, _ := r.Idle(); return d }

// held says who has the socket: "held" by a process, "queued" for one, or an "orphan".
func (r *Row) held() string {
	if queued, known := r.Queued(); queued && known {
		return "queued"
	}
	switch orphan, known := r.Orphan(); {
	case !known:
		return ""
	case orphan:
		return "orphan"
	}
	return "held"
}

// ColumnNames are what Columns and Order know.
func ColumnNames() []string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.name
	}
	return names
}

func findColumn(name string) (*column, error) {
	for i := range columns {
		if columns[i].name == strings.ReplaceAll(name, "_", "-") {
			return &columns[i], nil
		}
	}
	return nil, fmt.Errorf("no column is called %q; there are %s", name, strings.Join(ColumnNames(), ", "))
}

// Columns are what Text shows of sockets.
type Columns struct {
	list []*column
	fits bool // to the terminal
}

// ParseColumns finds columns by name; all are all of them. With no name it chooses the usual
// ones, of which a terminal loses those for which it is too narrow.
func ParseColumns(names []string) (Columns, error) {
	c := Columns{fits: len(names) == 0}
	for i := range columns {
		if c.fits && columns[i].goes > 0 || len(names) == 1 && names[0] == "all" {
			c.list = append(c.list, &columns[i])
		}
	}
	if len(c.list) > 0 {
		return c, nil
	}
	for _, name := range names {
		one, err := findColumn(name)
		if err != nil {
			return c, err
		}
		c.list = append(c.list, one)
	}
	return c, nil
}

// fit leaves out what there is no room for in a terminal that wide; 0: there is room for all.
func (c *Columns) fit(wide int) {
	for c.fits && wide > 0 {
		need, first := -1, 0
		for i, one := range c.list {
			need += max(one.width, len(one.name)) + 1
			if one.goes < c.list[first].goes {
				first = i
			}
		}
		if need <= wide || c.list[first].goes == never {
			return
		}
		c.list = slices.Delete(c.list, first, first+1)
	}
}

// Need is what the columns show beside what is always read.
func (c *Columns) Need() (need Need) {
	for _, one := range c.list {
		need |= one.need
	}
	return need
}

// Order compares by a column, backwards if the name begins with "-"; "" gives nil. Sockets of which
// it is not known come last, whichever way the others are sorted.
func Order(name string) (compare func(a, b *Row) int, need Need, err error) {
	if name == "" {
		return nil, 0, nil
	}
	name, backwards := strings.CutPrefix(name, "-")
	c, err := findColumn(name)
	if err != nil {
		return nil, 0, err
	}
	return func(a, b *Row) int {
		if c.known != nil {
			switch ka, kb := c.known(a), c.known(b); {
			case !ka && !kb:
				return 0
			case !ka:
				return 1
			case !kb:
				return -1
			}
		}
		if backwards {
			return c.compare(b, a)
		}
		return c.compare(a, b)
	}, c.need &^ NeedCgroupPaths, nil
}
