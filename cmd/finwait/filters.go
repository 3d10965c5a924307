package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"finwait/internal/cgroup"
	"finwait/internal/label"
	"finwait/internal/netns"
	"finwait/tracer"

	"github.com/spf13/pflag"
)

// filterFlags are the filters as the user writes them. Every command has those on
// connections. A command that shows transitions has those on transitions, too.
type filterFlags struct {
	ports, localPorts, remotePorts values
	addrs, pids, comms             values
	notPorts, notAddrs             values
	notPIDs, notComms              values
	cookies, reasons               values
	role                           string
	netns, cgroups                 values
	pods, containers, units        values
	states, from, to               values
	minDuration                    time.Duration
	ipv4, ipv6                     bool

	spaces []netns.NS // those of netns, once filter has found them
}

func (f *filterFlags) register(fs *pflag.FlagSet) {
	f.registerConnections(fs)
	f.registerTransitions(fs, "")
}

// registerTransitions has the filters on single transitions. of says in the help what they choose.
func (f *filterFlags) registerTransitions(fs *pflag.FlagSet, of string) {
	fs.Var(&f.reasons, "reason", of+"`reason` for which the state was left (finwait help reasons)")
	fs.Var(&f.states, "state", of+"`state` left or entered")
	fs.Var(&f.from, "from", of+"`state` left")
	fs.Var(&f.to, "to", of+"`state` entered")
	durationVar(fs, &f.minDuration, "min-duration", 0, of+"time spent in the state that is left, at least")
}

func (f *filterFlags) registerConnections(fs *pflag.FlagSet) {
	fs.Var(&f.ports, "port", "local or remote `port`, or ports such as 8000-8099")
	fs.Var(&f.localPorts, "local-port", "local `port` or ports")
	fs.Var(&f.remotePorts, "remote-port", "remote `port` or ports")
	fs.Var(&f.addrs, "addr", "local or remote address or `CIDR`; as fe80::1%eth0 and [::1]:8080, too")
	fs.Var(&f.pids, "pid", "`pid` of the owner: the process that connected or listened")
	fs.Var(&f.comms, "comm", "`name` of the owner")
	fs.Var(&f.notPorts, "not-port", "leave out this local or remote `port`, or ports")
	fs.Var(&f.notAddrs, "not-addr", "leave out this address or `CIDR`")
	fs.Var(&f.notPIDs, "not-pid", "leave out what this `pid` owns; not what has no known owner")
	fs.Var(&f.notComms, "not-comm", "leave out what a process of this `name` owns; not what has no known owner")
	fs.Var(&f.cookies, "cookie", "`cookie` of the socket: a number, or sk:1f as ss -e prints it")
	fs.Var(&f.netns, "netns", "network namespace: `name`, path, inode number, self, or a pod, container or unit in it")
	fs.Var(&f.cgroups, "cgroup", "cgroup v2 `directory` and those below it")
	fs.Var(&f.pods, "pod", "pod: `name`, namespace/name or UID")
	fs.Var(&f.containers, "container", "container: `name`, or 12 digits of its id or more")
	fs.Var(&f.units, "unit", "systemd unit: `name`, with or without .service")
	fs.BoolVarP(&f.ipv4, "ipv4", "4", false, "IPv4 only, v4-mapped addresses included")
	fs.BoolVarP(&f.ipv6, "ipv6", "6", false, "IPv6 only")
}

// picksTransitions reports whether there is a filter on single transitions.
func (f *filterFlags) picksTransitions() bool {
	return len(f.states)+len(f.from)+len(f.to)+len(f.reasons) > 0 || f.minDuration != 0
}

// filter resolves names into what the kernel compares with.
func (f *filterFlags) filter() (tracer.Filter, error) {
	out := tracer.Filter{Comms: f.comms, NotComms: f.notComms, MinDuration: f.minDuration, IPv4: f.ipv4, IPv6: f.ipv6}
	var errs []error
	out.Ports = each(f.ports, ports, &errs)
	out.LocalPorts = each(f.localPorts, ports, &errs)
	out.RemotePorts = each(f.remotePorts, ports, &errs)
	out.NotPorts = each(f.notPorts, ports, &errs)
	out.PIDs = each(f.pids, pid, &errs)
	out.NotPIDs = each(f.notPIDs, pid, &errs)
	out.Cookies = each(f.cookies, cookie, &errs)
	f.spaces = each(f.netns, findNetNS, &errs)
	out.Addrs = each(f.addrs, f.addr, &errs)
	out.NotAddrs = each(f.notAddrs, f.addr, &errs)
	for _, ns := range f.spaces {
		out.NetNS = append(out.NetNS, ns.Cookie)
	}
	out.Cgroups = f.findCgroups(&errs)
	out.States = each(f.states, parse[tracer.State], &errs)
	out.From = each(f.from, parse[tracer.State], &errs)
	out.To = each(f.to, parse[tracer.State], &errs)
	out.Reasons = each(f.reasons, parse[tracer.Reason], &errs)
	if f.role != "" {
		var err error
		if out.Role, err = parse[tracer.Role](f.role); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 {
		return out, nil
	}
	// What is wrong and stays so comes before a name that may still appear.
	wrong := slices.IndexFunc(errs, func(err error) bool { return !errors.Is(err, fs.ErrNotExist) })
	return out, errs[max(0, wrong)]
}

func each[A, B any](in []A, convert func(A) (B, error), errs *[]error) []B {
	var out []B
	for _, a := range in {
		b, err := convert(a)
		if err != nil {
			*errs = append(*errs, err)
			continue
		}
		out = append(out, b)
	}
	return out
}

// ports reads a port, or the first and the last of several.
func ports(s string) (r tracer.PortRange, err error) {
	first, last, several := strings.Cut(s, "-")
	if r.First, err = port(first); err != nil || !several {
		return tracer.Port(r.First), err
	}
	r.Last, err = port(last)
	return r, err
}

func port(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("port %q: not a number from 1 to 65535", s)
	}
	return uint16(n), nil
}

