package main

import (
	"context"
	"time"

	"finwait/internal/netns"

	"github.com/rs/zerolog"
)

// lookAgain is how often watchNetNS looks. A look takes a microsecond for each namespace.
const lookAgain = time.Second

// watchNetNS says once of each namespace that it is gone, until the context is done or stop is
// called. It needs no capability, and Landlock does not restrict stat(2).
func watchNetNS(ctx context.Context, spaces []netns.NS, log *zerolog.Logger) (stop func()) {
	if len(spaces) == 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		told := make([]bool, len(spaces))
		tick := time.NewTicker(lookAgain)
		defer tick.Stop()
		for ctx.Err() == nil {
			select {
			case <-ctx.Done(): // looks a last time
			case <-tick.C:
			}
			for i := range spaces {
				if !told[i] && spaces[i].Gone() {
					told[i] = true
					log.Warn().Msg("network namespace " + spaces[i].Name + " is gone; no other is followed in its place, and the run goes on until it is ended")
				}
			}
		}
	}()
	return func() { cancel(); <-done }
}
