// Package netstat reads the kernel's counters of a network namespace: those of netstat -s and
// of /proc/net/sockstat.
package netstat

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Counters are the kernel's counters by name, such as Tcp.ActiveOpens or TcpExt.TW. A counter
// of /proc/net/sockstat has a name such as sockstat.TCP.tw.
type Counters map[string]int64

// Read reads the counters of the calling thread's network namespace.
func Read() (Counters, error) {
	c := make(Counters, 256)
	for file, parse := range map[string]func(io.Reader, Counters) error{
		"snmp": parsePairs, "netstat": parsePairs, "sockstat": parseSockstat,
	} {
		if err := readFile(filepath.Join("/proc/thread-self/net", file), parse, c); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func readFile(path string, parse func(io.Reader, Counters) error, c Counters) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := parse(f, c); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// parsePairs reads pairs of lines: a group and its names, then the group and its values.
func parsePairs(r io.Reader, c Counters) error {
	s := bufio.NewScanner(r)
	for s.Scan() {
		names := strings.Fields(s.Text())
		if !s.Scan() {
			return fmt.Errorf("no values for %q", names)
		}
		values := strings.Fields(s.Text())
		if len(names) == 0 || len(values) != len(names) || values[0] != names[0] {
			return fmt.Errorf("%q does not fit %q", values, names)
		}
		group := strings.TrimSuffix(names[0], ":")
		for i, name := range names[1:] {
			if err := c.set(group+"."+name, values[i+1]); err != nil {
				return err
			}
		}
	}
	return s.Err()
}

// parseSockstat reads lines that have a group, and then alternately names and values.
func parseSockstat(r io.Reader, c Counters) error {
	s := bufio.NewScanner(r)
	for s.Scan() {
		fields := strings.Fields(s.Text())
		if len(fields)%2 != 1 {
			return fmt.Errorf("%q is no line of names and values", s.Text())
		}
		group := strings.TrimSuffix(fields[0], ":")
		for i := 1; i < len(fields); i += 2 {
			if err := c.set("sockstat."+group+"."+fields[i], fields[i+1]); err != nil {
				return err
			}
		}
	}
	return s.Err()
}

// set parses a value. Values are signed or unsigned 64-bit numbers. An unsigned one wraps.
func (c Counters) set(name, value string) error {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		var u uint64
		if u, err = strconv.ParseUint(value, 10, 64); err != nil {
			return err
		}
		n = int64(u)
	}
	c[name] = n
	return nil
}
