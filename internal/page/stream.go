package page

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// stream sends the history, and then each event when it happens, as server-sent events. Whoever comes
// back says with Last-Event-ID what it has. Nothing is kept for a slow reader: it is closed if it does
// not read for a while, and comes back.
func (p *Page) stream(w http.ResponseWriter, r *http.Request) {
	select {
	case p.streams <- struct{}{}:
		defer func() { <-p.streams }()
	default:
		http.Error(w, fmt.Sprintf("%d streams are open: ask /history instead", maxStreams), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	to := http.NewResponseController(w)
	send := func(b []byte) error {
		if err := to.SetWriteDeadline(time.Now().Add(p.patient)); err != nil {
			return err
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		return to.Flush()
	}
	if send(fmt.Appendf(nil, "retry: 2000\ndata: %s\n\n", p.hello())) != nil {
		return
	}
	last := p.had(r.Header.Get("Last-Event-ID"))
	for {
		events, changed := p.history.after(last)
		for _, e := range events {
			if send(fmt.Appendf(nil, "id: %s-%d\ndata: %s\n\n", p.start, e.n, e.data)) != nil {
				return
			}
			last = e.n
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

// poll answers with all events after one, as an array. It is for browsers that cannot share a stream.
func (p *Page) poll(w http.ResponseWriter, r *http.Request) {
	events, _ := p.history.after(p.had(r.FormValue("after")))
	var b bytes.Buffer
	b.WriteByte('[')
	b.Write(p.hello())
	for _, e := range events {
		b.WriteByte(',')
		b.Write(e.data)
	}
	b.WriteByte(']')
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	// The reader may be gone.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(p.patient))
	_, _ = b.WriteTo(w)
}

// had is the number of the last event that a browser has. An id of another Page means none.
func (p *Page) had(id string) uint64 {
	start, number, _ := strings.Cut(id, "-")
	n, err := strconv.ParseUint(number, 10, 64)
	if start != p.start || err != nil {
		return 0
	}
	return n
}
