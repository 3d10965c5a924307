package doctor

import (
	"errors"
	"os"
	"strconv"
	"strings"
)

// parseSettings reads the lines of a file of sysctls: those of TCP.
func parseSettings(file, text string) (all []Setting) {
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		key, value, ok := strings.Cut(strings.TrimPrefix(line, "-"), "=")
		key = strings.ReplaceAll(strings.TrimSpace(key), "/", ".")
		if !ok || !strings.HasPrefix(key, "net.ipv4.tcp_") && !strings.HasPrefix(key, "net.ipv4.ip_local_") && key != "net.core.somaxconn" || strings.ContainsAny(key, "*") {
			continue
		}
		s := Setting{File: file, Line: n, Key: key, Value: strings.TrimSpace(value)}
		if b, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(key, ".", "/")); err == nil {
			s.Known, s.Now = true, strings.TrimSpace(string(b))
		} else {
			s.Known = !errors.Is(err, os.ErrNotExist)
		}
		all = append(all, s)
	}
	return all
}

// lint says what is wrong with a line of a file of sysctls; "": nothing is.
func lint(s *Setting) string {
	n, err := strconv.ParseInt(s.Value, 10, 64)
	number := err == nil
	switch s.Key {
	case "net.ipv4.tcp_tw_recycle":
		return "recycle" // removed in Linux 4.12 (4396e46187ca)
	case "net.ipv4.tcp_max_tw_buckets":
		if number && n < 4096 {
			return "few_buckets"
		}
	case "net.ipv4.tcp_fin_timeout":
		if number && n < 15 {
			return "short_fin_timeout"
		}
	case "net.ipv4.tcp_timestamps":
		if number && n == 0 {
			return "no_timestamps"
		}
	case "net.ipv4.tcp_abort_on_overflow":
		if number && n == 1 {
			return "abort_on_overflow"
		}
	case "net.ipv4.tcp_syncookies":
		if number && n == 0 {
			return "no_syncookies"
		}
	case "net.ipv4.tcp_orphan_retries":
		if number && n == 1 {
			return "one_orphan_retry"
		}
	}
	if !s.Known {
		return "unknown"
	}
	return ""
}
