package label

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
)

// Dirs are where names are read from.
type Dirs struct {
	Cgroups       string // mount point of cgroup v2; "": as /proc/self/mountinfo says
	PodLogs       string // the kubelet makes NAMESPACE_POD_UID in it
	ContainerLogs string // the kubelet makes POD_NAMESPACE_CONTAINER-ID.log in it
	Docker        string // Docker makes ID/config.v2.json in it
	Podman        string // storage of root's podman
	Passwd        string // passwd(5): the homes of users, which have the storage of their podman
}

var defaultDirs = Dirs{
	PodLogs: "/var/log/pods", ContainerLogs: "/var/log/containers",
	Docker: "/var/lib/docker/containers", Podman: "/var/lib/containers/storage", Passwd: "/etc/passwd",
}

// userStorage is where podman keeps what a user runs, if the user has not configured it.
const userStorage = ".local/share/containers/storage"

// Most that is read of a file, and of a directory.
const (
	fileMax  = 4 << 20
	namesMax = 1 << 14
)

// proper is what a name of a pod, a namespace or a container can be. Any other is not taken:
// it is no name that the kubelet, Docker or podman gave.
var proper = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,252}$`)

// A pod is where a container, or a pod's directory of logs, is.
type pod struct{ namespace, name, container string }

// name looks for the names of cgroups. It reads each file once at most, and only if it is needed.
func (n *Namer) name(cgroups []*known) {
	pods, containers := sync.OnceValue(n.pods), sync.OnceValue(n.containers)
	podman := map[string]map[string]string{}
	for _, k := range cgroups {
		switch {
		case k.nested || !k.nameless():
		case k.PodUID != "":
			of := containers()[k.ContainerID]
			k.Container = of.container
			if by, ok := pods()[k.PodUID]; ok {
				of = by
			}
			k.PodNamespace, k.Pod = of.namespace, of.name
		default:
			names, ok := podman[k.user]
			switch {
			case !ok && k.user == "":
				names = stored(n.Podman, "")
			case !ok:
				names = stored(n.home(k.user), userStorage)
			}
			podman[k.user] = names
			k.Container = names[k.ContainerID]
			if k.Container == "" && k.user == "" {
				k.Container = n.docker(k.ContainerID)
			}
		}
	}
}

// pods are those that have a directory of logs, by UID (BuildPodLogsDirectory() of the kubelet).
func (n *Namer) pods() map[string]pod {
	found := make(map[string]pod)
	for _, name := range list(n.PodLogs) {
		if part := strings.Split(name, "_"); len(part) == 3 && proper.MatchString(part[0]) && proper.MatchString(part[1]) && podUID.MatchString(part[2]) {
			add(found, part[2], pod{namespace: part[0], name: part[1]})
		}
	}
	return found
}

// containers are those that have a log, by id (logSymlink() of the kubelet, which cuts what is too
// long for a file's name: then the id is not whole, and the container has no name).
func (n *Namer) containers() map[string]pod {
	found := make(map[string]pod)
	for _, name := range list(n.ContainerLogs) {
		name, isLog := strings.CutSuffix(name, ".log")
		id := containerOf(name)
		part := strings.Split(strings.TrimSuffix(name, "-"+id), "_")
		if isLog && id != "" && len(part) == 3 && proper.MatchString(part[0]) && proper.MatchString(part[1]) && proper.MatchString(part[2]) {
			add(found, id, pod{part[1], part[0], part[2]})
		}
	}
	return found
}

// add leaves out what two names contend for.
func add[V comparable](to map[string]V, key string, v V) {
	var unknown V
	if have, ok := to[key]; ok && have != v {
		v = unknown
	}
	to[key] = v
}

// docker is the name that Docker gave to a container (container.Container in its daemon).
func (n *Namer) docker(id string) string {
	var c struct{ ID, Name string }
	if json.Unmarshal(read(n.Docker, filepath.Join(id, "config.v2.json")), &c) != nil || c.ID != id {
		return ""
	}
	return properly(strings.TrimPrefix(c.Name, "/"))
}

// stored are the names in a storage of podman, by id (newContainerStore() of containers/storage).
// The storage is at a path below a directory.
func stored(dir, path string) map[string]string {
	found := make(map[string]string)
	for _, driver := range []string{"overlay", "vfs", "btrfs", "zfs"} {
		for _, file := range []string{"containers.json", "volatile-containers.json"} {
			b := read(dir, filepath.Join(path, driver+"-containers", file))
			if !json.Valid(b) {
				continue
			}
			in := json.NewDecoder(bytes.NewReader(b))
			_, err := in.Token() // [
			for err == nil && in.More() {
				var c struct {
					ID    string
					Names []string
				}
				if err = in.Decode(&c); err == nil && containerID.MatchString(c.ID) && len(c.Names) > 0 {
					add(found, c.ID, properly(c.Names[0]))
				}
			}
		}
	}
	return found
}

// home is the home directory of a user; "" if it is not known.
func (n *Namer) home(uid string) string {
	for line := range bytes.Lines(read(filepath.Split(n.Passwd))) {
		if field := strings.Split(string(line), ":"); len(field) == 7 && field[2] == uid {
			return field[5]
		}
	}
	return ""
}

func properly(name string) string {
	if !proper.MatchString(name) {
		return ""
	}
	return name
}

// read reads a file below a directory; nil if it cannot be read, is no regular file, is larger
// than fileMax, or if a link leads out of the directory, which can be a user's own.
func read(dir, name string) []byte {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil
	}
	defer root.Close()
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO would block
	if err != nil {
		return nil
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(f, fileMax+1))
	if err != nil || len(b) > fileMax {
		return nil
	}
	return b
}

// list gives the names in a directory, namesMax at most.
func list(dir string) []string {
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer f.Close()
	names, _ := f.Readdirnames(namesMax)
	return names
}
