package label

import (
	"regexp"
	"strings"
)

// origin says whose files can name a container or a pod.
type origin struct {
	nested bool   // in another container, which could have made a cgroup of any name
	user   string // uid of the user's manager that it is below, as that user may do so too
}

var (
	containerID = regexp.MustCompile(`^[0-9a-f]{64}$`)
	podPart     = regexp.MustCompile(`^(?:.*kubepods(?:-burstable|-besteffort)?-)?pod([0-9a-f_-]{32,36})(?:\.slice)?$`)
	podUID      = regexp.MustCompile(`^(?:[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$`)
	unitPart    = regexp.MustCompile(`^[\w:.\\@-]{1,255}\.(?:service|scope|socket|mount|swap)$`) // unit_name_is_valid()
	managerPart = regexp.MustCompile(`^user@(\d+)\.service$`)
)

// parse reads the path of a cgroup as the kubelet, the runtimes and systemd make it.
func parse(path string) (c Cgroup, o origin) {
	c.Path = path
	var above string
	kubepods, slices := false, true // slices: so far there are only those above the unit
	// A containerd that is not told of the kubelet's systemd driver writes three parts as one.
	for part := range strings.SplitSeq(strings.ReplaceAll(strings.TrimPrefix(path, "/"), ":cri-containerd:", "/cri-containerd-"), "/") {
		kubepods = kubepods || part == "kubepods"
		id := containerOf(part)
		pod := podPart.FindStringSubmatch(part)
		manager := managerPart.FindStringSubmatch(part)
		switch {
		case id != "" && part == id && above == "libpod_parent": // a pod of podman
		case id != "":
			o.nested = o.nested || c.ContainerID != "" && c.ContainerID != id
			c.ContainerID = id
		case c.ContainerID != "": // a unit or a pod in a container is the container's affair
		case pod != nil && o.user == "" && (kubepods || strings.Contains(part, "kubepods")):
			if uid := strings.ReplaceAll(pod[1], "_", "-"); c.PodUID == "" && podUID.MatchString(uid) {
				c.PodUID = uid
			}
		case slices && strings.HasSuffix(part, ".slice"):
		case slices && o.user == "" && manager != nil:
			c.Unit, o.user = part, manager[1]
		case slices && unitPart.MatchString(part):
			// As sd_pid_get_unit(3) does: of what is made below a unit the unit counts. systemd
			// puts "_" before names that the kernel would take for its own (cg_escape()).
			c.Unit, slices = strings.TrimPrefix(part, "_"), false
		default:
			slices = false
		}
		above = part
	}
	return c, o
}

// containerOf is the id in ID, RUNTIME-ID or RUNTIME-ID.scope; "" if it is none. conmon looks after
// a container, and has a cgroup beside it.
func containerOf(part string) string {
	name := strings.TrimSuffix(part, ".scope")
	at := len(name) - 64
	if at < 0 || !containerID.MatchString(name[at:]) ||
		at > 0 && (name[at-1] != '-' || strings.HasSuffix(name[:at], "conmon-")) {
		return ""
	}
	return name[at:]
}
