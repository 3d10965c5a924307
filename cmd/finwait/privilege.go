package main

import (
	"strings"

	"finwait/internal/privilege"
	"finwait/tracer"

	"github.com/rs/zerolog"
)

// warnLacking says in one line what the output lacks for want of capabilities,
// where lack knows what that is for the command.
func warnLacking(log *zerolog.Logger, lack func(privilege.Use) string) {
	var lacks []string
	for _, u := range privilege.Uses() {
		if what := lack(u); what != "" && !privilege.Has(u.Name) {
			lacks = append(lacks, u.Name+": "+what)
		}
	}
	if len(lacks) > 0 {
		log.Warn().Msg("not told, for want of capabilities (finwait features): " + strings.Join(lacks, "; "))
	}
}

func untold(u privilege.Use) string { return u.Without }

func unlisted(u privilege.Use) string { return u.Unlisted }

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