// cookie reads a decimal number, as JSON has it, or a hexadecimal one with sk: or 0x in front.
func cookie(s string) (uint64, error) {
	digits, base := s, 10
	for _, prefix := range []string{"sk:", "0x"} {
		if hex, ok := strings.CutPrefix(s, prefix); ok {
			digits, base = hex, 16
		}
	}
	n, err := strconv.ParseUint(digits, base, 64)
	if err != nil {
		return 0, fmt.Errorf("cookie %q: neither a number nor one such as sk:1f", s)
	}
	return n, nil
}

// pid reads a process id, with or without the name that finwait prints behind it.
func pid(s string) (uint32, error) {
	number, _, _ := strings.Cut(s, "/")
	n, err := strconv.ParseUint(number, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("pid %q: not the number of a process", s)
	}
	return uint32(n), nil
}

// addr reads an address, with or without a zone and a port, or a CIDR. The name of a zone is one of
// the network namespace that --netns names, or else of finwait's own.
func (f *filterFlags) addr(s string) (tracer.AddrFilter, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return tracer.AddrFilter{Prefix: p.Masked()}, nil
	}
	a, err := netip.ParseAddr(s)
	var out tracer.AddrFilter
	if err != nil {
		end, err := netip.ParseAddrPort(s)
		if err != nil || end.Port() == 0 {
			return out, fmt.Errorf("%q is neither an address, such as 10.0.0.1 or [::1]:8080, nor a CIDR such as fe80::/10", s)
		}
		a, out.Port = end.Addr(), end.Port()
	}
	out.Prefix = netip.PrefixFrom(a.WithZone(""), a.BitLen())
	if a.Zone() == "" {
		return out, nil
	}
	if n, err := strconv.ParseUint(a.Zone(), 10, 31); err == nil && n > 0 {
		out.ScopeID = uint32(n)
		return out, nil
	}
	space := "self"
	switch {
	case len(f.spaces) == 1:
		space = f.spaces[0].Path
	case len(f.netns) > 1:
		return out, fmt.Errorf("%q: an interface is one of a single network namespace; give its number (ip link), or one --netns", s)
	}
	out.ScopeID, out.NetNSCookie, err = netns.Interface(space, a.Zone())
	if err != nil {
		return out, fmt.Errorf("%q: %w", s, err)
	}
	return out, nil
}

// findNetNS finds a network namespace as netns.Find does, and else by who lives in it.
func findNetNS(name string) (netns.NS, error) {
	ns, err := netns.Find(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return ns, err
	}
	path, notFound := label.New().FindNetNS(name)
	if errors.Is(notFound, fs.ErrNotExist) {
		return ns, err
	}
	if notFound != nil {
		return ns, notFound
	}
	ns, err = netns.Find(path)
	ns.Name = name
	return ns, err
}

// findCgroups are the cgroups that every flag for them asks for.
func (f *filterFlags) findCgroups(errs *[]error) (found []tracer.Cgroup) {
	names := label.New()
	var all [][]label.Subtree
	for _, flag := range []struct {
		values values
		find   func(string) ([]label.Subtree, error)
	}{
		{f.cgroups, func(name string) ([]label.Subtree, error) {
			id, level, path, err := cgroup.Find(name)
			return []label.Subtree{{Cgroup: tracer.Cgroup{ID: id, Level: level}, Path: path}}, err
		}},
		{f.pods, func(name string) ([]label.Subtree, error) { return names.Find(label.Pod, name) }},
		{f.containers, func(name string) ([]label.Subtree, error) { return names.Find(label.Container, name) }},
		{f.units, func(name string) ([]label.Subtree, error) { return names.Find(label.Unit, name) }},
	} {
		if len(flag.values) > 0 {
			all = append(all, slices.Concat(each(flag.values, flag.find, errs)...))
		}
	}
	if len(all) == 0 || len(*errs) > 0 {
		return nil
	}
	both := all[0]
	for _, list := range all[1:] {
		both = label.Both(both, list)
	}
	if len(both) == 0 {
		*errs = append(*errs, &tracer.FilterError{Why: "no cgroup is in all that are asked for by --cgroup, --pod, --container and --unit"})
	}
	for _, s := range both {
		found = append(found, s.Cgroup)
	}
	return found
}
