package doctor

import (
	"fmt"
	"text/template"
	"time"

	"finwait/internal/text"
)

var english = &Language{
	Tag: "en",
	funcs: common(template.FuncMap{
		"n": func(n uint64, noun string) string {
			if n == 1 {
				return "1 " + noun
			}
			return count(n) + " " + noun + "s"
		},
		"span": func(d time.Duration) string { return span(d, " d", " h", " min", " s") },
		"dur":  func(d time.Duration) string { return short(d, " ms", " s") },
		"proc": func(p Process) string {
			switch {
			case p.PID == 0:
				return "a process that is not known"
			case p.Name != "":
				return fmt.Sprintf("%s (pid %d, %s)", text.Printable(p.Comm), p.PID, text.Printable(p.Name))
			}
			return fmt.Sprintf("%s (pid %d)", text.Printable(p.Comm), p.PID)
		},
	}),
	words: map[string]string{
		"healthy": "Nothing is wrong, as far as was checked.", "cause": "cause", "fix": "fix", "do_not": "do not",
		"evidence": "see", "not_checked": "not checked", "in_part": "checked in part", "ignored": "ignored", "more": "Not shown: %s. --all shows all.",
		"inferred": "inferred", "namespace": "network namespace", "mechanism": "What happens", "sources": "Sources", "demo": "To see it happen",
		"thresholds": "Thresholds",
		"ok":         "ok", "note": "note", "risk_word": "risk", "slow": "slow", "will_fail": "will fail", "failing": "failing",
		"sockets": "Looked at %s in %s", "with_risk": "%s Risk: %s.", "stop": ".", "colon": ": ", "because": "%s, %s: ",
		"index": "Findings", "id": "id", "worst": "at worst", "what": "what it is",
		"about_index": "What `finwait doctor` can find, and how bad it is at worst. Each page says why, what mends it, and what does not. " +
			"`finwait doctor --explain ID` shows the same, `--lang zh` in Chinese.",
		"why_one_reading":  "it takes two readings (leave --snapshot out)",
		"why_no_owners":    "without CAP_SYS_PTRACE the owners of other users' sockets are not known",
		"why_no_limits":    "without CAP_SYS_PTRACE the limits of other users' processes are not known",
		"why_no_watch":     "it takes a watch of transitions (leave --snapshot out)",
		"why_no_conntrack": "the table of tracked connections cannot be read: %s",
		"why_unwatched":    "transitions cannot be seen: %s",
		"why_no_options":   "the options of listeners cannot be read: %s",
		"why_half_closed":  "there was no room for so many half-closed connections: %s were left out",
		"why_lost":         "transitions were lost: %s",
		"why_no_room":      "there was no room for so many services, destinations and connections: %s transitions were left out",
		"why_not_initial":  "the initial network namespace, which has the setting, was not read",
	},
	texts: map[string]Texts{
		"port-exhausted": {
			Title: "All local ports towards one destination are used",
			Text: `{{if .failed}}{{proc .process}}{{if .more_processes}} and other processes of that name{{end}} could not connect to {{ep .remote}}{{if .local_addr}} from {{.local_addr}}{{end}} {{n .failed "time"}}: no local port was free (EADDRNOTAVAIL).` +
				`{{if .usable}} In the end {{count .used}} of {{count .usable}} ports are used towards it, {{count .time_waits}} of them by connections in TIME_WAIT.{{end}}{{else}}` +
				`All {{count .usable}} ports that connect() can choose are used from {{.local_addr}} towards {{ep .remote}}, {{count .time_waits}} of them by connections in TIME_WAIT. The next connect() fails with EADDRNOTAVAIL.{{end}}`,
			Cause: "A connection needs a local port of its own towards each destination. The end that closes first keeps its port in TIME_WAIT for 60 s more.",
			Fixes: []Fix{
				{"Keep connections open and use them again: HTTP keep-alive towards the upstream, a pool that is large enough.", "none"},
				{"Use more addresses, on this side or on the other: each pair has its own ports.", "none"},
				{"sysctl -w net.ipv4.tcp_tw_reuse=1, if both ends use TCP timestamps.", "a connection is taken over one second after it was closed"},
				{"A wider net.ipv4.ip_local_port_range, above the ports of your listeners.", "a listener in the range may not be able to start again"},
			},
			DoNot:    []string{"net.ipv4.tcp_fin_timeout does not shorten TIME_WAIT.", "net.ipv4.tcp_tw_recycle does not exist since Linux 4.12.", "A smaller net.ipv4.tcp_max_tw_buckets makes the peer's last segments be answered with an RST."},
			Commands: []string{`finwait ls --by destination --addr {{.remote}}`, `ss -Htan dst {{.remote}} | wc -l`, `sysctl net.ipv4.ip_local_port_range net.ipv4.ip_local_reserved_ports`},
			Mechanism: "connect() without bind() looks for a local port that no other socket uses with the same local address, remote address and remote port. Sockets in TIME_WAIT, and orphans in FIN_WAIT_2, count as well, though no process has them. " +
				"At the default range of 28,232 ports and 60 to 64 s of TIME_WAIT, about 460 connections a second towards one address and port use all of them. A server is not limited so: its connections share its port.",
			Demo:    "finwait demo port-exhaustion",
			Sources: []string{"RFC 9293, 3.4.2 and 3.10.1", "__inet_hash_connect(), net/ipv4/inet_hashtables.c", "ip-sysctl.rst: ip_local_port_range, tcp_tw_reuse"},
		},
		"port-pressure": {
			Title: "Most local ports towards one destination are used",
			Text: `{{count .used}} of {{count .usable}} ports ({{pct .share}}) are used from {{.local_addr}} towards {{ep .remote}}, {{count .time_waits}} of them by connections in TIME_WAIT.` +
				`{{if .rate}} {{proc .opener}}{{if .more_processes}} and others{{end}} opened about {{n .rate "connection"}} a second for {{dur .over}}.{{if .gone_in}} If that goes on, all ports will be used in about {{span .gone_in}}.{{else if .settles}} If that goes on, it comes to {{pct .settles}} of the ports.{{end}}{{end}}` +
				`{{if .ended}} Few connections or none were opened towards it in the end: TIME_WAIT gives the ports back within about a minute.{{end}}`,
			Cause: "Connections are opened and closed faster than TIME_WAIT gives their ports back, or as many are open at once.",
			Fixes: []Fix{
				{"Keep connections open and use them again.", "none"},
				{"Use more addresses, on this side or on the other.", "none"},
			},
			DoNot:    []string{"The number of TIME_WAITs alone says nothing: only those towards one destination count together."},
			Commands: []string{`finwait ls --by destination --addr {{.remote}}`, `ss -Htan dst {{.remote}} | wc -l`},
			Mechanism: "See port-exhausted. Once half of the ports are used, connect() also takes longer: see port-search-slow. A connection that this end closes first keeps its port for 60 s of TIME_WAIT and up to one slot of the timer wheel. So as many ports are used in the long run as are open, " +
				"and as many as come into TIME_WAIT in that time (Little's law). Where tcp_tw_reuse lets connect() take TIME_WAITs over, a second counts in place of that. The pace is that of the least of three parts of the last 30 s: what has ended, or came all at once, does not go on. " +
				"If the connections stay open, their growth counts once they have half of the ports.",
			Demo:    "finwait demo port-exhaustion",
			Sources: []string{"__inet_hash_connect(), net/ipv4/inet_hashtables.c"},
		},
		"port-search-slow": {
			Title: "connect() must search for a free port",
			Text: `{{count .first_used}} of the {{count .first_usable}} ports that connect() tries first from {{.local_addr}} towards {{ep .remote}} are used. {{n .connections "connection"}} of {{proc .process}}{{if .more_processes}} and others{{end}} got another port: nine in ten took {{dur .slow}} or more, ` +
				`where a tenth of those on the first ports took {{dur .fast}} or less. The time goes into the search for a port, not into the network.`,
			Cause: "connect() tries all ports of one parity before the others, one after the other. Towards this destination nearly all of these are used, mostly in TIME_WAIT.",
			Fixes: []Fix{
				{"Keep connections open and use them again.", "none"},
				{"Use more addresses, on this side or on the other: each pair has its own ports.", "none"},
				{"In the program: IP_LOCAL_PORT_RANGE (Linux 6.3), with other ports for each worker.", "a worker has fewer ports"},
			},
			DoNot:     []string{"Do not look for lost segments: the SYN was not even sent in that time."},
			Commands:  []string{`finwait trace --from SYN_SENT --to ESTABLISHED --addr {{ep .remote}} --count 50`, `finwait ls --by destination --addr {{ep .remote}}`},
			Mechanism: "The kernel sets SYN_SENT before it looks for a port, so the time in SYN_SENT contains the search. It begins somewhere in the range and goes on in steps of 2, over the ports with the parity of the lowest one. For each port it looks whether a socket uses it towards this destination. Only when all are used it tries the other half.",
			Demo:      "finwait demo port-exhaustion",
			Sources:   []string{"__inet_hash_connect(), net/ipv4/inet_hashtables.c", "tcp_v4_connect(), net/ipv4/tcp_ipv4.c", "ip(7): IP_LOCAL_PORT_RANGE"},
		},
		"bind-before-connect": {
			Title: "A program takes a port for all destinations where one for its own would do",
			Text: `{{proc .process}}{{if .more_processes}} and other processes of that name{{end}} opened {{n .opened "connection"}}, {{count .bound}} of them from a port that bind() had chosen before. They hold {{count .held}} of {{count .usable}} ports now, each for every destination and every program.` +
				`{{if eq .held .usable}} None is left: the next bind() or connect() that needs one fails.{{end}}`,
			Cause: "The program calls bind() with an address and no port, and then connect(). bind() does not know the destination, so it takes a port that nobody uses at all.",
			Fixes: []Fix{
				{"In the program: setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, ...) before bind() (Linux 4.2). Then connect() chooses the port.", "getsockname() shows port 0 until connect()"},
				{"Leave bind() out where the source address does not matter.", "the route chooses the address"},
			},
			DoNot:    []string{"net.ipv4.ip_autobind_reuse=1 lets bind() share ports, and connect() fails then instead."},
			Commands: []string{`finwait trace --from CLOSED --to SYN_SENT --pid {{pid .process}} --count 50`, `sysctl net.ipv4.ip_local_port_range net.ipv4.ip_local_reserved_ports`},
			Mechanism: "Connections with ports of connect() can be as many as there are ports, towards each destination. Those with ports of bind() can be as many as there are ports in all, and connect() of others leaves their ports out. Where none is free, bind() fails with EADDRINUSE: that makes no transition and is not seen here. " +
				"A TIME_WAIT holds such a port as well. Ports that a program names are not counted.",
			Sources: []string{"ip(7): IP_BIND_ADDRESS_NO_PORT", "__inet_bind(), net/ipv4/af_inet.c", "inet_csk_get_port(), __inet_hash_connect()"},
		},
		"load-test-limit": {
			Title: "A load test measures the ports of its own host",
			Text: `{{proc .process}}{{if .more_processes}} and other processes of that name{{end}} made {{pct .share}} of all connections that were seen, {{count .rate}} a second, to {{ep .remote}}, and the local ports towards it run short. If it is a load test, it measures that limit and not the server.` +
				`{{if .most}} From one address to one destination about {{count .most}} connections a second are possible in the long run, as each leaves a TIME_WAIT.{{end}}`,
			Cause: "One client opens a connection for each request, to one address and port. Many clients would have ports of their own.",
			Fixes: []Fix{
				{"Let the load generator keep its connections and use them again, as clients do.", "none"},
				{"Use more source addresses, more hosts, or more ports of the server.", "none"},
			},
			DoNot:     []string{"Do not tune the server by what such a test says.", "SO_LINGER of 0 in the load generator leaves no TIME_WAIT, and tests resets."},
			Commands:  []string{`finwait ls --by destination --addr {{ep .remote}}`, `finwait stat --for 10s`},
			Mechanism: "A port is in use while the connection is open, and for 60 s more at the end that closes first. See port-exhausted, port-pressure and port-search-slow: one of them is found as well.",
			Demo:      "finwait demo port-exhaustion",
			Sources:   []string{"RFC 9293, 3.4.2", "ip-sysctl.rst: ip_local_port_range"},
		},
		"listener-in-ephemeral-range": {
			Title: "A listener's port is one that connect() may choose",
			Text:  `{{proc .process}} listens on port {{.port}}, which is within {{.low}} to {{.high}}. If an outgoing connection gets this port while the listener restarts, it cannot start until that connection is gone, and a minute more.`,
			Cause: "connect() avoids a port that is bound. While the listener is not there it does not.",
			Fixes: []Fix{
				{"Add the port to net.ipv4.ip_local_reserved_ports.", "writing replaces the list: keep what is in it"},
				{"Let the program listen on a port below the range.", "none"},
			},
			DoNot:     []string{"net.ipv4.ip_local_port_range = 1024 65535 puts every service into the range.", "SO_REUSEADDR does not help: the socket in TIME_WAIT of an outgoing connection has not set it."},
			Commands:  []string{`ss -Htln sport = :{{.port}}`, `sysctl net.ipv4.ip_local_port_range net.ipv4.ip_local_reserved_ports`},
			Mechanism: "bind() to a port fails if another socket uses it, and one of the two has not set SO_REUSEADDR. A client's socket mostly has not. A port that the program let the kernel choose (bind to port 0) is in the range on purpose; which those are cannot be told from outside.",
			Sources:   []string{"inet_csk_get_port(), inet_bind_conflict(), net/ipv4/inet_connection_sock.c", "ip-sysctl.rst: ip_local_reserved_ports"},
		},
		"port-range-shape": {
			Title:     "There are few ports for outgoing connections",
			Text:      `connect() can choose from {{n .usable "port"}} only, of {{.low}} to {{.high}} less those that are reserved.`,
			Cause:     "net.ipv4.ip_local_port_range is narrow, or net.ipv4.ip_local_reserved_ports reserves much of it.",
			Fixes:     []Fix{{"A wider net.ipv4.ip_local_port_range, above the ports of your listeners.", "listeners inside the range: see listener-in-ephemeral-range"}},
			Commands:  []string{`sysctl net.ipv4.ip_local_port_range net.ipv4.ip_local_reserved_ports`},
			Mechanism: "The ports count for each pair of a local address and a destination apart. Few are enough for a host that opens few connections to each.",
			Sources:   []string{"ip-sysctl.rst: ip_local_port_range"},
		},
		"time-wait-harmless": {
			Title: "Many sockets in TIME_WAIT, and they do no harm",
			Text:  `{{n .time_waits "socket"}} in TIME_WAIT: harmless. {{count .served}} belong to listeners and share their ports; {{count .opened}} hold at most {{pct .worst_share}} of the ports towards any destination. They take {{size .bytes}}.`,
			Cause: "The end that closes first remembers the connection for 60 s, so that a late segment does not reach a new connection.",
			Fixes: []Fix{{"Nothing needs to be done.", "none"}},
			DoNot: []string{"No sysctl shortens TIME_WAIT: it is 60 s in the kernel's source. net.ipv4.tcp_fin_timeout is for FIN_WAIT_2.",
				"SO_REUSEADDR does not avoid TIME_WAIT. It lets bind() pass one, if the old socket had set it, too.",
				"A server does not run out of ports: its connections share one. Ends that connect do."},
			Commands:  []string{`finwait ls --by port --state time-wait`, `ss -s`},
			Mechanism: "A socket in TIME_WAIT is a minisock of 256 bytes that no process has. It lasts 60 s and up to a slot of the kernel's timer wheel (62.05 s at 250 Hz), and longer if a segment arrives for it: not 1 to 4 minutes, as is often said. It costs no file, no process and no time.",
			Demo:      "finwait demo close",
			Sources:   []string{"RFC 9293, 3.4.2", "TCP_TIMEWAIT_LEN, include/net/tcp.h", "inet_twsk_alloc(), net/ipv4/inet_timewait_sock.c"},
		},
		"time-wait-overflow": {
			Title: "There is no room for more sockets in TIME_WAIT",
			Text:  `{{if .overflows}}{{n .overflows "connection"}} ended without TIME_WAIT since the first reading, for want of room{{else}}{{count .minisocks}} of {{count .limit}} places for TIME_WAIT are taken{{end}} (net.ipv4.tcp_max_tw_buckets is {{count .limit}}).`,
			Cause: "At the limit a connection ends without TIME_WAIT. A FIN that its peer sends after that is answered with an RST.",
			Fixes: []Fix{{"A larger net.ipv4.tcp_max_tw_buckets in this network namespace.", "256 bytes for each"}},
			DoNot: []string{"Do not lower the limit to get rid of TIME_WAITs: the peers get resets.",
				"At the limit no SYN is refused: new connections work."},
			Commands:  []string{`nstat -az TcpExtTCPTimeWaitOverflow`, `sysctl net.ipv4.tcp_max_tw_buckets`, `finwait ls --by state --state time-wait,fin-wait-2`},
			Mechanism: "The limit counts minisocks of the network namespace: TIME_WAIT, and orphans in FIN_WAIT_2. Its default depends on the memory of the host.",
			Demo:      "finwait demo overflow",
			Sources:   []string{"inet_twsk_alloc(), tcp_time_wait()", "ip-sysctl.rst: tcp_max_tw_buckets"},
		},
		"fin-timeout-misunderstood": {
			Title:     "tcp_fin_timeout was lowered, and has no effect on TIME_WAIT",
			Text:      `net.ipv4.tcp_fin_timeout is {{.fin_timeout}} s. It does not shorten TIME_WAIT, in which there are {{n .time_waits "socket"}}, but FIN_WAIT_2 after close(), in which there are {{n .orphans "socket"}}.`,
			Cause:     "Many posts say that it shortens TIME_WAIT.",
			Fixes:     []Fix{{"Back to the default of 60.", "none"}},
			DoNot:     []string{"A short timeout cuts off peers that need longer to close; what they still send is answered with an RST."},
			Commands:  []string{`sysctl net.ipv4.tcp_fin_timeout`, `ss -Htano state time-wait | head`},
			Mechanism: "TIME_WAIT always begins with TCP_TIMEWAIT_LEN, 60 s. tcp_fin_timeout is how long the kernel keeps a connection in FIN_WAIT_2 that the program has closed, while its peer has not.",
			Demo:      "finwait demo orphan",
			Sources:   []string{"tcp_time_wait(), net/ipv4/tcp_minisocks.c", "ip-sysctl.rst: tcp_fin_timeout"},
		},
		"tw-reuse-cannot-help": {
			Title: "tcp_tw_reuse does not give these ports back",
			Text: `connect() cannot take over the ports in TIME_WAIT towards {{ep .remote}}: {{if eq .why "off"}}net.ipv4.tcp_tw_reuse is 0{{else if eq .why "loopback"}}net.ipv4.tcp_tw_reuse is 2, which is for loopback addresses only{{else if eq .why "timestamps"}}net.ipv4.tcp_timestamps is 0, and it needs them{{else}}` +
				`{{n .orphans "port"}} are held in FIN_WAIT_2, which it never takes over{{end}}.`,
			Cause:     "connect() takes over a connection in TIME_WAIT only if TCP timestamps prove that old segments would be recognised.",
			Fixes:     []Fix{{"sysctl -w net.ipv4.tcp_tw_reuse=1 and net.ipv4.tcp_timestamps=1, on both ends for the latter.", "a connection is taken over one second after it was closed"}, {"Keep connections open and use them again.", "none"}},
			DoNot:     []string{"net.ipv4.tcp_tw_reuse does nothing for a server: it is for connect()."},
			Commands:  []string{`sysctl net.ipv4.tcp_tw_reuse net.ipv4.tcp_timestamps`},
			Mechanism: "With 1, or with 2 where one address is of the loopback, a connection in TIME_WAIT is taken over when timestamps were seen on it and it is older than one second.",
			Demo:      "finwait demo reuse",
			Sources:   []string{"tcp_twsk_unique(), net/ipv4/tcp_ipv4.c", "ip-sysctl.rst: tcp_tw_reuse"},
		},
		"tw-reuse-verdict": {
			Title: "What tcp_tw_reuse does on this host",
			Text: `net.ipv4.tcp_tw_reuse is 1. {{if .reused}}It is at work: connect() took the ports of {{n .reused "TIME_WAIT"}} over{{if .after}}, after {{dur .after}} at the median{{end}}.` +
				`{{else}}It does nothing here: it is for connect(), and no connection was opened. The {{n .time_waits "TIME_WAIT"}} are of ports that are listened on.{{end}}`,
			Cause:     "It lets connect() take over a port in TIME_WAIT after a second. It never ends a TIME_WAIT by itself, and a listener does not need it.",
			Fixes:     []Fix{{"Nothing needs to be done.", "none"}},
			DoNot:     []string{"Do not set it to get rid of a server's TIME_WAITs: they share the port of the listener, and a SYN of the same client takes them over without it."},
			Commands:  []string{`sysctl net.ipv4.tcp_tw_reuse net.ipv4.tcp_timestamps`, `finwait trace --from TIME_WAIT --reason reused --count 10`, `nstat -az TcpExtTWRecycled`},
			Mechanism: "Where connect() meets a TIME_WAIT with the same addresses and ports, it takes it over if timestamps were seen on it and if it is older than a second. Connections from a port that was bound before are left out here: these do so whatever is set.",
			Demo:      "finwait demo reuse",
			Sources:   []string{"tcp_twsk_unique(), net/ipv4/tcp_ipv4.c", "ip-sysctl.rst: tcp_tw_reuse"},
		},
		"close-wait-leak": {
			Title: "A program does not close connections that its peers have closed",
			Text: `{{proc .process}} has not closed {{n .sockets "connection"}} {{if .local_port}}on its port {{.local_port}}{{else}}to {{ep .remote}}{{end}} that the other end has closed, the oldest at least {{span .oldest}} ago.` +
				`{{if .file_limit}} It has {{count .files}} of {{count .file_limit}} files open.{{end}}`,
			Cause:     "The program does not call close(): it does not read, or it ignores that read() returned 0.",
			Fixes:     []Fix{{"In the program: close() when read() returns 0; let pools test idle connections.", "none"}, {"Until then: restart it before it reaches its limit of open files.", "its connections are cut"}},
			DoNot:     []string{"No sysctl ends CLOSE_WAIT. Keepalive finds peers that are gone; here the peer has said goodbye."},
			Commands:  []string{`finwait ls --sockets --state close-wait --min-age 1m`, `ss -Htanp state close-wait`},
			Mechanism: "A FIN has arrived, so the connection is in CLOSE_WAIT until the program calls close() or shutdown(). Nothing else ends it. A protocol may use half-closed connections on purpose; those send data in CLOSE_WAIT, and what the peer acknowledges makes the age small.",
			Demo:      "finwait demo close-wait-leak",
			Sources:   []string{"RFC 9293, 3.6", "tcp_fin(), net/ipv4/tcp_input.c"},
		},
		"half-closed-held": {
			Title:     "A program waits for peers that do not close",
			Text:      `{{proc .process}} holds {{n .sockets "connection"}} {{if .local_port}}on its port {{.local_port}}{{else}}to {{ep .remote}}{{end}} half-closed, the oldest for at least {{span .oldest}}: it has called shutdown(), and the other end does not close.`,
			Cause:     "shutdown() sends a FIN and keeps the socket. It stays in FIN_WAIT_2 until the peer closes, or the program does.",
			Fixes:     []Fix{{"In the program: close() after a deadline, or TCP_USER_TIMEOUT, or keepalive.", "data that the peer still sends is lost"}},
			DoNot:     []string{"net.ipv4.tcp_fin_timeout is for sockets that were closed, and not for these."},
			Commands:  []string{`finwait ls --sockets --state fin-wait-2 --min-age 1m`, `ss -Htanpo state fin-wait-2`},
			Mechanism: "The kernel's timer of FIN_WAIT_2 is started when the program closes the socket. As long as a process has it, there is none.",
			Demo:      "finwait demo half-close",
			Sources:   []string{"tcp_shutdown(), __tcp_close(), net/ipv4/tcp.c"},
		},
		"accept-stall": {
			Title: "A program does not accept its connections",
			Text:  `{{n .sockets "connection"}} to {{ep .local}} {{if eq .sockets 1}}waits{{else}}wait{{end}} to be accepted, the oldest for at least {{span .oldest}}{{if .left}}; of those, {{count .left}} were closed by the other end meanwhile{{end}}. {{proc .process}} listens there and has not accepted them.`,
			Cause: "The program is blocked, stopped, out of files, or has too few workers.",
			Fixes: []Fix{{"Look at the program: /proc/PID/stack, its limit of open files, what its threads wait for.", "none"}},
			DoNot: []string{"A longer queue makes clients wait longer, and does not make the program accept.",
				"This is no leak of the program, though ss shows CLOSE_WAIT: no process has these sockets yet."},
			Commands:  []string{`finwait ls --sockets --local-port {{port .local}} --columns state,local,remote,held,age`, `ss -Htln sport = :{{port .local}}`},
			Mechanism: "The kernel finishes the handshake by itself and puts the connection into the queue of the listener. Until accept() takes it, no process has it, and it has no inode.",
			Sources:   []string{"inet_csk_accept(), net/ipv4/inet_connection_sock.c", "listen(2)"},
		},
		"listen-overflow": {
			Title: "The accept queue of a listener is full",
			Text: `{{if .full}}{{proc .process}} on {{ep .local}}: {{count .waiting}} connections wait in a queue for {{count .limit}}{{if eq .limited_by "somaxconn"}}, the limit of net.core.somaxconn{{else}}, the limit since its listen() (net.core.somaxconn is {{count .somaxconn}} now){{end}}. ` +
				`{{if .dropped}}{{n .dropped "SYN"}} {{if eq .dropped 1}}was{{else}}were{{end}} dropped in this network namespace since the first reading.{{else}}The next SYN is dropped.{{end}}` +
				`{{else}}{{n .dropped "SYN"}} {{if eq .dropped 1}}was{{else}}were{{end}} dropped in this network namespace since the first reading, as the queue of a listener was full; none is now.{{end}}`,
			Cause:     "Connections arrive faster than the program accepts them. A client whose SYN is dropped tries again after a second, and then later and later.",
			Fixes:     []Fix{{"See accept-stall first: more workers, or nothing that blocks them.", "none"}, {"A larger backlog in the program's listen(), and net.core.somaxconn as large; then restart it.", "memory, and longer waits"}},
			DoNot:     []string{"net.ipv4.tcp_max_syn_backlog is not this queue.", "net.ipv4.tcp_abort_on_overflow=1 makes a second's delay a failure."},
			Commands:  []string{`nstat -az TcpExtListenOverflows TcpExtListenDrops`, `finwait ls --sockets --state listen --columns local,recv-q,send-q,pid,comm`},
			Mechanism: "The queue has room for one more than the limit, which is the smaller of listen()'s backlog and net.core.somaxconn at the time of listen(). The counters are those of the network namespace, and count the client's repetitions as well.",
			Sources:   []string{"sk_acceptq_is_full(), tcp_conn_request()", "listen(2)"},
		},
		"sysctl-lint": {
			Title: "A setting that does not do what people think",
			Text: `{{.file}}:{{.line}}: {{.key}} = {{.value}}: {{if eq .why "recycle"}}it does not exist since Linux 4.12, so the line does nothing{{else if eq .why "few_buckets"}}at so low a limit connections end without TIME_WAIT, and their peers get resets{{else if eq .why "short_fin_timeout"}}it does not shorten TIME_WAIT, and cuts off peers that are slow to close` +
				`{{else if eq .why "no_timestamps"}}without timestamps old segments are not recognised, and tcp_tw_reuse does not work{{else if eq .why "abort_on_overflow"}}a client gets a reset where it would have waited a second{{else if eq .why "no_syncookies"}}a full SYN queue drops clients{{else if eq .why "one_orphan_retry"}}peers that are slow to answer are cut off{{else}}the running kernel has no such setting{{end}}.`,
			Cause:     "The line was copied from advice for other kernels, or from wrong advice.",
			Fixes:     []Fix{{"Remove the line, then: sysctl --system.", "none; what is set stays until it is set again or the host is restarted"}},
			Commands:  []string{`grep -n {{.key}} {{.file}}`, `sysctl {{.key}}`},
			Mechanism: "Each kind of line has its own reason, which the finding says. See also finwait help reasons.",
			Sources:   []string{"ip-sysctl.rst", "4396e46187ca (\"tcp: remove tcp_tw_recycle\", Linux 4.12)"},
		},
		"hidden-namespaces": {
			Title:     "Most TIME_WAITs are in other network namespaces",
			Text:      `{{n .elsewhere "socket"}} in TIME_WAIT are in {{n .namespaces "other network namespace"}}; here are {{count .here}}. ss and netstat show those that are here only.`,
			Cause:     "Each container or pod has a network namespace of its own.",
			Fixes:     []Fix{{"Nothing needs to be done. finwait ls --by netns shows all.", "none"}},
			Commands:  []string{`finwait ls --by netns --state time-wait`, `lsns -t net`},
			Mechanism: "Sockets, ports, counters and most sysctls belong to a network namespace.",
			Sources:   []string{"network_namespaces(7)"},
		},
		"ports-held-by-binders": {
			Title: "Ports for outgoing connections are held by bind()",
			Text: `No local port is left {{if .remote}}from {{.local_addr}} towards {{ep .remote}}, though only {{count .used}} of {{count .usable}} are used towards it{{else}}for connect(){{end}}: ` +
				`{{n .held "port"}} {{if eq .held 1}}is{{else}}are{{end}} held by listeners and by sockets that are only bound{{if .bound_by_process}}, {{count .bound_by_process}} of them by {{proc .holder}}{{end}}. The next connect() fails with EADDRNOTAVAIL.`,
			Cause: "connect() takes no port that belongs to a bind(), whatever the destination.",
			Fixes: []Fix{
				{"In the program that binds: IP_BIND_ADDRESS_NO_PORT before bind() to port 0, so that connect() chooses the port.", "getsockname() shows port 0 until connect()"},
				{"Close sockets that are bound and not used.", "none"},
			},
			DoNot:     []string{"net.ipv4.ip_autobind_reuse=1 lets bind() share ports, and connect() fails then instead."},
			Commands:  []string{`ss -Htanp state closed`, `ss -Htln`, `sysctl net.ipv4.ip_local_port_range net.ipv4.ip_local_reserved_ports`},
			Mechanism: "A port that bind() took is kept for the socket that bound it, and connect() of others skips it. Sockets that were bound before they connected hold theirs in the same way; no kernel lists which those are, so they are not among the held ports here.",
			Sources:   []string{"__inet_hash_connect(), net/ipv4/inet_hashtables.c", "ip(7): IP_BIND_ADDRESS_NO_PORT"},
		},
		"fin-wait-1-stuck": {
			Title: "The end of a connection is stuck in FIN_WAIT_1",
			Text: `{{if eq .why "window"}}{{n .sockets "connection"}} {{if .local_port}}on port {{.local_port}}{{else}}to {{ep .remote}}{{end}} {{if eq .sockets 1}}was{{else}}were{{end}} closed here, but the other end does not read the last {{size .bytes}}, which the kernel keeps. Nothing could be sent for {{span .oldest}}.` +
				`{{else}}{{n .sockets "connection"}} {{if .local_port}}on port {{.local_port}}{{else}}to {{ep .remote}}{{end}} {{if eq .sockets 1}}was{{else}}were{{end}} closed here, and the other end does not answer: the last segment was sent again at least {{n .retries "time"}}.{{end}}{{if .local_port}} One of the peers is {{ep .example}}.{{end}}`,
			Cause: "The FIN goes after the data. A peer that does not read closes its window, and the FIN must wait; a peer that is gone acknowledges nothing.",
			Fixes: []Fix{
				{"For peers that do not read: TCP_USER_TIMEOUT on the socket, or the program's own limit such as send_timeout of nginx.", "slow clients are cut off"},
				{"For peers that are gone: net.ipv4.tcp_orphan_retries=3.", "peers that are slow to answer, and alive, are cut off"},
			},
			DoNot:     []string{"net.ipv4.tcp_fin_timeout begins only when the FIN was acknowledged."},
			Commands:  []string{`finwait ls --sockets --state fin-wait-1`, `ss -Htano state fin-wait-1`},
			Mechanism: "After close() the kernel goes on to send what the program has written. The timer of ss is persist where the peer's window is closed, and on where the kernel waits for an acknowledgment. Such a socket is an orphan and counts against net.ipv4.tcp_max_orphans.",
			Sources:   []string{"RFC 9293, 3.6 and 3.8.6.1", "tcp_probe_timer(), tcp_write_timeout(), net/ipv4/tcp_timer.c", "ip-sysctl.rst: tcp_orphan_retries"},
		},
		"last-ack-stuck": {
			Title:     "The last ACK does not come",
			Text:      `{{n .sockets "connection"}} {{if .local_port}}on port {{.local_port}}{{else}}to {{ep .remote}}{{end}} {{if eq .sockets 1}}waits{{else}}wait{{end}} in LAST_ACK: the FIN was sent again at least {{n .retries "time"}}, and the other end does not acknowledge it.{{if .local_port}} One of the peers is {{ep .example}}.{{end}}`,
			Cause:     "The other end closed first, and is gone now; or a firewall between has forgotten the connection.",
			Fixes:     []Fix{{"Look at the peer, and at the firewalls and NATs between: do they drop a connection at its first FIN?", "none"}},
			DoNot:     []string{"No sysctl needs to be changed for a few of these: the kernel gives up by itself."},
			Commands:  []string{`finwait ls --sockets --state last-ack`, `ss -Htano state last-ack`},
			Mechanism: "LAST_ACK ends when the FIN is acknowledged. The FIN is repeated, after a time that doubles each time, up to net.ipv4.tcp_orphan_retries times, where 0 means 8.",
			Sources:   []string{"RFC 9293, 3.6", "tcp_orphan_retries(), net/ipv4/tcp_timer.c", "ip-sysctl.rst: tcp_orphan_retries"},
		},
		"handshake-not-finished": {
			Title: "Handshakes do not finish",
			Text: `{{n .handshakes "handshake"}} on port {{.local_port}} {{if eq .handshakes 1}}hangs{{else}}hang{{end}}: the SYN-ACK was sent again at least {{n .retries "time"}}, and its ACK does not come. ` +
				`{{if eq .peers 1}}All are of {{.remote_addr}}.{{else}}They are of {{count .peers}} addresses; {{count .of_remote_addr}} of {{.remote_addr}}.{{end}}`,
			Cause:     "The SYN-ACK or its ACK is lost: the way back is another one, or a firewall drops it. Or the addresses of the SYNs are forged.",
			Fixes:     []Fix{{"Follow the segments: ip route get ADDRESS, and tcpdump at both ends.", "none"}},
			DoNot:     []string{"A longer SYN queue only keeps more of them."},
			Commands:  []string{`finwait ls --sockets --state new-syn-recv --local-port {{.local_port}}`, `ss -Htano state syn-recv sport = :{{.local_port}}`},
			Mechanism: "Until the ACK arrives there is no socket, only a request. The kernel repeats the SYN-ACK after 1, 2, 4, ... s, up to net.ipv4.tcp_synack_retries times.",
			Sources:   []string{"reqsk_timer_handler(), net/ipv4/inet_connection_sock.c", "ip-sysctl.rst: tcp_synack_retries"},
		},
		"syn-queue-cookies": {
			Title: "A SYN queue was full",
			Text: `{{if eq .why "dropped"}}{{n .dropped "SYN"}} {{if eq .dropped 1}}was{{else}}were{{end}} dropped since the first reading, because a SYN queue was full and SYN cookies are off.` +
				`{{else}}A SYN queue was full {{n .full "time"}} since the first reading. {{n .sent "SYN cookie"}} {{if eq .sent 1}}was{{else}}were{{end}} sent, and {{count .received}} came back. {{if eq .why "clients"}}So these are real clients, and the queue is too short for them.{{else}}The others are lost segments, clients that are gone, or a flood.{{end}}{{end}}`,
			Cause: "More handshakes are under way than the listener has room for. The limit is that of its accept queue.",
			Fixes: []Fix{
				{"A larger backlog in the program's listen(), and net.core.somaxconn at least as large; then restart the program.", "memory, and a longer wait"},
				{"If cookies do not come back: see handshake-not-finished.", "none"},
			},
			DoNot:     []string{"net.ipv4.tcp_syncookies=0 drops the clients instead.", "net.ipv4.tcp_max_syn_backlog is no limit while SYN cookies are on."},
			Commands:  []string{`nstat -az TcpExtTCPReqQFullDoCookies TcpExtTCPReqQFullDrop TcpExtSyncookiesSent TcpExtSyncookiesRecv`, `finwait ls --sockets --state new-syn-recv`},
			Mechanism: "With a full queue the kernel answers with a SYN cookie and keeps nothing. A client that answers is connected, without some TCP options. The kernel's message \"possible SYN flooding\" means this, and not that there is an attack.",
			Sources:   []string{"tcp_syn_flood_action(), tcp_conn_request(), net/ipv4/tcp_input.c", "RFC 4987, 3.6", "ip-sysctl.rst: tcp_syncookies"},
		},
		"conntrack-table": {
			Title: "The table of tracked connections is nearly full",
			Text:  `The connection tracking of this network namespace has {{count .entries}} of {{count .limit}} entries ({{pct .share}}). When it is full, the first segments of new connections are dropped. The kernel itself has {{n .time_waits "socket"}} in TIME_WAIT here.`,
			Cause: "A firewall or NAT of this host tracks every connection, and keeps the entry for a while after its end: 120 s for TIME_WAIT, twice as long as the socket.",
			Fixes: []Fix{
				{"A larger net.netfilter.nf_conntrack_max, and hash table (nf_conntrack_buckets).", "memory"},
				{"net.netfilter.nf_conntrack_tcp_timeout_time_wait=70.", "a TIME_WAIT that a late segment has started again outlives its entry"},
			},
			DoNot:     []string{"A short nf_conntrack_tcp_timeout_established cuts connections that are idle."},
			Commands:  []string{`sysctl net.netfilter.nf_conntrack_count net.netfilter.nf_conntrack_max`, `conntrack -S`},
			Mechanism: "The table counts entries of the network namespace: UDP and others, too, not TCP alone. Its states have timeouts of their own, and are not those of sockets.",
			Sources:   []string{"__nf_conntrack_alloc(), net/netfilter/nf_conntrack_core.c", "nf_conntrack_proto_tcp.c: tcp_timeouts[]", "nf_conntrack-sysctl.rst"},
		},
		"orphans-near-limit": {
			Title: "The host has many orphans",
			Text: `{{if .aborted}}{{n .aborted "connection"}} {{if eq .aborted 1}}was{{else}}were{{end}} reset since the first reading, because there were too many orphans or too little memory for TCP. {{end}}` +
				`The host has {{n .orphans "orphan"}}, and net.ipv4.tcp_max_orphans is {{count .limit}}.`,
			Cause: "Programs close connections whose peers do not read, or do not answer.",
			Fixes: []Fix{
				{"See fin-wait-1-stuck and last-ack-stuck for whose they are.", "none"},
				{"A larger net.ipv4.tcp_max_orphans.", "up to 64 KB of memory that cannot be swapped for each"},
			},
			DoNot:     []string{"Sockets in TIME_WAIT and CLOSE_WAIT are no orphans: there is nothing to do about them here."},
			Commands:  []string{`cat /proc/net/sockstat`, `finwait ls --sockets --state fin-wait-1,last-ack,closing`, `sysctl net.ipv4.tcp_max_orphans`},
			Mechanism: "An orphan was closed by its program, and its end is not over: FIN_WAIT_1, FIN_WAIT_2 before it is a minisock, LAST_ACK, CLOSING. Number and limit are those of the host and not of a network namespace. The kernel counts an orphan twice or four times if its peer is slow, so resets can begin at a quarter of the limit.",
			Sources:   []string{"tcp_out_of_resources(), net/ipv4/tcp_timer.c", "ip-sysctl.rst: tcp_max_orphans"},
		},
		"too-many-files": {
			Title: "A program has no files left to accept connections",
			Text:  `{{proc .process}} has {{count .files}} of {{count .file_limit}} files open, and {{n .waiting "connection"}} {{if eq .waiting 1}}waits{{else}}wait{{end}} to be accepted on {{ep .local}}.{{if ge .files .file_limit}} accept() fails with EMFILE.{{end}}`,
			Cause: "Each connection that is accepted takes a file, and the limit (RLIMIT_NOFILE) is reached.",
			Fixes: []Fix{
				{"A higher limit: LimitNOFILE= of the unit, ulimit -n, or prlimit --nofile for the running process.", "a program that uses select() must stay below 1,024"},
				{"Look for what the program does not close: see close-wait-leak.", "none"},
			},
			DoNot:     []string{"A longer backlog makes the clients wait longer, and gives the program no file.", "fs.file-max is the limit of the host, and not this one."},
			Commands:  []string{`grep 'open files' /proc/{{pid .process}}/limits`, `ls /proc/{{pid .process}}/fd | wc -l`},
			Mechanism: "accept() fails with EMFILE and leaves the connection in the queue. Many programs then try again at once and use a whole CPU.",
			Sources:   []string{"accept(2): EMFILE", "getrlimit(2): RLIMIT_NOFILE"},
		},
		"ipv6-only-listener": {
			Title:     "A listener takes IPv6 only",
			Text:      `{{proc .process}} listens on {{ep .local}} for IPv6 only, and nothing listens on port {{port .local}} for IPv4: IPv4 clients are refused.`,
			Cause:     "The program has set IPV6_V6ONLY, or net.ipv6.bindv6only is 1.",
			Fixes:     []Fix{{"Let the program listen for IPv4, too: on 0.0.0.0, or without IPV6_V6ONLY.", "the port is open to IPv4 then: look at the firewall"}},
			DoNot:     []string{"net.ipv6.bindv6only is only the default of new sockets: most programs set the option themselves."},
			Commands:  []string{`ss -Htlnpe sport = :{{port .local}}`, `sysctl net.ipv6.bindv6only`},
			Mechanism: "A socket on :: takes connections of both families, IPv4 as ::ffff:a.b.c.d, unless IPV6_V6ONLY is set. Programs set it in order to have a socket for each family; here only one of the two is there.",
			Sources:   []string{"ipv6(7): IPV6_V6ONLY", "ip-sysctl.rst: bindv6only"},
		},
		"host-sysctl-not-in-namespace": {
			Title:    "A setting of the host does not reach its containers",
			Text:     `{{.key}} is {{.value}} in the initial network namespace, but {{n .namespaces "other network namespace"}} with sockets {{if eq .namespaces 1}}has{{else}}have{{end}} the kernel's default{{if .default}}, {{.default}}{{end}}.`,
			Cause:    "A new network namespace begins with the defaults of the kernel, and not with the settings of the host.",
			Fixes:    []Fix{{"Set it in each namespace that needs it: docker run --sysctl, or securityContext.sysctls of a pod.", "which sysctls a pod may set depends on the version of Kubernetes, and on --allowed-unsafe-sysctls of the kubelet"}},
			DoNot:    []string{"Setting it on the host once more changes nothing in the containers."},
			Commands: []string{`sysctl {{.key}}`, `nsenter --net=/proc/PID/ns/net sysctl {{.key}}`},
			Mechanism: "Most sysctls of net.ipv4 and net.core are those of a network namespace. Of TCP's only tcp_rmem, tcp_wmem and the congestion control are taken over from the initial one. " +
				"A pod may set ip_local_port_range and tcp_syncookies; since Kubernetes 1.27 ip_local_reserved_ports; since 1.29 tcp_fin_timeout and tcp_keepalive_time, _intvl and _probes; since 1.32 tcp_rmem and tcp_wmem. " +
				"Others, such as tcp_tw_reuse, tcp_max_tw_buckets and somaxconn, the kubelet must allow: --allowed-unsafe-sysctls.",
			Sources: []string{"tcp_sk_init(), net/ipv4/tcp_ipv4.c", "network_namespaces(7)", "kubernetes.io: Linux Kernel Version Requirements, Pod sysctls"},
		},
		"restart-needs-reuseaddr": {
			Title: "A server could not bind its port again if it were restarted now",
			Text: `If {{proc .process}} is restarted now, its bind() to {{ep .local}} {{if .minisocks}}fails{{else}}can fail{{end}} with EADDRINUSE: it does not set SO_REUSEADDR, and {{n .sockets "connection"}} of the port {{if eq .sockets 1}}is{{else}}are{{end}} still there` +
				`{{if .minisocks}}, {{count .minisocks}} of them without a process, the last for {{span .left}} more{{end}}.{{if .open}} Those that are open may stay for a minute after it has closed them.{{end}}`,
			Cause: "bind() to a port fails while a connection holds it, TIME_WAIT included, unless both the new socket and the connection have SO_REUSEADDR. A connection inherits it from its listener.",
			Fixes: []Fix{
				{"In the program: SO_REUSEADDR before bind().", "none on Linux: two listeners cannot share a port with it"},
				{"For this one restart: wait until the connections are gone, and try bind() again.", "the server is away for so long"},
			},
			DoNot:     []string{"SO_REUSEADDR in the new version only does not help the first restart: the old connections have not set it.", "net.ipv4.tcp_tw_reuse is for connect(), and not for bind()."},
			Commands:  []string{`ss -Htan sport = :{{port .local}}`, `finwait ls --sockets --local-port {{port .local}}`},
			Mechanism: "The end that closes first holds the connection in TIME_WAIT for 60 s, and a server that ends closes its connections first. With SO_REUSEPORT the new socket passes them, too, if it sets the option and belongs to the same user; such listeners are not counted. sock_diag does not tell the options of a socket: an iterator of the kernel does.",
			Demo:      "finwait demo rebind",
			Sources:   []string{"inet_bind_conflict(), net/ipv4/inet_connection_sock.c", "sk_clone(), net/core/sock.c", "tcp_time_wait(), net/ipv4/tcp_minisocks.c", "socket(7): SO_REUSEADDR"},
		},
		"v6-first-refused": {
			Title: "A program tries IPv6 first, and is refused there",
			Text: `{{proc .process}}{{if .more_processes}} and other processes of that name{{end}} connected to {{ep .fallback}} {{n .connections "time"}}, each time right after {{ep .remote}} had refused it.` +
				`{{if eq .why "nothing"}} Nothing listens there.{{else if eq .why "elsewhere"}} There is a listener on {{ep .listens_on}} only.{{end}} Each of these took two tries.`,
			Cause: "A name such as localhost has an address of each family, and the program tries that of IPv6 first. The server listens for IPv4 only.",
			Fixes: []Fix{{"Let the server listen for IPv6, too.", "it can be reached over IPv6: look at the firewall"},
				{"Let the program connect to the IPv4 address, such as 127.0.0.1 in place of localhost.", "none"}},
			DoNot:     []string{"net.ipv6.conf.all.disable_ipv6=1 takes IPv6 from every program of the network namespace."},
			Commands:  []string{`finwait trace --from SYN_SENT --reason refused --addr {{ep .remote}} --count 10`, `ss -Htlnp sport = :{{port .remote}}`},
			Mechanism: "Counted is a connect() over IPv4 that began within 50 ms after the same process was refused over IPv6 on the same port. Something is said only if nine in ten of both go together, and none came about over IPv6. refused-storm does not count these.",
			Sources:   []string{"RFC 6724, 2.1", "RFC 8305", "getaddrinfo(3)"},
		},
		"probes": {
			Title: "Connections that only look whether a server is there",
			Text: `{{n .connections "connection"}} of {{count .closed}} to port {{.local_port}} of {{proc .process}} ({{pct .share}}) sent nothing and came at regular intervals: probes. ` +
				`{{if eq .clients 1}}They are of {{.remote_addr}}{{else}}They are of {{count .clients}} addresses; {{count .of_remote_addr}} of {{.remote_addr}}{{end}}, {{count .probes}} every {{dur .every}}.`,
			Cause: "A load balancer, a monitor or the kubelet opens a connection and closes it, to see whether the server accepts.",
			Fixes: []Fix{{"A longer interval of the probe.", "a dead server is noticed later"},
				{"A probe that asks for something, on a connection that stays open.", "the server must answer it"},
				{"Leave connections without data out of the server's log.", "none"}},
			DoNot:     []string{"Probes that end with an RST save a TIME_WAIT, and fill logs with errors."},
			Commands:  []string{`finwait conns --count 20 --at close --local-port {{.local_port}} --addr {{.remote_addr}}`},
			Mechanism: "Counted are connections that the client ended without having sent a byte, by FIN or by RST; the server may have sent a greeting of up to 1,024 bytes. Timers are regular, people are not. Up to three probes of the same period, as for liveness and readiness, are told apart. Probes that ask for something, such as a page, look like any other client.",
			Sources:   []string{"bytes_received of struct tcp_sock, include/linux/tcp.h"},
		},
		"idle-cut": {
			Title: "Connections die while they are idle",
			Text: `{{n .resets "connection"}} of {{proc .process}}{{if .more_processes}} and other processes of that name{{end}} to {{ep .remote}} {{if eq .resets 1}}was{{else}}were{{end}} reset when data was sent after {{dur .silence}} of silence or more. ` +
				`{{if .once}}Something on the way, or the other end, had forgotten them; one restart there would explain them all.{{else}}Something on the way, or the other end, forgets idle connections; no single restart explains them.{{end}}` +
				`{{if .keepalive_time}} net.ipv4.tcp_keepalive_time is {{count .keepalive_time}} s, which is no sooner.{{end}}`,
			Cause: "A NAT, a firewall or a load balancer keeps a connection in its table for a limited time after the last segment, and rejects what comes later.",
			Fixes: []Fix{
				{"In the program: SO_KEEPALIVE, and TCP_KEEPIDLE well below that time.", "a few segments for each idle connection"},
				{"For sockets that set SO_KEEPALIVE alone: net.ipv4.tcp_keepalive_time below that time, in this network namespace.", "the same for all of them"},
				{"Let the pool close connections that were idle for so long, or test them before use.", "more connections are opened"},
			},
			DoNot:    []string{"net.ipv4.tcp_keepalive_time does nothing for a socket that has not set SO_KEEPALIVE."},
			Commands: []string{`finwait trace --from ESTABLISHED --reason reset --fields silence --addr {{ep .remote}}`, `ss -Htnoi dst {{ep .remote}}`},
			Mechanism: "Counted are connections on which data of this end was answered with an RST; the silence is the time since the other end acknowledged something last, and keepalive probes are acknowledged, too. Something is said only if all of them were silent for long. " +
				"Times that are known of: Azure 240 s, AWS 350 s, Google Cloud 1,200 s. A device that drops what it has forgotten, without an RST, looks like a peer that is gone, and is not found.",
			Sources: []string{"RFC 5382, 5", "tcp_reset(), net/ipv4/tcp_input.c", "tcp(7): TCP_KEEPIDLE", "ip-sysctl.rst: tcp_keepalive_time"},
		},
		"conntrack-half-close": {
			Title: "A NAT of this host forgets half-closed connections",
			Text: `{{proc .process}} holds {{n .sockets "half-closed connection"}} {{if .local_port}}on its port {{.local_port}}{{else}}to {{ep .remote}}{{end}} whose addresses a NAT of this host changes. It forgets such a connection {{span .timeout}} after the last segment` +
				`{{if .left}}: the next one in {{span .left}}{{end}}.{{if .forgotten}} It has forgotten {{count .forgotten}} of them.{{end}} What is sent after that is reset, or goes to another server.`,
			Cause: "One end has sent its FIN and the other has not. Connection tracking (conntrack) takes that for the end of the connection, and keeps it for a short time only.",
			Fixes: []Fix{
				{"net.netfilter.nf_conntrack_tcp_timeout_close_wait=3600, as kube-proxy has it.", "connections that a program leaks fill the table: see conntrack-table"},
				{"In the program: close() when the other end has closed, or send something now and then.", "none"},
			},
			DoNot:    []string{"net.ipv4.tcp_fin_timeout is about sockets, and not about conntrack."},
			Commands: []string{`conntrack -L -p tcp --state CLOSE_WAIT`, `sysctl net.netfilter.nf_conntrack_tcp_timeout_close_wait net.netfilter.nf_conntrack_tcp_timeout_fin_wait`, `finwait ls --sockets --state fin-wait-2,close-wait`},
			Mechanism: "conntrack has states of its own: FIN_WAIT after the first FIN, for 120 s, and CLOSE_WAIT once it is acknowledged, for 60 s. Without an entry a segment is not translated back, or begins a new translation. " +
				"Sockets are looked up in the table of their own network namespace and of the initial one. One that is in no table any more counts only if others to the same destination are changed. Connections that no NAT changes go on without an entry.",
			Sources: []string{"nf_conntrack_proto_tcp.c: tcp_timeouts[]", "nf_conntrack-sysctl.rst", "RFC 5382, 5"},
		},
		"short-connections": {
			Title: "Connections work for a short time, and are remembered for long",
			Text: `{{n .closed "connection"}} {{if eq .role "server"}}on port {{.local_port}} of {{proc .process}}{{else}}of {{proc .process}} to {{ep .remote}}{{end}} closed in the window. ` +
				`Each was in ESTABLISHED for {{dur .established}} on average, and this end remembers them for 60 s: 1 : {{count .ratio}}.`,
			Cause:     "Each request has a connection of its own, so each pays for a handshake, a close and a TIME_WAIT.",
			Fixes:     []Fix{{"Keep connections open and use them again: HTTP keep-alive, a pool.", "idle connections take a file and memory at both ends"}},
			DoNot:     []string{"No sysctl makes a connection do more work.", "This alone is no fault: time-wait-harmless and port-exhausted say whether it matters."},
			Commands:  []string{`finwait conns --count 20 --at close {{if eq .role "server"}}--local-port {{.local_port}}{{else}}--addr {{ep .remote}}{{end}}`},
			Mechanism: "The end that closes first keeps the connection in TIME_WAIT for 60 s, however short it was. The ratio compares 60 s for each TIME_WAIT that began with the time in ESTABLISHED of the connections that left it: in a short window few TIME_WAITs end.",
			Demo:      "finwait demo load --hold 5ms",
			Sources:   []string{"RFC 9293, 3.4.2", "TCP_TIMEWAIT_LEN, include/net/tcp.h"},
		},
		"server-closes-first": {
			Title: "The server closes the connections, and so it holds the TIME_WAITs",
			Text: `{{proc .process}} closed {{count .closed_here}} of {{n .closed "connection"}} on its port {{.local_port}} first ({{pct .share}}){{if .established}}; the median time in ESTABLISHED was {{dur .established}}{{end}}. ` +
				`This end, and not its clients, holds the TIME_WAITs.`,
			Cause:     "The server closes after each answer (HTTP/1.0, or \"Connection: close\"), after so many requests, or when a connection was idle for long enough.",
			Fixes:     []Fix{{"If the connections are short: let the server keep them, such as with keepalive_timeout and keepalive_requests of nginx, and HTTP/1.1 towards the upstream.", "idle connections take a file and memory"}},
			DoNot:     []string{"The TIME_WAITs of a server use none of its ports: they need no sysctl."},
			Commands:  []string{`finwait trace --local-port {{.local_port}} --role server --from ESTABLISHED --count 20`},
			Mechanism: "The end that sends the first FIN goes from ESTABLISHED to FIN_WAIT_1 and has the TIME_WAIT; the other goes to CLOSE_WAIT and has none.",
			Demo:      "finwait demo passive",
			Sources:   []string{"RFC 9293, 3.6", "RFC 9112, 9.6"},
		},
		"refused-storm": {
			Title: "A program connects again and again, and is refused",
			Text: `connect() of {{proc .process}}{{if .more_processes}} and other processes of that name{{end}} to {{ep .remote}} was refused {{n .refused "time"}} (ECONNREFUSED)` +
				`{{if .connected}}; {{n .connected "connection"}} came about{{end}}.{{if eq .why "nothing"}} It is an address of this network namespace, and nothing listens on that port here.` +
				`{{else if eq .why "elsewhere"}} It is an address of this network namespace, and {{proc .listener}} listens on {{ep .listens_on}} only.{{end}}`,
			Cause:     "An RST answered the SYN: nothing listens on that address and port, or a firewall rejects the connection.",
			Fixes:     []Fix{{"Start the server, or let it listen on the address that is asked for.", "it can be reached by more hosts"}, {"Let the client wait longer after each failure.", "none"}},
			DoNot:     []string{"No sysctl of this end changes the answer."},
			Commands:  []string{`finwait trace --reason refused --addr {{ep .remote}} --count 10`, `ss -Htlnp sport = :{{port .remote}}`},
			Mechanism: "connect() fails with ECONNREFUSED when an RST arrives in SYN_SENT. A listener on 127.0.0.1 is not one on the other addresses of the host. Which listeners there are is read at the end of the window.",
			Demo:      "finwait demo refused",
			Sources:   []string{"RFC 9293, 3.10.7.1", "tcp_rcv_synsent_state_process(), tcp_reset()"},
		},
		"connect-retransmits": {
			Title: "Some connections take whole seconds to open",
			Text: `{{n .late "connection"}} of {{count .connected}} that {{proc .process}} opened to {{ep .remote}} ({{pct .share}}) came about just after {{.seconds}} s, when the kernel sends a SYN again: the one before, or its answer, was lost.` +
				`{{if .overflows}} The destination is in this network namespace, where {{n .overflows "SYN"}} met a full accept queue meanwhile.{{end}}`,
			Cause: "The path or a policer drops SYNs, the accept queue of the server is full, or a TIME_WAIT there did not let the SYN pass.",
			Fixes: []Fix{{"Look at the other end: its accept queue (listen-overflow), its TIME_WAITs (syn-rejected-by-time-wait).", "none"}, {"Look for what limits the rate of SYNs on the path.", "none"}},
			DoNot: []string{"A smaller net.ipv4.tcp_syn_retries makes connect() fail earlier; it does not make it faster."},
			Commands: []string{`finwait trace --from SYN_SENT --to ESTABLISHED --min-duration 900ms --addr {{ep .remote}}`,
				`nstat -az TcpExtTCPSynRetrans TcpExtListenOverflows`},
			Mechanism: "A SYN that is not answered is sent again 1 s later. Since Linux 6.5 the first net.ipv4.tcp_syn_linear_timeouts waits are 1 s each, then they double: 1, 2, 3, 4, 5, 7, 11 s after connect(). With 0, and before, it is 1, 3, 7, 15 s. " +
				"A slow path is spread out; times just above these are lost segments. Therefore nothing is said where many other connections took more than 0.3 s.",
			Sources: []string{"RFC 6298, 2", "tcp_retransmit_timer(), net/ipv4/tcp_timer.c", "ip-sysctl.rst: tcp_syn_linear_timeouts"},
		},
		"reset-by-unread-data": {
			Title:     "A server closes connections without having read all",
			Text:      `{{proc .process}} closed {{n .resets "connection"}} on port {{.local_port}} without having read all, so the kernel sent an RST. A client may lose the end of the answer.`,
			Cause:     "close() with data in the receive queue resets the connection. It is mostly an answer that does not wait for the whole request, such as 413 or 431.",
			Fixes:     []Fix{{"In the program: shutdown(SHUT_WR), read to the end or to a deadline, then close(). nginx has lingering_close.", "connections last longer, up to the deadline"}},
			DoNot:     []string{"SO_LINGER does not help: it is about data that was not sent."},
			Commands:  []string{`finwait trace --local-port {{.local_port}} --reason aborted --count 10`, `nstat -az TcpExtTCPAbortOnClose`},
			Mechanism: "When an RST arrives, the receiver may throw away what its program has not read yet. Connections that the peer had closed before do not count here: nobody may be left to read.",
			Demo:      "finwait demo unread-data",
			Sources:   []string{"RFC 2525, 2.17", "RFC 9112, 9.6", "__tcp_close(), net/ipv4/tcp.c"},
		},
		"reset-by-linger-zero": {
			Title: "A program ends its connections with an RST on purpose",
			Text: `{{proc .process}} closed {{n .resets "connection"}} {{if eq .role "server"}}on port {{.local_port}}{{else}}to {{ep .remote}}{{end}} with SO_LINGER of 0: an RST in place of a FIN. ` +
				`There is no TIME_WAIT.{{if .unacknowledged}} In {{count .unacknowledged}} of them the peer had not acknowledged all data: the rest is lost.{{end}}`,
			Cause:     "The program sets SO_LINGER with a time of 0 before close(), often so that no TIME_WAIT is left.",
			Fixes:     []Fix{{"Leave SO_LINGER alone where data matter.", "the end that closes first has a TIME_WAIT again"}},
			DoNot:     []string{"Do not use it to save ports: the peer's program sees \"connection reset by peer\", and may lose data that it has not read."},
			Commands:  []string{`finwait trace --reason aborted {{if eq .role "server"}}--local-port {{.local_port}}{{else}}--addr {{ep .remote}}{{end}} --count 10`, `nstat -az TcpExtTCPAbortOnData`},
			Mechanism: "close() with SO_LINGER of 0 throws away what was not sent or not acknowledged, and sends an RST. Load generators and health checks, such as those of HAProxy, do so on purpose. Where nothing is thrown away the finding is a note.",
			Demo:      "finwait demo linger-zero",
			Sources:   []string{"RFC 9293, 3.10.5", "__tcp_close(), net/ipv4/tcp.c", "socket(7): SO_LINGER"},
		},
		"peer-does-not-close": {
			Title: "The other end does not close its half of the connections",
			Text: `{{n .sockets "connection"}} {{if eq .role "server"}}on port {{.local_port}} of {{proc .process}}{{else}}of {{proc .process}} to {{ep .remote}}{{end}} got no FIN from the other end ` +
				`{{if .fin_timeout}}within net.ipv4.tcp_fin_timeout, {{.fin_timeout}} s, {{else}}in time {{end}}after close(): the kernel dropped them in FIN_WAIT_2.`,
			Cause:     "The program at the other end does not close what it has read to the end, and holds it in CLOSE_WAIT; or that host is gone.",
			Fixes:     []Fix{{"Look there: finwait doctor finds close-wait-leak.", "none"}},
			DoNot:     []string{"A longer net.ipv4.tcp_fin_timeout keeps the sockets here for longer, and does not make the peer close."},
			Commands:  []string{`finwait trace --from FIN_WAIT_2 --to CLOSED --reason expired {{if eq .role "server"}}--local-port {{.local_port}}{{else}}--addr {{ep .remote}}{{end}}`},
			Mechanism: "After close() the kernel keeps a connection in FIN_WAIT_2 for net.ipv4.tcp_fin_timeout. If no FIN arrives, it forgets it without a TIME_WAIT; what the peer sends later is answered with an RST.",
			Demo:      "finwait demo orphan",
			Sources:   []string{"RFC 9293, 3.6", "tcp_time_wait(), net/ipv4/tcp_minisocks.c", "ip-sysctl.rst: tcp_fin_timeout"},
		},
		"keepalive-race": {
			Title: "Requests are sent into connections that the server is closing",
			Text: `{{if eq .role "server"}}{{proc .process}} closed {{n .resets "connection"}} on port {{.local_port}} while the client was just sending{{else}}` +
				`{{proc .process}} sent into {{n .resets "connection"}} that {{ep .remote}} was just closing{{end}}: the answer was an RST.` +
				`{{if .idle}} The server mostly closes after {{dur .idle}}: that looks like its idle timeout.{{end}}`,
			Cause: "Both ends keep idle connections for about the same time, so a request may cross the server's FIN.",
			Fixes: []Fix{{"Let the client, or the proxy in front, give up idle connections earlier than the server does.", "a few more connections are opened"},
				{"Or let the server keep idle connections for longer than the client does.", "idle connections take a file and memory"}},
			DoNot:    []string{"Do not repeat requests that change something: the server may have done them."},
			Commands: []string{`finwait trace {{if eq .role "server"}}--local-port {{.local_port}} --from FIN_WAIT_2 --to CLOSED --reason rst_sent{{else}}--addr {{ep .remote}} --from CLOSE_WAIT --to CLOSED --reason reset{{end}}`},
			Mechanism: "The server has called close(), so data that arrives is for nobody, and the kernel answers with an RST. Only data that came within 1 s of the FIN counts, on a connection that was open for 0.5 s or longer. The idle timeout is read from how long the connections that the server closed were in ESTABLISHED, " +
				"where most lasted the same; one that was used several times lasts longer.",
			Demo:    "finwait demo data-after-close",
			Sources: []string{"RFC 9112, 9.5", "RFC 9293, 3.6.1", "tcp_rcv_state_process(), tcp_timewait_state_process()"},
		},
		"connect-times-out": {
			Title: "A destination does not answer",
			Text: `{{n .failed "connection"}} of {{proc .process}}{{if .more_processes}} and other processes of that name{{end}} to {{ep .remote}} got no answer to the SYN` +
				`{{if .timed_out}}; the kernel gave {{count .timed_out}} up (ETIMEDOUT){{end}}{{if .given_up}}; the program gave {{count .given_up}} up, after {{dur .gave_up_after}}{{end}}. None came about.`,
			Cause:     "The host is gone, the route is wrong, or a firewall drops the segments in silence.",
			Fixes:     []Fix{{"Look at the route and at the firewalls: ip route get, and a capture at the other end.", "none"}},
			DoNot:     []string{"A longer time limit makes the program wait longer for the same."},
			Commands:  []string{`finwait trace --from SYN_SENT --to CLOSED --addr {{ep .remote}}`, `ip route get {{addr .remote}}`},
			Mechanism: "The kernel repeats the SYN net.ipv4.tcp_syn_retries times, which takes about two minutes by default. Most programs give up earlier. Tries that were given up count if they lasted about the same, and if nothing at all came from the destination in the window.",
			Demo:      "finwait demo timeout",
			Sources:   []string{"RFC 9293, 3.8.3", "tcp_write_timeout(), net/ipv4/tcp_timer.c", "ip-sysctl.rst: tcp_syn_retries"},
		},
		"unreachable": {
			Title:     "A destination cannot be reached",
			Text:      `{{n .failed "connection"}} of {{proc .process}}{{if .more_processes}} and other processes of that name{{end}} to {{ep .remote}} failed: {{.errno}}.`,
			Cause:     "A router, or this host itself, says that the destination cannot be reached: no neighbour of that address answers, there is no route beyond, or a firewall rejects it.",
			Fixes:     []Fix{{"Look at the route and at the neighbour: ip route get, ip neigh.", "none"}},
			DoNot:     []string{"Repeating it at once does not help: the kernel remembers for some seconds that a neighbour does not answer."},
			Commands:  []string{`finwait trace --reason unreachable --addr {{ep .remote}}`, `ip route get {{addr .remote}}`, `ip neigh show {{addr .remote}}`},
			Mechanism: "An ICMP error ends SYN_SENT. Where this host has no route at all, connect() fails before SYN_SENT: that makes no transition, and no finding.",
			Sources:   []string{"RFC 1122, 4.2.3.9", "tcp_v4_err(), tcp_v6_err()"},
		},
		"syn-rejected-by-time-wait": {
			Title:     "Clients wait a second, because the server remembers their port",
			Text:      `{{n .connections "connection"}} of {{.client}} to port {{.local_port}} came a second late or more: the first SYN met a TIME_WAIT of the same port here, and its sequence number was not newer.`,
			Cause:     "A client, or a NAT before it, uses a port again within 60 s, and its sequence numbers do not grow.",
			Fixes:     []Fix{{"Let the NAT wait for longer than 65 s until it uses a port again.", "it needs more ports"}, {"TCP timestamps on the clients: then the SYN is recognised as new.", "none"}},
			DoNot:     []string{"net.ipv4.tcp_tw_reuse does nothing here: it is for connect()."},
			Commands:  []string{`finwait trace --local-port {{.local_port}} --from TIME_WAIT --reason rst_received --addr {{.client}}`},
			Mechanism: "A TIME_WAIT lets a SYN pass whose sequence number or timestamp is newer. It answers any other with an ACK. The client answers that with an RST, which ends the TIME_WAIT, and sends its SYN again after a second. Counted are the connections that came 0.9 to 3.5 s after such an RST.",
			Demo:      "finwait demo rst-in-time-wait",
			Sources:   []string{"RFC 6191", "tcp_timewait_state_process(), net/ipv4/tcp_minisocks.c"},
		},
		"fixed-port-meets-itself": {
			Title: "A program connects from a port that is still in use",
			Text: `{{proc .process}}{{if .more_processes}} and other processes of that name{{end}} could not connect to {{ep .remote}} {{n .failed "time"}}: another socket has the same addresses and ports (EADDRNOTAVAIL)` +
				`{{if .port}}, always from port {{.port}}{{end}}.{{if eq .timestamps false}} net.ipv4.tcp_timestamps is 0 here, so a TIME_WAIT cannot be taken over.{{end}}`,
			Cause:     "The program binds a port before connect(), and its last connection from there is open or in TIME_WAIT.",
			Fixes:     []Fix{{"Let the kernel choose the port: no bind(), or port 0 and IP_BIND_ADDRESS_NO_PORT.", "a firewall may expect that port"}, {"TCP timestamps on both ends: then bind() and connect() take over a TIME_WAIT at once.", "none"}},
			DoNot:     []string{"SO_REUSEADDR lets bind() succeed; connect() fails all the same."},
			Commands:  []string{`finwait trace --reason in_use --addr {{ep .remote}}`, `ss -Htan dst {{ep .remote}}`},
			Mechanism: "The two addresses and the two ports are what tells connections apart. With a fixed port there is only one for each destination. A TIME_WAIT is taken over only if timestamps were seen on it.",
			Demo:      "finwait demo in-use",
			Sources:   []string{"__inet_check_established(), tcp_twsk_unique()", "ip(7): IP_BIND_ADDRESS_NO_PORT"},
		},
		"time-wait-rearmed": {
			Title: "FINs are repeated: the last ACK does not arrive",
			Text: `{{count .rearmed}} of {{n .ended "TIME_WAIT"}} {{if eq .role "server"}}on port {{.local_port}}{{else}}towards {{ep .remote}}{{end}} that ended began again, because a segment of the other end arrived, mostly its FIN once more. ` +
				`Each such segment starts the 60 s anew.`,
			Cause:     "The last ACK is lost, or a firewall forgets the connection at the first FIN.",
			Fixes:     []Fix{{"Look at the firewalls between: their time for connections that are closing.", "larger tables"}},
			DoNot:     []string{"No sysctl of this end changes it."},
			Commands:  []string{`finwait trace --from TIME_WAIT {{if eq .role "server"}}--local-port {{.local_port}}{{else}}--addr {{ep .remote}}{{end}}`},
			Mechanism: "The end in TIME_WAIT answers a FIN that comes again with an ACK, and waits for 60 s from then on. The other end repeats its FIN from LAST_ACK.",
			Demo:      "finwait demo last-ack-lost",
			Sources:   []string{"RFC 9293, 3.10.7.8", "tcp_timewait_state_process(), net/ipv4/tcp_minisocks.c"},
		},
	},
}
