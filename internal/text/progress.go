package text

import (
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"
)

// Progress draws a bar of how much of total is done, on a terminal, until it is stopped.
func Progress(w io.Writer, done *atomic.Int64, total int64) (stop func()) {
	const width = 50
	if !IsTerminal(w) {
		return func() {}
	}
	quit, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			n := done.Load()
			full := int(n * width / total)
			fmt.Fprintf(w, "\r[%s%s] %d of %d", strings.Repeat("#", full), strings.Repeat(".", width-full), n, total)
			select {
			case <-tick.C:
			case <-quit:
				fmt.Fprint(w, "\r\x1b[K")
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-gone
	}
}
