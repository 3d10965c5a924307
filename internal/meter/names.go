package meter

import (
	"strconv"

	"finwait/tracer"
)

// CgroupNames names cgroups by something that several of them can have, such as a pod.
type CgroupNames struct {
	Word string                 // what that is
	Of   func(id uint64) string // the name of a cgroup; "": it has none, or that is not known

	known map[string]string // by the number of the cgroup
}

// join puts the groups of all cgroups with one name together. What a cgroup was called first
// it is called to the end, so that the differences of two moments stay right.
func (n *CgroupNames) join(groups map[string]*tracer.Group) map[string]*tracer.Group {
	if n.known == nil {
		n.known = make(map[string]string)
	}
	joined := make(map[string]*tracer.Group)
	for number, g := range groups {
		name, known := n.known[number]
		if id, err := strconv.ParseUint(number, 10, 64); !known && err == nil {
			name = n.Of(id)
			n.known[number] = name
		}
		to := joined[name]
		if to == nil {
			to = &tracer.Group{Name: name, States: make(map[tracer.State]*tracer.StateTotals), Ends: make(map[tracer.Reason]uint64)}
			joined[name] = to
		}
		to.Add(g)
	}
	return joined
}

// word is what the groups are called by.
func (o *Options) word() string {
	if o.Names != nil {
		return o.Names.Word
	}
	return o.By.String()
}
