package main

import (
	"cmp"
	"maps"
	"slices"

	"finwait/internal/confine"
	"finwait/internal/jsonl"
	"finwait/internal/label"
	"finwait/internal/meter"
	"finwait/internal/privilege"
	"finwait/tracer"

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

// cgroupNamed has what cgroups can be called by.
var cgroupNamed = map[string]func(*label.Cgroup) string{
	"pod":       jsonl.PodName,
	"container": func(c *label.Cgroup) string { return cmp.Or(c.Container, c.ContainerID) },
	"unit":      func(c *label.Cgroup) string { return c.Unit },
	"workload": func(c *label.Cgroup) string {
		if c.Pod == "" {
			return ""
		}
		return c.PodNamespace + "/" + label.Workload(c.Pod)
	},
}

// cgroupWords are the words of cgroupNamed.
func cgroupWords() []string { return slices.Sorted(maps.Keys(cgroupNamed)) }

// cgroupNames are those that stat and serve split by; nil: it is something else. Not one of them is a
// number of the kernel's: several cgroups can have one name.
func cgroupNames(by string) *meter.CgroupNames {
	of := cgroupNamed[by]
	if of == nil {
		return nil
	}
	names := label.New()
	return &meter.CgroupNames{Word: by, Of: func(id uint64) string {
		c, _ := names.Cgroup(id)
		return of(&c)
	}}
}

// splitBy is what the kernel side splits by, so that there are totals by that word; "": by nothing.
func splitBy(word string) (tracer.Split, error) {
	switch {
	case word == "":
		return tracer.SplitNone, nil
	case cgroupNamed[word] != nil:
		return tracer.SplitCgroup, nil
	}
	return parse[tracer.Split](word)
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
