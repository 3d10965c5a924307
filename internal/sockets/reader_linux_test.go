package sockets

import (
	"bytes"
	"errors"
	"maps"
	"strings"
	"syscall"
	"testing"

	"finwait/internal/sandbox"
	"finwait/internal/test/testnet"
	"finwait/tracer"

	"github.com/rs/zerolog"
)

// What can be read is read; what cannot is named, once.
func TestReaderNamesWhatItCannotEnter(t *testing.T) {
	n := sandbox.New(t)
	made := testnet.Fill(t, n, testnet.Loopback()[0])
	sel, err := Select(tracer.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	log := zerolog.New(zerolog.ConsoleWriter{Out: &errs, NoColor: true})
	read := func(paths map[uint32]string) (sockets int, err error) {
		errs.Reset()
		r := &Reader{sel: sel, log: &log, paths: paths}
		err = r.Each(func(*Row) error { sockets++; return nil })
		return sockets, err
	}
	const wrong = "/proc/self/ns/mnt"

	want := 0
	for count := range maps.Values(made) {
		want += count
	}
	if got, err := read(map[uint32]string{1: wrong, 2: wrong, 3: wrong, 4: wrong, 5: wrong, 6: wrong, n.Inode: n.Path()}); got != want || err != nil {
		t.Errorf("got %d sockets and %v, want %d", got, err, want)
	}
	if s := errs.String(); strings.Count(s, "\n") != 1 || !strings.Contains(s, "cannot be read: 6") || !strings.Contains(s, "netns=[1,2,3,4,5]") || !strings.Contains(s, wrong) {
		t.Errorf("said %q", s)
	}
	if got, err := read(map[uint32]string{1: wrong}); got != 0 || !errors.Is(err, syscall.EINVAL) {
		t.Errorf("got %d sockets and %v, want EINVAL", got, err)
	}
	// One that was named is not taken for the next one with its number.
	errs.Reset()
	named := &Reader{sel: sel, log: &log, paths: map[uint32]string{n.Inode: n.Path()}, cookies: map[uint32]uint64{n.Inode: n.Cookie + 1}}
	listed := errors.New("listed")
	if err := named.Each(func(*Row) error { return listed }); err == nil || errors.Is(err, listed) {
		t.Errorf("another namespace: %v", err)
	}
	// One that has gone since it was found is nobody's concern.
	if got, err := read(map[uint32]string{2: "/proc/0/ns/net", n.Inode: n.Path()}); got != want || err != nil || errs.Len() > 0 {
		t.Errorf("got %d sockets, %v and %q, want %d", got, err, errs.String(), want)
	}
}

// Namespaces with more sockets than are read ahead are all shown, and none holds up the end when
// nobody wants more.
func TestReaderReadsSideBySide(t *testing.T) {
	const sockets = rowsAtOnce*ahead + 2*rowsAtOnce
	n := sandbox.New(t)
	testnet.TimeWaits(t, n, sockets)
	sel, err := Select(tracer.Filter{States: []tracer.State{tracer.TimeWait}})
	if err != nil {
		t.Fatal(err)
	}
	log := zerolog.Nop()
	// One namespace in the place of three.
	r := &Reader{sel: sel, log: &log, paths: map[uint32]string{1: n.Path(), 2: n.Path(), 3: n.Path()}}
	seen := make(map[uint64]int)
	rows := 0
	if err := r.Each(func(row *Row) error {
		if seen[row.Cookie]++; seen[row.Cookie] != rows/sockets+1 {
			t.Fatalf("socket %d of %d, and there are %d in each namespace: shown %d times", rows, 3*sockets, sockets, seen[row.Cookie])
		}
		rows++
		return nil
	}); err != nil || rows != 3*sockets {
		t.Errorf("%d rows, %v; want %d", rows, err, 3*sockets)
	}
	enough := errors.New("enough")
	if err := r.Each(func(*Row) error { return enough }); err != enough {
		t.Errorf("ended with %v", err)
	}
}
