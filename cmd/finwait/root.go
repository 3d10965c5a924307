package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"finwait/internal/text"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// A usageError is the caller's mistake on the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// An exitError ends finwait with the exit code of the command that it ran for the
// user. It prints nothing, unless there is an err.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return fmt.Sprintf("exit code %d: %v", e.code, e.err) }

// usage leaves an error as it is that comes of missing rights.
func usage(err error) error {
	if err == nil || errors.Is(err, fs.ErrPermission) {
		return err
	}
	return usageError{err}
}

// run is the whole program without the process around it, so that tests can call it.
// Data goes to stdout, everything else to stderr.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), endingSignals()...)
	defer stop()
	// The first signal ends the run in order. A second one ends the process at once,
	// as the output may be blocked. But a terminal that goes away can send SIGHUP twice:
	// the kernel does, and the shell.
	context.AfterFunc(ctx, stop)
	// A write to a closed pipe gives EPIPE, which ends the run quietly. SIGPIPE is
	// caught and not ignored, because a command would inherit that it is ignored.
	caught := []os.Signal{syscall.SIGPIPE}
	if !signal.Ignored(syscall.SIGHUP) {
		caught = append(caught, syscall.SIGHUP)
	}
	signal.Notify(make(chan os.Signal, 1), caught...)

	root := newRoot(stderr)
	root.SetArgs(args)
	root.SetOut(&stdoutWriter{stdout, ctx})
	root.SetErr(stderr)
	addCompletion(root)

	cmd, err := root.ExecuteContextC(ctx)
	var (
		wrong usageError
		exit  *exitError
	)
	switch {
	case err == nil || errors.Is(err, syscall.EPIPE):
		return exitOK
	case errors.As(err, &exit):
		if exit.err != nil {
			logger(stderr).Error().Msg(exit.err.Error())
		}
		return exit.code
	case errors.As(err, &wrong):
		logger(stderr).Error().Msg(err.Error() + "; see " + cmd.CommandPath() + " --help")
		return exitUsage
	default:
		logger(stderr).Error().Msg(err.Error())
		return exitFailure
	}
}

// endingSignals are those that end a run in order. Under nohup(1) SIGHUP is none.
func endingSignals() []os.Signal {
	signals := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	return signals
}

// newRoot builds the command line. The bare command is trace.
func newRoot(stderr io.Writer) *cobra.Command {
	trace := newTrace(stderr)
	root := &cobra.Command{
		Use:   "finwait",
		Short: "Show every TCP state transition, and how long each state lasted",
		Example: `  # What does each TCP connection of this host do? Ctrl-C ends it.
  finwait
  # How many sockets are in each state now?
  finwait ls
  # How long do states last, and why do connections end?
  finwait stat --duration 3s
  # What does the reason "reset" mean?
  finwait help reasons reset`,
		Long: `finwait watches every TCP state transition of this host as it happens, says how
long each state lasted and why it ended, and follows what the kernel's
tracepoint leaves out: FIN_WAIT_2 and TIME_WAIT inside the timewait minisock.

Without a command it traces. finwait help reasons explains why states end.`,
		Args:              rejectArgs,
		PersistentPreRunE: rejectEmpty,
		RunE:              trace.RunE,
		Version:           versionLine(),
		SilenceErrors:     true,
		SilenceUsage:      true,
	}
	root.Flags().AddFlagSet(trace.Flags())
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(wrongFlag)
	root.AddCommand(trace, newStat(stderr), newLs(stderr), newConns(stderr), newDoctor(stderr), newServe(stderr), newDemo(stderr), newFeatures(), newVersion())
	completeShared(root)
	root.SetHelpCommand(newHelp())
	return root
}

// addCompletion adds cobra's completion command, which writes where root does. Cobra's own
// shows its help for a shell that does not exist, as if nothing were wrong.
func addCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	cmd, _, _ := root.Find([]string{"completion"}) // it is there
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.Example = "  # What does bash read to complete the commands, flags and values?\n  finwait completion bash"
	for _, c := range cmd.Commands() {
		c.Example = strings.ReplaceAll(cmd.Example, "bash", c.Name())
	}
	for _, c := range append(cmd.Commands(), cmd) {
		c.Args = rejectArgs
	}
}

func rejectArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage(errors.New("unknown command or argument \"" + args[0] + "\" for " + cmd.CommandPath()))
	}
	return nil
}

// logger writes plain lines for people.
func logger(w io.Writer) *zerolog.Logger {
	lines := zerolog.ConsoleWriter{
		Out: w, NoColor: !text.Coloured(w, "auto"), PartsExclude: []string{zerolog.TimestampFieldName},
		FormatPrepare: func(fields map[string]any) error {
			// Fields are quoted where they must be, but not the message: an error can name a file.
			if msg, ok := fields[zerolog.MessageFieldName].(string); ok {
				fields[zerolog.MessageFieldName] = text.Printable(msg)
			}
			return nil
		},
	}
	l := zerolog.New(lines).Level(zerolog.InfoLevel)
	return &l
}
