package otlp

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	sdklog "go.opentelemetry.io/otel/sdk/log"
)

const (
	batchSize  = 512             // records that are sent together
	batchAfter = time.Second     // how long one waits for more
	tryAgain   = time.Second     // after the collector could not be reached; it doubles up to tryAtMost
	tryAtMost  = 8 * time.Second // between two attempts
)

// A Queue sends log records in batches, and counts those that it cannot send. It is a
// sdklog.Processor in place of the SDK's, which drops records without a word when its queue is full.
//
// A batch that did not reach the collector is sent again until it does, or until Shutdown has no time
// left. If the collector took a batch and its answer was lost, it gets the batch twice; if that
// happens in the end, the batch is counted as lost.
type Queue struct {
	of *Exporter
	to sdklog.Exporter

	records chan sdklog.Record
	ending  chan struct{} // closed: nothing comes any more
	ended   chan struct{} // closed: nothing is sent any more
	cancel  context.CancelFunc
	once    sync.Once

	sent, lost atomic.Uint64
}

func newQueue(of *Exporter, to sdklog.Exporter, room int) *Queue {
	ctx, cancel := context.WithCancel(context.Background())
	q := &Queue{of: of, to: to, records: make(chan sdklog.Record, room), ending: make(chan struct{}), ended: make(chan struct{}), cancel: cancel}
	go q.run(ctx)
	return q
}

// Lost is how many records were not sent, and will not be: there was no room for them, the collector
// refused them, or the end came first.
func (q *Queue) Lost() uint64 { return q.lost.Load() }

// Sent is how many records the collector has taken.
func (q *Queue) Sent() uint64 { return q.sent.Load() }

// Enabled is for the SDK.
func (q *Queue) Enabled(context.Context, sdklog.EnabledParameters) bool { return true }

// OnEmit takes a record, or counts it as lost if there is no room. It does not wait.
func (q *Queue) OnEmit(_ context.Context, r *sdklog.Record) error {
	select {
	case q.records <- r.Clone():
	default:
		q.lost.Add(1)
	}
	return nil
}

// ForceFlush does nothing: records wait for a second at most.
func (q *Queue) ForceFlush(context.Context) error { return nil }

// Shutdown sends what is left until the context is done, and counts the rest as lost. No record may
// come meanwhile.
func (q *Queue) Shutdown(ctx context.Context) error {
	q.once.Do(func() { close(q.ending) })
	select {
	case <-q.ended:
	case <-ctx.Done():
		q.cancel()
		<-q.ended
	}
	return q.to.Shutdown(context.WithoutCancel(ctx))
}

// run sends batches until nothing comes any more.
func (q *Queue) run(ctx context.Context) {
	defer close(q.ended)
	batch := make([]sdklog.Record, 0, batchSize)
	for {
		var more bool
		batch, more = q.gather(batch[:0])
		if len(batch) > 0 {
			q.send(ctx, batch)
		}
		if !more {
			return
		}
	}
}

// gather waits for a first record, and then for others until the batch is full or a second is over.
// more is false if that was all.
func (q *Queue) gather(batch []sdklog.Record) (_ []sdklog.Record, more bool) {
	var over <-chan time.Time
	for len(batch) < batchSize {
		select {
		case r := <-q.records:
			if batch = append(batch, r); over == nil {
				over = time.After(batchAfter)
			}
		case <-over:
			return batch, true
		case <-q.ending:
			for len(batch) < batchSize {
				select {
				case r := <-q.records:
					batch = append(batch, r)
				default:
					return batch, false
				}
			}
		}
	}
	return batch, true
}

// send tries until the collector has answered, or the context is done.
func (q *Queue) send(ctx context.Context, batch []sdklog.Record) {
	n := uint64(len(batch))
	for wait := tryAgain; ; wait = min(2*wait, tryAtMost) {
		err := ctx.Err()
		if err == nil {
			if err = q.to.Export(ctx, batch); warned(err) {
				err = nil
			}
			if err == nil || ctx.Err() == nil { // otherwise the end has cut it short
				q.of.say("log records", err)
			}
		}
		switch {
		case err == nil:
			q.sent.Add(n)
			return
		case ctx.Err() != nil:
			q.lost.Add(n)
			return
		case !unanswered(err):
			refused := rejected(err, n)
			q.lost.Add(refused)
			q.sent.Add(n - refused)
			return
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		case <-q.ending: // it is worth a last attempt now
			wait = tryAgain / 4
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			}
		}
	}
}

// again is how the exporter calls an answer that asks to come again: 429, 502, 503 or 504 (OTLP
// specification, "Retryable Response Codes").
const again = "retry-able request failure"

// unanswered says that the collector has not answered, or not to the end, or asks to come again.
func unanswered(err error) bool {
	var ofNet net.Error // also a *url.Error
	return errors.As(err, &ofNet) || errors.Is(err, io.ErrUnexpectedEOF) || strings.HasPrefix(err.Error(), again)
}

// partial is how the exporters say that the collector has refused a part of a batch.
var partial = regexp.MustCompile(`(?s)OTLP partial success: .*\((\d+) [a-z ]+ rejected\)`)

// warned says that the collector has refused nothing, and only has something to say.
func warned(err error) bool {
	return err != nil && partial.MatchString(err.Error()) && rejected(err, math.MaxUint64) == 0
}

// rejected is how many of n records the collector has refused: all, unless the error says another
// number.
func rejected(err error, n uint64) uint64 {
	said := partial.FindStringSubmatch(err.Error())
	if said == nil {
		return n
	}
	refused, err := strconv.ParseUint(said[1], 10, 64)
	if err != nil {
		return n
	}
	return min(refused, n)
}
