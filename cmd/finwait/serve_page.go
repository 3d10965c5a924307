package main

import (
	"context"
	"math"
	"os"
	"time"

	"finwait/internal/meter"
	"finwait/internal/page"
	"finwait/internal/sockets"
	"finwait/internal/source"
	"finwait/tracer"

	"github.com/rs/zerolog"
)

// A livePage is told each second what happened in it. It has a meter of its own: that of the metrics
// counts from scrape to scrape.
type livePage struct {
	page  *page.Page
	meter *meter.Meter
}

func startPage(live source.Live, o *serveOptions, cfg *tracer.Config) (*livePage, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	m, err := meter.Start(live, meter.Options{By: cfg.SplitBy, Top: math.MaxInt, Names: cgroupNames(o.by)})
	if err != nil {
		return nil, err
	}
	about := page.About{Host: host, Version: version(), By: o.by, Hooks: live.Hooks().String(), Refresh: o.refresh}
	return &livePage{page.New(about), m}, nil
}

// run reads until the context is done. What cannot be read is said on the page, and once to the log.
func (l *livePage) run(ctx context.Context, log *zerolog.Logger) {
	every := time.NewTicker(time.Second)
	defer every.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		report, err := l.meter.Interval()
		if err == nil {
			err = l.page.Report(report)
		}
		if why := errorText(err); why != said {
			if said = why; why != "" {
				_ = l.page.Trouble(time.Now(), "totals", err)
				log.Warn().Msg("the page cannot be told what happens: " + why)
			}
		}
	}
}

// show tells the page what was refreshed, and reads the lists of sockets that only it has.
func (r *refresher) show(last *refreshed) error {
	quiet := r.log.Level(zerolog.ErrorLevel)
	lists, err := page.ReadLists(r.cfg.Filter, sockets.Options{NetNS: r.spaces, Owners: socketOwners(&quiet)}, &quiet)
	if err != nil {
		return err
	}
	if err := r.page.Lists(lists); err != nil {
		return err
	}
	least, most := last.input.FinTimeout()
	if err := r.page.Findings(last.metrics.At, last.findings, least, most); err != nil {
		return err
	}
	last.input = nil
	if last.audit == nil {
		return nil
	}
	return r.page.Audit(last.metrics.At, last.audit)
}
