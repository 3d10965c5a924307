package main

import (
	"slices"

	"finwait/internal/confine"
	"finwait/internal/label"
	"finwait/internal/privilege"

	"github.com/spf13/pflag"
)

// nameFlag asks for the names of cgroups and network namespaces.
type nameFlag struct{ on bool }

func (f *nameFlag) register(fs *pflag.FlagSet) {
	fs.BoolVar(&f.on, "names", false, "show the pod, container or unit, and the name of the network namespace")
}

// namer is nil if nobody asks for names.
func (f *nameFlag) namer() label.Names {
	if !f.on {
		return nil
	}
	return label.New()
}

// need adds what names take: the files of cgroups and containers, and a look at processes.
func (f *nameFlag) need(n confine.Need) confine.Need {
	if !f.on {
		return n
	}
	n.Files = true
	for _, c := range []string{privilege.SysPtrace, privilege.DACReadSearch} {
		if !slices.Contains(n.Capabilities, c) {
			n.Capabilities = append(n.Capabilities, c)
		}
	}
	return n
}
