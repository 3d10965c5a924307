package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"time"
	"unicode/utf8"

	"finwait/internal/sockets"
	"finwait/internal/text"
	"finwait/tracer"

	"github.com/rs/zerolog"
)

// shortestWatch is that of watch(1).
const shortestWatch = 100 * time.Millisecond

// keepWatching reads and shows again and again, until ctx is done or there were enough readings.
// The programs are attached all the while: they know since when sockets are in their states.
func (o *lsOptions) keepWatching(ctx context.Context, q *lsQuery, to *screen) error {
	tr, err := tracer.New(tracer.Config{LiveSockets: true, TotalsOnly: true, Logger: *q.log})
	if err != nil {
		q.log.Warn().Err(err).Msg("ages are those that ls knows without --watch: the programs cannot be attached")
	} else {
		defer tr.Close()
		q.live = tr.LiveSockets
	}
	q.log.Info().Msgf("reading every %v; Ctrl-C ends it", o.watch)
	tick := time.NewTicker(o.watch)
	defer tick.Stop()
	for n := uint64(1); ; n++ {
		var frame bytes.Buffer
		if err := o.read(ctx, q, &frame, to.notes(q.log), to.w); errors.Is(err, errInterrupted) {
			return nil // what was read so far is not shown: it is not whole
		} else if err != nil {
			return err
		}
		if err := to.show(frame.Bytes()); err != nil || n == o.count {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// A screen shows one frame after the other: on a terminal in the place of the last one, as far as
// there is room, and else below it.
type screen struct {
	w     io.Writer
	shown bool

	// What is logged on a terminal, where stderr would be drawn over: of the frame, and before the first.
	below, before bytes.Buffer
}

// log is where to log before the first frame.
func (s *screen) log(stderr io.Writer) *zerolog.Logger {
	if _, high := text.Size(s.w); high == 0 {
		return logger(stderr)
	}
	return logger(&s.before)
}

// notes is where to log what belongs to the next frame. On a terminal stderr would be drawn over.
func (s *screen) notes(log *zerolog.Logger) *zerolog.Logger {
	if _, high := text.Size(s.w); high == 0 {
		return log
	}
	s.below.Reset()
	return logger(&s.below)
}

const (
	topLeft     = "\x1b[H"
	clearScreen = "\x1b[2J"
	clearLine   = "\x1b[K" // from here on
	clearBelow  = "\x1b[J"
)

func (s *screen) show(frame []byte) error {
	first := !s.shown
	s.shown = true
	wide, high := text.Size(s.w)
	if high == 0 || wide == 0 {
		if !first {
			frame = append([]byte{'\n'}, frame...)
		}
		_, err := s.w.Write(frame)
		return err
	}
	lines := slices.Collect(bytes.Lines(frame))
	notes := slices.Concat(slices.Collect(bytes.Lines(s.below.Bytes())), slices.Collect(bytes.Lines(s.before.Bytes())))
	rows := 0
	for _, note := range notes {
		rows += (utf8.RuneCount(note) - 1 + wide - 1) / wide // without its end; it may be wider than the terminal
	}
	if room := max(1, high-1-rows); len(lines) > room {
		more := text.Count(uint64(len(lines)-room+1)) + " more lines"
		lines = append(lines[:room-1], []byte(more))
	}
	out := []byte(topLeft)
	if first {
		out = append(out, clearScreen...)
	}
	for _, l := range append(lines, notes...) {
		out = append(append(out, bytes.TrimSuffix(l, []byte{'\n'})...), clearLine+"\n"...)
	}
	_, err := s.w.Write(append(out, clearBelow...))
	return err
}

// A lsQuery is what to read, each time anew.
type lsQuery struct {
	filter tracer.Filter
	log    *zerolog.Logger
	live   func(path string, fn func(*tracer.LiveSocket)) error // nil: the programs are not attached
}

// reading is the head of a reading, where there are several.
func (o *lsOptions) reading(q *lsQuery) *sockets.Reading {
	if o.watch == 0 {
		return nil
	}
	return &sockets.Reading{Time: time.Now(), Programs: q.live != nil}
}
