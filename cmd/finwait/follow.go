package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"finwait/internal/jsonl"
	"finwait/internal/sink"
	"finwait/internal/source"
	"finwait/internal/text"
	"finwait/tracer"

	"github.com/rs/zerolog"
)

// When finwait says that it waits for a first transition, and then looks how many
// were seen meanwhile: a filter that matches nothing is known within two seconds.
const (
	hintAfter = 1500 * time.Millisecond
	hintEvery = time.Second
)

// errEnough ends a run that has shown what --count asked for.
var errEnough = errors.New("enough transitions")

// A follower hands what a source reports to a sink, from the first transition to the accounts.
type follower struct {
	raw      bool
	count    uint64 // ends after so many; 0: it does not
	filtered bool   // not every transition of the host is to be shown
}

// show shows everything that comes from a source, and accounts for it.
func (f *follower) show(ctx context.Context, from source.Source, to sink.Sink, out *bufio.Writer, log *zerolog.Logger) error {
	shown, err := f.follow(ctx, from, to, log)
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	if err := from.Close(); err != nil {
		return err
	}
	st, err := from.Stats()
	if err != nil {
		return err
	}
	// What came after --count was delivered to finwait, but not by it. The run ended before.
	st.Seen -= st.Delivered - shown
	st.Delivered = shown
	return f.conclude(st, from.Hooks(), to, out, log)
}

// follow hands everything that the source reports to the sink, and says how much that was.
func (f *follower) follow(ctx context.Context, from source.Source, to sink.Sink, log *zerolog.Logger) (shown uint64, err error) {
	log.Info().Msg("tracing TCP transitions; Ctrl-C ends it")
	came := make(chan struct{})
	hinted := make(chan struct{})
	go func() { f.hint(from, came, log); close(hinted) }()
	first := sync.OnceFunc(func() { close(came) })
	defer func() { first(); <-hinted }()

	counted := func(err error) error {
		if shown++; shown == 1 {
			first()
		}
		if err == nil && shown == f.count {
			return errEnough
		}
		return err
	}
	if f.raw {
		err = from.RunRaw(ctx, func(r *tracer.RawEvent) error { return counted(to.Raw(r)) })
	} else {
		err = from.Run(ctx, func(t *tracer.Transition) error { return counted(to.Transition(t)) })
	}
	return shown, err
}

// hint says that nothing is shown, until something comes: once that nothing happens,
// and once that nothing which happens matches.
func (f *follower) hint(from source.Source, came <-chan struct{}, log *zerolog.Logger) {
	quiet := false
	for wait := hintAfter; ; wait = hintEvery {
		select {
		case <-came:
			return
		case <-time.After(wait):
		}
		st, err := from.Stats()
		switch {
		case err != nil || st.Delivered > 0:
			return
		case f.filtered && st.Filtered > 0:
			log.Info().Msgf("waiting: %s seen, none matches", text.Count(st.Filtered))
			return
		case st.Seen > 0 || quiet: // what was lost may match
		case f.filtered:
			log.Info().Msg("waiting: no transition of this host yet")
			quiet = true
		default:
			log.Info().Msg("waiting: no transition yet; make some with: curl -s http://localhost")
			quiet = true
		}
	}
}

// conclude writes the accounts: where every transition went.
func (f *follower) conclude(st tracer.Stats, hooks tracer.HookSet, to sink.Sink, out *bufio.Writer, log *zerolog.Logger) error {
	if err := to.End(st, hooks); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	e := log.Info()
	msg := "every transition is accounted for"
	if st.Lost.Total() > 0 {
		e, msg = log.Warn(), losses(st.Lost, st.Seen, f.filtered, "shown")
	}
	e.Uint64("seen", st.Seen).Uint64("filtered", st.Filtered).Uint64("delivered", st.Delivered)
	logLost(e, st.Lost).Stringer("hooks", hooks).Msg(msg)
	if t, ok := to.(interface{ Tally() *jsonl.Tally }); ok && !f.raw && st.Delivered > 0 {
		log.Info().Msg("transitions: " + most(t.Tally().Edges()))
		if ends := t.Tally().Ends(); len(ends) > 0 {
			log.Info().Msg("closed: " + most(ends))
		}
	}
	if g := st.Segments; g.Seen > 0 {
		e, msg := log.Info(), "every RST and handshake is accounted for"
		if g.Limited+g.RingFull > 0 {
			e, msg = log.Warn(), "not every RST and handshake was shown: at most 1000 a second are"
		}
		e.Uint64("seen", g.Seen).Uint64("filtered", g.Filtered).Uint64("delivered", g.Delivered).
			Uint64("limited", g.Limited).Uint64("ring_full", g.RingFull).Msg(msg)
	}
	return nil
}

// mostCounted is how many kinds of transitions, and of reasons, the summary names.
const mostCounted = 8

// most lists the most frequent, and says how many kinds are left out.
func most(all []jsonl.Counted) string {
	var words []string
	for i := range all[:min(len(all), mostCounted)] {
		words = append(words, all[i].String())
	}
	if more := len(all) - mostCounted; more > 0 {
		words = append(words, fmt.Sprintf("and %d more kinds", more))
	}
	return strings.Join(words, ", ")
}
