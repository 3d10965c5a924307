package doctor

import "strconv"

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
