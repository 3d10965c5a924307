package jsonl

import (
	"cmp"

	"finwait/internal/label"

	"github.com/rs/zerolog"
)

// names gives the names of a cgroup and a network namespace, with their fields. A container
// and a pod without a known name have their id.
func (w *Writer) names(cgroup uint64, netNS uint32, cookie uint64) [4]struct{ key, name string } {
	var c label.Cgroup
	if cgroup != 0 {
		c, _ = w.Names.Cgroup(cgroup)
	}
	return [...]struct{ key, name string }{
		{"netns_name", w.Names.NetNS(netNS, cookie)}, {"pod", PodName(&c)},
		{"container", cmp.Or(c.Container, c.ContainerID)}, {"unit", c.Unit},
	}
}

// appendNames appends them, if somebody asks for names.
func (w *Writer) appendNames(b []byte, cgroup uint64, netNS uint32, cookie uint64) []byte {
	if w.Names == nil {
		return b
	}
	for _, n := range w.names(cgroup, netNS, cookie) {
		b = append(append(append(b, `,"`...), n.key...), `":`...)
		b = appendKnown(b, n.name)
	}
	return b
}

// AddNames adds them to an event.
func (w *Writer) AddNames(e *zerolog.Event, cgroup uint64, netNS uint32, cookie uint64) {
	if w.Names == nil {
		return
	}
	for _, n := range w.names(cgroup, netNS, cookie) {
		e.RawJSON(n.key, appendKnown(nil, n.name))
	}
}

// PodName is the pod's namespace and name, or else its UID; "" if it is in none.
func PodName(c *label.Cgroup) string {
	if c.Pod != "" {
		return c.PodNamespace + "/" + c.Pod
	}
	return c.PodUID
}
