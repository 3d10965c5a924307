package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"time"

	"finwait/internal/cgroup"
	"finwait/internal/confine"
	"finwait/internal/privilege"
	"finwait/internal/source"
	"finwait/tracer"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
)

// tracingFlags are those of trace and stat: what to follow, and by which hooks.
type tracingFlags struct {
	filters filterFlags
	hooks   string
	wait    bool
}

func (f *tracingFlags) register(cmd *cobra.Command) {
	f.filters.register(cmd.Flags())
	completeTransitions(cmd)
	f.registerTraced(cmd)
}

func completeTransitions(cmd *cobra.Command) {
	for _, flag := range []string{"state", "from", "to"} {
		complete(cmd, flag, tracer.States())
	}
	complete(cmd, "reason", tracer.Reasons())
}

// registerConnections leaves the filters on single transitions out.
func (f *tracingFlags) registerConnections(cmd *cobra.Command) {
	f.filters.registerConnections(cmd.Flags())
	f.registerTraced(cmd)
}

// registerTraced adds what only the programs know, and how they are attached.
func (f *tracingFlags) registerTraced(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.filters.role, "role", "", "`role` of this end: "+list(tracer.Roles())+"; not known of older connections")
	complete(cmd, "role", tracer.Roles())
	cmd.Flags().BoolVar(&f.wait, "wait", false, "if a network namespace, cgroup, pod, container or unit of that name is not there yet, wait for it")
	cmd.Flags().StringVar(&f.hooks, "hooks", tracer.HooksAuto.String(), "follow TIME_WAIT with these `hooks`: "+list(tracer.HookSets()))
	complete(cmd, "hooks", tracer.HookSets())
}

// config is what these flags make of a tracer's configuration. check is asked about
// the filter. An error is the user's, or that there is no /proc.
func (f *tracingFlags) config(ctx context.Context, log *zerolog.Logger, check func(*tracer.Filter) error) (cfg tracer.Config, err error) {
	if err := checkProc(); err != nil {
		return cfg, err
	}
	if cfg.Filter, err = f.findNames(ctx, log); err != nil {
		return cfg, err
	}
	if len(cfg.Filter.Cgroups) > 0 {
		if _, err := cgroup.Whole(); err != nil {
			return cfg, fmt.Errorf("--cgroup, --pod, --container and --unit cannot be followed: %w", err)
		}
	}
	if err := check(&cfg.Filter); err != nil {
		return cfg, usage(err)
	}
	if cfg.Hooks, err = parse[tracer.HookSet](f.hooks); err != nil {
		return cfg, usage(err)
	}
	cfg.Logger = *log
	return cfg, nil
}

// findNames makes the filter. With --wait it looks until every name is there; there is nothing in
// the kernel that says so.
func (f *tracingFlags) findNames(ctx context.Context, log *zerolog.Logger) (filter tracer.Filter, err error) {
	const every = 200 * time.Millisecond
	said := ""
	for {
		filter, err = f.filters.filter()
		switch {
		case err == nil:
			return filter, nil
		case !f.wait || !errors.Is(err, fs.ErrNotExist):
			return filter, usage(err)
		}
		if why := err.Error(); why != said {
			log.Info().Msg("waiting: " + why)
			said = why
		}
		select {
		case <-ctx.Done():
			return filter, fmt.Errorf("interrupted: nothing was traced, as %w", err)
		case <-time.After(every):
		}
	}
}

// checkProc says so where all commands would fail one way or another, each with words of its own.
func checkProc() error {
	if _, err := os.Stat("/proc/self/ns"); runtime.GOOS == "linux" && errors.Is(err, os.ErrNotExist) {
		return tracer.ErrNoProc
	}
	return nil
}

// newOutput buffers stdout: a write for each transition would cost more than the rest.
func newOutput(stdout io.Writer) *bufio.Writer { return bufio.NewWriterSize(stdout, 64<<10) }

// attach starts to trace. It says in one line what the output lacks because a
// capability is missing, as far as lacks knows what that is for the command.
func attach(cfg tracer.Config, lacks func(privilege.Use) string) (source.Live, error) {
	tr, err := tracer.New(cfg)
	if err != nil {
		return source.Live{}, err
	}
	warnLacking(&cfg.Logger, lacks)
	return source.Live{Tracer: tr}, nil
}

func warnLacking(log *zerolog.Logger, lacks func(privilege.Use) string) {
	var all []string
	for _, u := range privilege.Uses() {
		if what := lacks(u); what != "" && !privilege.Has(u.Name) {
			all = append(all, u.Name+": "+what)
		}
	}
	if len(all) > 0 {
		log.Warn().Msg("not told, for want of capabilities (finwait features): " + strings.Join(all, "; "))
	}
}

// missingForTrace is what trace and stat lack without a capability.
func missingForTrace(u privilege.Use) string { return u.Without }

// missingForLs is what ls lacks without it. With BPF it finds owners without /proc.
func missingForLs(u privilege.Use) string {
	switch {
	case len(privilege.Missing()) > 0:
		return u.Unlisted
	case u.Name == privilege.Syslog:
		return ""
	}
	return u.Without
}

// giveUp gives up what is not needed once the tracer is attached.
func giveUp(live source.Live, need confine.Need, log *zerolog.Logger) error {
	need.Check = func() error {
		_, err := live.Stats()
		return err
	}
	landlocked, err := confine.Confine(need)
	if err == nil {
		log.Debug().Bool("landlock", landlocked).Strs("kept", need.Capabilities).Msg("confined")
	}
	return err
}
