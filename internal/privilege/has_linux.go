package privilege

import (
	"os"
	"strings"

	"finwait/internal/kallsyms"

	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// Has says whether the process has the capability, or what it is for without:
// CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON, and kernel addresses can be
// open to all, or, with kernel.kptr_restrict=2, to nobody.
func Has(name string) bool {
	if name == Syslog {
		return addressesShown()
	}
	set := cap.GetProc()
	return has(set, cap.Effective, name) || (name == BPF || name == Perfmon) && has(set, cap.Effective, SysAdmin)
}

// has is false of a capability that the kernel does not know.
func has(set *cap.Set, flag cap.Flag, name string) bool {
	v, err := cap.FromName(strings.ToLower(name))
	if err != nil {
		return false
	}
	on, err := set.GetFlag(flag, v)
	return err == nil && on
}

func addressesShown() bool {
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		return false
	}
	defer f.Close()
	_, err = kallsyms.Find(f, nil)
	return err == nil
}
