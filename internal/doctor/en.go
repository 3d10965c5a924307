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
		"why_one_reading": "it takes two readings (leave --snapshot out)",
		"why_no_owners":   "without CAP_SYS_PTRACE the owners of other users' sockets are not known",
		"why_no_limits":   "without CAP_SYS_PTRACE the limits of other users' processes are not known",
		"why_not_initial": "the initial network namespace, which has the setting, was not read",
	},
	texts: map[string]Texts{
		"port-exhausted": {
			Title: "All local ports towards one destination are used",
			Text:  `All {{count .usable}} ports that connect() can choose are used from {{.local_addr}} towards {{ep .remote}}, {{count .time_waits}} of them by connections in TIME_WAIT. The next connect() fails with EADDRNOTAVAIL.`,
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
			Text:  `{{count .used}} of {{count .usable}} ports ({{pct .share}}) are used from {{.local_addr}} towards {{ep .remote}}, {{count .time_waits}} of them by connections in TIME_WAIT.`,
			Cause: "Connections are opened and closed faster than TIME_WAIT gives their ports back, or as many are open at once.",
			Fixes: []Fix{
				{"Keep connections open and use them again.", "none"},
				{"Use more addresses, on this side or on the other.", "none"},
			},
			DoNot:     []string{"The number of TIME_WAITs alone says nothing: only those towards one destination count together."},
			Commands:  []string{`finwait ls --by destination --addr {{.remote}}`, `ss -Htan dst {{.remote}} | wc -l`},
			Mechanism: "See port-exhausted. Once half of the ports are used, connect() also takes longer: it tries the ports of one parity first, and must then search the others.",
			Demo:      "finwait demo port-exhaustion",
			Sources:   []string{"__inet_hash_connect(), net/ipv4/inet_hashtables.c"},
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
				"SO_REUSEADDR does not avoid TIME_WAIT. It lets bind() pass one, if the old socket had set it, too."},
			Commands:  []string{`finwait ls --by port --state time-wait`, `ss -s`},
			Mechanism: "A socket in TIME_WAIT is a minisock of 256 bytes that no process has. It lasts 60 s and up to a slot of the kernel's timer wheel (62.05 s at 250 Hz), and longer if a segment arrives for it. It costs no file, no process and no time.",
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
			Text: `{{if .full}}{{proc .process}} on {{ep .local}}: {{count .waiting}} connections wait in a queue for {{count .limit}}{{if eq .limited_by "somaxconn"}}, the limit of net.core.somaxconn{{else}}, the limit of its own listen() (net.core.somaxconn is {{count .somaxconn}}){{end}}. ` +
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
			Title:     "A setting of the host does not reach its containers",
			Text:      `{{.key}} is {{.value}} in the initial network namespace, but {{n .namespaces "other network namespace"}} with sockets {{if eq .namespaces 1}}has{{else}}have{{end}} the kernel's default{{if .default}}, {{.default}}{{end}}.`,
			Cause:     "A new network namespace begins with the defaults of the kernel, and not with the settings of the host.",
			Fixes:     []Fix{{"Set it in each namespace that needs it: docker run --sysctl, or securityContext.sysctls of a pod.", "which sysctls a pod may set depends on the version of Kubernetes, and on --allowed-unsafe-sysctls"}},
			DoNot:     []string{"Setting it on the host once more changes nothing in the containers."},
			Commands:  []string{`sysctl {{.key}}`, `nsenter --net=/proc/PID/ns/net sysctl {{.key}}`},
			Mechanism: "Most sysctls of net.ipv4 and net.core are those of a network namespace. Of TCP's only tcp_rmem, tcp_wmem and the congestion control are taken over from the initial one.",
			Sources:   []string{"tcp_sk_init(), net/ipv4/tcp_ipv4.c", "network_namespaces(7)"},
		},
	},
}
