// Package confine gives up, for the whole process and for good, what a command does
// not need any more: capabilities, and, with Landlock, files and connections.
package confine

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"finwait/internal/privilege"

	"github.com/landlock-lsm/go-landlock/landlock"
	"github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// A Need is what is still to be done when a command gives up the rest.
type Need struct {
	Capabilities []string // kept as far as they are there
	Files        bool     // files are opened, or other processes looked at: no Landlock
	RemoveDirs   []string // in these directories, empty ones are removed
	ConnectTo    []uint16 // to these TCP ports, of hosts whose names are looked up
	Check        func() error
}

// Confine takes from all threads, for good: the capabilities that are not
// needed; the way to new ones (no_new_privs); and, unless files are needed, all
// files and connections that are not open yet, with Landlock (Linux 5.13), but for RemoveDirs and
// ConnectTo. landlocked: the kernel could do that.
//
// Check must work without CAP_BPF; where the kernel refuses that (EPERM: before
// 5.19, kernel.unprivileged_bpf_disabled forbids bpf(2) altogether), it is kept.
func Confine(n Need) (landlocked bool, err error) {
	_ = time.Local.String() // reads /etc/localtime, which later would fail without a word
	if err := n.drop(); err != nil {
		return false, fmt.Errorf("give up capabilities: %w", err)
	}
	if _, err := cap.Prctlw(unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
		return false, fmt.Errorf("set no_new_privs: %w", err)
	}
	if n.Files || !Landlock() {
		return false, nil
	}
	rules := landlock.V10
	// Threads are in domains of their own before 7.0. Scopes forbid signals between
	// them on some kernels, and Go's scheduler sends such.
	rules.Scoped = 0
	may := []landlock.Rule{landlock.PathAccess(syscall.AccessFSRemoveDir, n.RemoveDirs...)}
	if len(n.ConnectTo) > 0 {
		may = append(may, lookup()...)
	}
	for _, port := range n.ConnectTo {
		may = append(may, landlock.ConnectTCP(port))
	}
	if err := rules.BestEffort().Restrict(may...); err != nil {
		return false, fmt.Errorf("confine with Landlock: %w", err)
	}
	return true, nil
}

// lookup permits what it takes to look a name up. Go's resolver reads files below /etc, and one of them
// anew when the network has changed: then it is another file of the same directory.
func lookup() []landlock.Rule {
	net.DefaultResolver.PreferGo = true // libc's would load libraries
	dirs := []string{"/etc"}
	if file, err := filepath.EvalSymlinks("/etc/resolv.conf"); err == nil && filepath.Dir(file) != dirs[0] {
		dirs = append(dirs, filepath.Dir(file))
	}
	const dns = 53
	return []landlock.Rule{
		landlock.PathAccess(syscall.AccessFSReadFile, dirs...).IgnoreIfMissing(),
		landlock.ConnectSendUDP(dns), landlock.BindUDP(0), landlock.ConnectTCP(dns),
	}
}

// Landlock says whether the kernel has it, and it is on.
func Landlock() bool {
	abi, err := syscall.LandlockGetABIVersion()
	return err == nil && abi > 0
}

// drop keeps what is needed. Inheritable and ambient capabilities go as well.
func (n *Need) drop() error {
	load := privilege.BPF
	if _, ok := permitted(cap.GetProc(), load); !ok {
		load = privilege.SysAdmin
	}
	if n.Check != nil {
		if err := keep(n.Capabilities, load); err != nil {
			return err
		}
		if err := n.Check(); errors.Is(err, unix.EPERM) {
			return keep(append([]string{load}, n.Capabilities...))
		} else if err != nil {
			return err
		}
	}
	return keep(n.Capabilities)
}

// keep leaves some capabilities in effect, and others for the process to take back.
func keep(effective []string, reserve ...string) error {
	had, set := cap.GetProc(), cap.NewSet()
	for i, name := range slices.Concat(effective, reserve) {
		v, ok := permitted(had, name)
		if !ok {
			continue
		}
		if err := set.SetFlag(cap.Permitted, true, v); err != nil {
			return err
		}
		if err := set.SetFlag(cap.Effective, i < len(effective), v); err != nil {
			return err
		}
	}
	return set.SetProc()
}

// permitted gives a capability, and whether the set permits it. The kernel may not know it.
func permitted(set *cap.Set, name string) (cap.Value, bool) {
	v, err := cap.FromName(strings.ToLower(name))
	if err != nil {
		return 0, false
	}
	on, err := set.GetFlag(cap.Permitted, v)
	return v, err == nil && on
}
