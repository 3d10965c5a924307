package text

import (
	"cmp"
	"strconv"

	"finwait/internal/label"
)

// AppendNames appends, with a space before each, the name of the pod, the container or the
// unit, and of a network namespace other than the host's. from is nil if nobody asks for them.
func AppendNames(b []byte, from label.Names, cgroup uint64, netNS uint32, cookie uint64) []byte {
	if from == nil {
		return b
	}
	word := func(key, name string) {
		if name == "" {
			return
		}
		if len(b) > 0 {
			b = append(b, ' ')
		}
		b = AppendPrintable(append(append(b, key...), '='), name)
	}
	if cgroup != 0 {
		c, _ := from.Cgroup(cgroup)
		switch {
		case c.PodUID != "":
			word("pod", c.Name())
		case c.ContainerID != "":
			word("container", c.Name())
		default:
			word("unit", c.Unit)
		}
	}
	if name := from.NetNS(netNS, cookie); name != "host" {
		word("netns", cmp.Or(name, strconv.FormatUint(uint64(netNS), 10)))
	}
	return b
}
