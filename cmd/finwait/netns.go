package main

import (
	"context"
	"time"

	"finwait/internal/netns"

	"github.com/rs/zerolog"
)

// lookAgain is how often watchNetNS looks. A look takes a microsecond for each namespace.
const lookAgain = time.Second

// watchNetNS says once of each namespace that it is gone, until the context is done. It needs no
// capability, and Landlock does not restrict stat(2).
func watchNetNS(ctx context.Context, spaces []netns.NS, log *zerolog.Logger) {
	if len(spaces) == 0 {
		return
	}
	told := make([]bool, len(spaces))
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for i := range spaces {
			if !told[i] && spaces[i].Gone() {
				told[i] = true
				log.Warn().Msg("network namespace " + spaces[i].Name + " is gone; no other is followed in its place, and the run goes on until it is ended")
			}
		}
	}
}
