package main

import (
	"slices"
	"strings"

	"finwait/internal/privilege"
	"finwait/tracer"

	"github.com/rs/zerolog"
)

// warnLacking says in one line what the output lacks for want of capabilities,
// as far as they matter to the command.
func warnLacking(log *zerolog.Logger, matter ...string) {
	var lacks []string
	for _, u := range privilege.Lacking() {
		if slices.Contains(matter, u.Name) {
			lacks = append(lacks, u.Name+": "+u.Without)
		}
	}
	if len(lacks) > 0 {
		log.Warn().Msg("not told, for want of capabilities (finwait features): " + strings.Join(lacks, "; "))
	}
}

// optional are what tracing makes use of and can do without.
var optional = []string{privilege.Syslog, privilege.SysPtrace, privilege.DACReadSearch, privilege.SysAdmin}

// confine gives up what is not needed once the tracer is attached.
func confine(tr *tracer.Tracer, need privilege.Need, log *zerolog.Logger) error {
	need.Check = func() error {
		_, err := tr.Stats()
		return err
	}
	landlocked, err := privilege.Confine(need)
	if err == nil {
		log.Debug().Bool("landlock", landlocked).Strs("kept", need.Capabilities).Msg("confined")
	}
	return err
}
