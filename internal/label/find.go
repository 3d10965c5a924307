package label

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"finwait/internal/cgroup"
	"finwait/tracer"
)

// A Kind is what a cgroup can be found by.
type Kind struct {
	word string
	id   func(*Cgroup) string // which one of its kind it is; "": of none
	name func(*Cgroup) string // "": not known
	is   func(*Cgroup, string) bool
}

// The kinds. A pod is found by NAME, NAMESPACE/NAME or UID; a container by its name or by the
// first 12 digits of its id, or more; a unit by its name, with or without ".service".
var (
	Pod = Kind{"pod", func(c *Cgroup) string { return c.PodUID }, func(c *Cgroup) string {
		if c.Pod == "" {
			return ""
		}
		return c.Name()
	}, func(c *Cgroup, name string) bool {
		return c.PodUID != "" && (name == c.PodUID || name == c.Pod || name == c.Name())
	}}
	Container = Kind{"container", func(c *Cgroup) string { return c.ContainerID }, func(c *Cgroup) string { return c.Container },
		func(c *Cgroup, name string) bool {
			return name == c.Container || len(name) >= shortID && strings.HasPrefix(c.ContainerID, name)
		}}
	Unit = Kind{"unit", unitOf, unitOf, func(c *Cgroup, name string) bool { return name == c.Unit || name+".service" == c.Unit }}
)

func unitOf(c *Cgroup) string { return c.Unit }

// A Subtree is a cgroup with those below it.
type Subtree struct {
	tracer.Cgroup
	Path string
}

func (s *Subtree) holds(path string) bool {
	return path == s.Path || strings.HasPrefix(path, strings.TrimSuffix(s.Path, "/")+"/")
}

// Both is what is in both lists.
func Both(a, b []Subtree) (both []Subtree) {
	for _, x := range a {
		for _, y := range b {
			switch {
			case x.holds(y.Path):
				both = append(both, y)
			case y.holds(x.Path):
				both = append(both, x)
			}
		}
	}
	return both
}

// Find reads the tree of cgroups, and gives those of this name, each with all that is below it.
// That there is none is an error, which says what is called alike.
func (n *Namer) Find(kind Kind, name string) (found []Subtree, err error) {
	if err := n.refresh(); err != nil {
		return nil, fmt.Errorf("find %s %q: %w", kind.word, name, err)
	}
	for _, k := range n.living() {
		if kind.is(&k.Cgroup, name) && !slices.ContainsFunc(found, func(s Subtree) bool { return s.holds(k.Path) }) {
			level := uint32(strings.Count(strings.TrimSuffix(k.Path, "/"), "/"))
			found = append(found, Subtree{tracer.Cgroup{ID: k.id, Level: level}, k.Path})
		}
	}
	if len(found) == 0 {
		return nil, n.notFound(kind, name)
	}
	return found, nil
}

// notFound says what there is instead.
func (n *Namer) notFound(kind Kind, name string) error {
	names, unnamed := n.names(kind)
	if len(names)+unnamed == 0 {
		return &cgroup.NotFoundError{Why: fmt.Sprintf("no %s is called %q: no cgroup is that of a %s", kind.word, name, kind.word)}
	}
	begin := name[strings.LastIndexByte(name, '/')+1:] // a name that is wrong is often right at its start
	begin = begin[:min(len(begin), 3)]
	near := slices.DeleteFunc(names, func(s string) bool { return !strings.Contains(s, begin) })
	why := ""
	if len(near) > 0 {
		why = "; there is " + strings.Join(near[:min(len(near), 5)], ", ")
	}
	if unnamed > 0 {
		why += fmt.Sprintf("; of %d the name cannot be read", unnamed)
	}
	return &cgroup.NotFoundError{Why: fmt.Sprintf("no %s is called %q%s", kind.word, name, why)}
}

// Names are the names of a kind that Find finds, in order.
func (n *Namer) Names(kind Kind) []string {
	if n.refresh() != nil {
		return nil
	}
	names, _ := n.names(kind)
	return names
}

// names are those that are known, and how many are not.
func (n *Namer) names(kind Kind) (names []string, unnamed int) {
	of := make(map[string]string)
	for _, k := range n.living() {
		if id := kind.id(&k.Cgroup); id != "" {
			of[id] = kind.name(&k.Cgroup)
		}
	}
	for _, name := range of {
		if name == "" {
			unnamed++
		} else {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), unnamed
}

// refresh reads everything anew.
func (n *Namer) refresh() error {
	if err := n.walk(); err != nil {
		return err
	}
	n.nameNew()
	return nil
}

// living are the cgroups that there were at the last walk, in the order of their paths.
func (n *Namer) living() []*known {
	all := slices.DeleteFunc(slices.Collect(maps.Values(n.cgroups)), func(k *known) bool { return !k.gone.IsZero() })
	slices.SortFunc(all, func(a, b *known) int { return strings.Compare(a.Path, b.Path) })
	return all
}
