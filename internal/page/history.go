package page

import (
	"sync"
	"time"
)

// keep is for how long the page can step back.
const keep = 10 * time.Minute

// maxBytes bounds what is kept of that. A busy host with many groups has less than ten minutes.
const maxBytes = 4 << 20

// An event is something that the page was told: an object of JSON, without a line feed.
type event struct {
	n    uint64 // numbers have no gaps
	at   time.Time
	data []byte
}

// A history has the last events. Readers ask for what comes after the last one that they have, so
// that a slow one costs nothing but what it asks for.
type history struct {
	mu      sync.Mutex
	events  []event
	last    uint64 // number of the last event
	bytes   int
	limit   int
	changed chan struct{} // closed when there is a new event
}

func newHistory(limit int) *history { return &history{limit: limit, changed: make(chan struct{})} }

// add adds the event that encode makes for its number, and drops what is too old or too much.
func (h *history) add(at time.Time, encode func(n uint64) ([]byte, error)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	data, err := encode(h.last + 1)
	if err != nil {
		return err
	}
	h.last++
	h.events = append(h.events, event{h.last, at, data})
	h.bytes += len(data)
	drop := 0
	for ; drop < len(h.events)-1 && (h.bytes > h.limit || at.Sub(h.events[drop].at) > keep); drop++ {
		h.bytes -= len(h.events[drop].data)
		h.events[drop].data = nil // the array lives on
	}
	h.events = h.events[drop:]
	close(h.changed)
	h.changed = make(chan struct{})
	return nil
}

// after gives the events after a number, and a channel that is closed when there are more.
func (h *history) after(n uint64) ([]event, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	skip := 0
	if len(h.events) > 0 && n >= h.events[0].n {
		skip = int(min(n-h.events[0].n+1, uint64(len(h.events))))
	}
	return append([]event(nil), h.events[skip:]...), h.changed
}
