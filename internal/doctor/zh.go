package doctor

import (
	"fmt"
	"text/template"
	"time"

	"finwait/internal/text"
)

// chinese is Simplified Chinese (zh_CN). Ids, states, sysctls and commands stay as they are.
var chinese = &Language{
	Tag: "zh",
	funcs: common(template.FuncMap{
		"n":    func(n uint64, _ string) string { return count(n) },
		"span": func(d time.Duration) string { return span(d, " 天", " 小时", " 分", " 秒") },
		"proc": func(p Process) string {
			switch {
			case p.PID == 0:
				return "某个未知的进程"
			case p.Name != "":
				return fmt.Sprintf("%s（pid %d，%s）", text.Printable(p.Comm), p.PID, text.Printable(p.Name))
			}
			return fmt.Sprintf("%s（pid %d）", text.Printable(p.Comm), p.PID)
		},
	}),
	words: map[string]string{
		"healthy": "在已检查的范围内没有发现问题。", "cause": "原因", "fix": "解决办法", "do_not": "不要这样做",
		"evidence": "查看", "not_checked": "未检查", "in_part": "只检查了一部分", "ignored": "已忽略", "more": "还有 %d 条：用 --all 查看",
		"inferred": "推断", "namespace": "网络命名空间", "mechanism": "发生了什么", "sources": "出处", "demo": "亲眼看到它",
		"thresholds": "阈值",
		"ok":         "正常", "note": "提示", "risk_word": "风险", "slow": "变慢", "will_fail": "即将失败", "failing": "正在失败",
		"sockets": "检查了 %s 个套接字，分布在 %s 个网络命名空间", "with_risk": "%s风险：%s。", "stop": "。", "colon": "：", "because": "%s，%s：",
		"index": "诊断结果", "id": "id", "worst": "最严重时", "what": "是什么",
		"about_index": "`finwait doctor` 能发现什么，以及最严重时有多严重。每一页说明原因、解决办法，以及无效的做法。" +
			"`finwait doctor --explain ID` 显示同样的内容，`--lang zh` 显示中文。",
		"why_one_reading": "需要两次读取（不要使用 --snapshot）",
		"why_no_owners":   "没有 CAP_SYS_PTRACE，无法得知其他用户的套接字属于谁",
		"why_no_limits":   "没有 CAP_SYS_PTRACE，无法得知其他用户的进程的上限",
		"why_not_initial": "没有读取拥有该设置的初始网络命名空间",
	},
	texts: map[string]Texts{
		"port-exhausted": {
			Title: "通往某个目标的本地端口已全部用完",
			Text:  `从 {{.local_addr}} 到 {{ep .remote}}，connect() 可选的 {{count .usable}} 个端口已全部被占用，其中 {{count .time_waits}} 个处于 TIME_WAIT。下一次 connect() 会失败，错误为 EADDRNOTAVAIL。`,
			Cause: "对每个目标，每条连接都需要一个自己的本地端口。先关闭的一端会让端口在 TIME_WAIT 中再保留 60 秒。",
			Fixes: []Fix{
				{"保持连接并重复使用：对上游启用 HTTP keep-alive，使用足够大的连接池。", "无"},
				{"在本端或对端使用更多地址：每一对地址各有自己的端口。", "无"},
				{"如果两端都启用 TCP 时间戳：sysctl -w net.ipv4.tcp_tw_reuse=1。", "连接关闭一秒后端口就可能被再次使用"},
				{"扩大 net.ipv4.ip_local_port_range，但要高于监听端口。", "监听端口落在范围内时，服务重启可能失败"},
			},
			DoNot:     []string{"net.ipv4.tcp_fin_timeout 不会缩短 TIME_WAIT。", "net.ipv4.tcp_tw_recycle 自 Linux 4.12 起已不存在。", "调小 net.ipv4.tcp_max_tw_buckets 会使对端最后的报文收到 RST。"},
			Commands:  []string{`finwait ls --by destination --addr {{.remote}}`, `ss -Htan dst {{.remote}} | wc -l`, `sysctl net.ipv4.ip_local_port_range net.ipv4.ip_local_reserved_ports`},
			Mechanism: "没有先 bind() 的 connect() 会寻找一个本地端口，要求没有其他套接字以相同的本地地址、远端地址和远端端口使用它。处于 TIME_WAIT 的套接字，以及处于 FIN_WAIT_2 的孤儿套接字也算在内，尽管已没有进程持有它们。默认范围是 28,232 个端口，TIME_WAIT 为 60 到 64 秒，因此对同一地址和端口每秒约 460 条连接就会用完全部端口。服务器不受此限制：它的连接共用一个端口。",
			Demo:      "finwait demo port-exhaustion",
			Sources:   []string{"RFC 9293, 3.4.2 and 3.10.1", "__inet_hash_connect(), net/ipv4/inet_hashtables.c", "ip-sysctl.rst: ip_local_port_range, tcp_tw_reuse"},
		},
		"port-pressure": {
			Title:     "通往某个目标的本地端口大部分已被占用",
			Text:      `从 {{.local_addr}} 到 {{ep .remote}} 已使用 {{count .used}} 个端口，共 {{count .usable}} 个（{{pct .share}}），其中 {{count .time_waits}} 个处于 TIME_WAIT。`,
			Cause:     "连接打开和关闭的速度超过了 TIME_WAIT 归还端口的速度，或者同时打开的连接太多。",
			Fixes:     []Fix{{"保持连接并重复使用。", "无"}, {"在本端或对端使用更多地址。", "无"}},
			DoNot:     []string{"TIME_WAIT 的总数本身说明不了什么：只有通往同一目标的才加在一起。"},
			Commands:  []string{`finwait ls --by destination --addr {{.remote}}`, `ss -Htan dst {{.remote}} | wc -l`},
			Mechanism: "参见 port-exhausted。端口用掉一半之后，connect() 也会变慢：它先尝试一种奇偶性的端口，然后才搜索其余端口。",
			Demo:      "finwait demo port-exhaustion",
			Sources:   []string{"__inet_hash_connect(), net/ipv4/inet_hashtables.c"},
		},
		"listener-in-ephemeral-range": {
			Title:     "监听端口位于 connect() 可能选用的范围内",
			Text:      `{{proc .process}}监听端口 {{.port}}，它位于 {{.low}} 到 {{.high}} 之间。如果在服务重启期间有对外连接得到这个端口，那么在该连接消失并再过一分钟之前，服务无法启动。`,
			Cause:     "connect() 会避开已绑定的端口，但服务不在时端口就没有绑定。",
			Fixes:     []Fix{{"把该端口加入 net.ipv4.ip_local_reserved_ports。", "写入会替换整个列表：请保留原有内容"}, {"让程序监听低于该范围的端口。", "无"}},
			DoNot:     []string{"net.ipv4.ip_local_port_range = 1024 65535 会把所有服务端口都放进范围。", "SO_REUSEADDR 没有帮助：对外连接留下的 TIME_WAIT 套接字没有设置它。"},
			Commands:  []string{`ss -Htln sport = :{{.port}}`, `sysctl net.ipv4.ip_local_port_range net.ipv4.ip_local_reserved_ports`},
			Mechanism: "如果另一个套接字正在使用某个端口，而两者之一没有设置 SO_REUSEADDR，bind() 就会失败。客户端套接字大多没有设置。程序让内核选择的端口（bind 到端口 0）本来就在范围内；从外部无法分辨哪些是这种情况。",
			Sources:   []string{"inet_csk_get_port(), inet_bind_conflict(), net/ipv4/inet_connection_sock.c", "ip-sysctl.rst: ip_local_reserved_ports"},
		},
		"port-range-shape": {
			Title:     "可用于对外连接的端口很少",
			Text:      `connect() 只能从 {{n .usable "port"}} 个端口中选择：{{.low}} 到 {{.high}}，减去保留的端口。`,
			Cause:     "net.ipv4.ip_local_port_range 很窄，或者 net.ipv4.ip_local_reserved_ports 保留了其中很多端口。",
			Fixes:     []Fix{{"扩大 net.ipv4.ip_local_port_range，但要高于监听端口。", "监听端口落入范围：参见 listener-in-ephemeral-range"}},
			Commands:  []string{`sysctl net.ipv4.ip_local_port_range net.ipv4.ip_local_reserved_ports`},
			Mechanism: "端口按每一对本地地址和目标分别计算。如果主机对每个目标只打开少量连接，少量端口就够用。",
			Sources:   []string{"ip-sysctl.rst: ip_local_port_range"},
		},
		"time-wait-harmless": {
			Title:     "处于 TIME_WAIT 的套接字很多，但没有害处",
			Text:      `{{n .time_waits "socket"}} 个套接字处于 TIME_WAIT：无害。其中 {{count .served}} 个属于监听端口，共用其端口；另外 {{count .opened}} 个最多占用通往任一目标的端口的 {{pct .worst_share}}。它们占用 {{size .bytes}} 内存。`,
			Cause:     "先关闭的一端会记住连接 60 秒，以免迟到的报文进入新的连接。",
			Fixes:     []Fix{{"什么都不需要做。", "无"}},
			DoNot:     []string{"没有任何 sysctl 能缩短 TIME_WAIT：60 秒写在内核源码里。net.ipv4.tcp_fin_timeout 针对的是 FIN_WAIT_2。", "SO_REUSEADDR 不能避免 TIME_WAIT。只有旧套接字也设置过它时，bind() 才能越过 TIME_WAIT。"},
			Commands:  []string{`finwait ls --by port --state time-wait`, `ss -s`},
			Mechanism: "处于 TIME_WAIT 的是 256 字节的小套接字（minisock），没有进程持有它。它持续 60 秒，最多再加内核定时器轮的一格（250 Hz 时为 62.05 秒）；如果有报文到达，则会更久。它不占用文件、进程和 CPU 时间。",
			Demo:      "finwait demo close",
			Sources:   []string{"RFC 9293, 3.4.2", "TCP_TIMEWAIT_LEN, include/net/tcp.h", "inet_twsk_alloc(), net/ipv4/inet_timewait_sock.c"},
		},
		"time-wait-overflow": {
			Title:     "没有空间容纳更多 TIME_WAIT 套接字",
			Text:      `{{if .overflows}}自第一次读取以来，有 {{n .overflows "connection"}} 条连接因空间不足而没有进入 TIME_WAIT{{else}}TIME_WAIT 的 {{count .limit}} 个位置已占用 {{count .minisocks}} 个{{end}}（net.ipv4.tcp_max_tw_buckets 为 {{count .limit}}）。`,
			Cause:     "达到上限后，连接不经过 TIME_WAIT 就结束。对端之后发送的 FIN 会得到 RST。",
			Fixes:     []Fix{{"在这个网络命名空间中调大 net.ipv4.tcp_max_tw_buckets。", "每个占 256 字节"}},
			DoNot:     []string{"不要为了消除 TIME_WAIT 而调低上限：对端会收到 RST。", "达到上限时不会拒绝 SYN：新连接不受影响。"},
			Commands:  []string{`nstat -az TcpExtTCPTimeWaitOverflow`, `sysctl net.ipv4.tcp_max_tw_buckets`, `finwait ls --by state --state time-wait,fin-wait-2`},
			Mechanism: "上限按网络命名空间计算小套接字（minisock）：TIME_WAIT，以及处于 FIN_WAIT_2 的孤儿套接字。默认值取决于主机内存。",
			Demo:      "finwait demo overflow",
			Sources:   []string{"inet_twsk_alloc(), tcp_time_wait()", "ip-sysctl.rst: tcp_max_tw_buckets"},
		},
		"fin-timeout-misunderstood": {
			Title:     "tcp_fin_timeout 被调低了，但它对 TIME_WAIT 没有作用",
			Text:      `net.ipv4.tcp_fin_timeout 为 {{.fin_timeout}} 秒。它不会缩短 TIME_WAIT（现有 {{n .time_waits "socket"}} 个套接字），而是缩短 close() 之后的 FIN_WAIT_2（现有 {{n .orphans "socket"}} 个套接字）。`,
			Cause:     "很多文章说它能缩短 TIME_WAIT。",
			Fixes:     []Fix{{"恢复默认值 60。", "无"}},
			DoNot:     []string{"过短的超时会切断需要更长时间才能关闭的对端；它们之后发送的数据会得到 RST。"},
			Commands:  []string{`sysctl net.ipv4.tcp_fin_timeout`, `ss -Htano state time-wait | head`},
			Mechanism: "TIME_WAIT 总是从 TCP_TIMEWAIT_LEN，即 60 秒开始。tcp_fin_timeout 是程序已关闭而对端尚未关闭时，内核在 FIN_WAIT_2 中保留连接的时间。",
			Demo:      "finwait demo orphan",
			Sources:   []string{"tcp_time_wait(), net/ipv4/tcp_minisocks.c", "ip-sysctl.rst: tcp_fin_timeout"},
		},
		"tw-reuse-cannot-help": {
			Title: "tcp_tw_reuse 无法归还这些端口",
			Text: `connect() 无法接管通往 {{ep .remote}} 的 TIME_WAIT 端口：{{if eq .why "off"}}net.ipv4.tcp_tw_reuse 为 0{{else if eq .why "loopback"}}net.ipv4.tcp_tw_reuse 为 2，只对回环地址有效{{else if eq .why "timestamps"}}net.ipv4.tcp_timestamps 为 0，而它需要时间戳{{else}}` +
				`有 {{n .orphans "port"}} 个端口处于 FIN_WAIT_2，它从不接管这种端口{{end}}。`,
			Cause:     "只有当 TCP 时间戳能保证识别旧报文时，connect() 才会接管处于 TIME_WAIT 的连接。",
			Fixes:     []Fix{{"sysctl -w net.ipv4.tcp_tw_reuse=1，并在两端设置 net.ipv4.tcp_timestamps=1。", "连接关闭一秒后端口就可能被再次使用"}, {"保持连接并重复使用。", "无"}},
			DoNot:     []string{"net.ipv4.tcp_tw_reuse 对服务器没有作用：它针对的是 connect()。"},
			Commands:  []string{`sysctl net.ipv4.tcp_tw_reuse net.ipv4.tcp_timestamps`},
			Mechanism: "设为 1 时，或者设为 2 且有一个地址是回环地址时，如果连接上出现过时间戳并且已超过一秒，处于 TIME_WAIT 的连接就会被接管。",
			Demo:      "finwait demo reuse",
			Sources:   []string{"tcp_twsk_unique(), net/ipv4/tcp_ipv4.c", "ip-sysctl.rst: tcp_tw_reuse"},
		},
		"close-wait-leak": {
			Title: "程序没有关闭对端已经关闭的连接",
			Text: `{{proc .process}}有 {{n .sockets "connection"}} 条连接没有关闭：{{if .local_port}}在它的端口 {{.local_port}} 上{{else}}通往 {{ep .remote}}{{end}}，而对端已经关闭，最早的至少在 {{span .oldest}}之前。` +
				`{{if .file_limit}}它已打开 {{count .files}} 个文件，上限为 {{count .file_limit}}。{{end}}`,
			Cause:     "程序没有调用 close()：它没有读取，或者忽略了 read() 返回 0。",
			Fixes:     []Fix{{"在程序中：read() 返回 0 时调用 close()；让连接池检测空闲连接。", "无"}, {"在此之前：在达到打开文件数上限之前重启它。", "它的连接会被切断"}},
			DoNot:     []string{"没有 sysctl 能结束 CLOSE_WAIT。keepalive 用于发现已消失的对端，而这里对端已经告别。"},
			Commands:  []string{`finwait ls --sockets --state close-wait --min-age 1m`, `ss -Htanp state close-wait`},
			Mechanism: "FIN 已经到达，因此连接会一直处于 CLOSE_WAIT，直到程序调用 close() 或 shutdown()。没有别的东西能结束它。有的协议有意使用半关闭的连接；它们在 CLOSE_WAIT 中发送数据，而对端的确认会使这里的时长变小。",
			Demo:      "finwait demo close-wait-leak",
			Sources:   []string{"RFC 9293, 3.6", "tcp_fin(), net/ipv4/tcp_input.c"},
		},
		"half-closed-held": {
			Title:     "程序在等待不关闭的对端",
			Text:      `{{proc .process}}持有 {{n .sockets "connection"}} 条半关闭的连接：{{if .local_port}}在它的端口 {{.local_port}} 上{{else}}通往 {{ep .remote}}{{end}}，最早的至少已有 {{span .oldest}}。它调用了 shutdown()，而对端没有关闭。`,
			Cause:     "shutdown() 发送 FIN 并保留套接字。它会停留在 FIN_WAIT_2，直到对端关闭，或者程序关闭。",
			Fixes:     []Fix{{"在程序中：到期后调用 close()，或者使用 TCP_USER_TIMEOUT 或 keepalive。", "对端仍在发送的数据会丢失"}},
			DoNot:     []string{"net.ipv4.tcp_fin_timeout 针对已关闭的套接字，对这些套接字无效。"},
			Commands:  []string{`finwait ls --sockets --state fin-wait-2 --min-age 1m`, `ss -Htanpo state fin-wait-2`},
			Mechanism: "内核的 FIN_WAIT_2 定时器在程序关闭套接字时启动。只要还有进程持有它，就没有定时器。",
			Demo:      "finwait demo half-close",
			Sources:   []string{"tcp_shutdown(), __tcp_close(), net/ipv4/tcp.c"},
		},
		"accept-stall": {
			Title:     "程序没有接受它的连接",
			Text:      `有 {{n .sockets "connection"}} 条到 {{ep .local}} 的连接在等待被接受，最早的至少已等待 {{span .oldest}}{{if .left}}；其中 {{count .left}} 条在此期间已被对端关闭{{end}}。{{proc .process}}在此监听，但没有接受它们。`,
			Cause:     "程序被阻塞、被停止、文件数用尽，或者工作进程太少。",
			Fixes:     []Fix{{"检查程序：/proc/PID/stack，它的打开文件数上限，它的线程在等什么。", "无"}},
			DoNot:     []string{"加长队列只会让客户端等得更久，不会让程序去接受连接。", "这不是程序的泄漏，尽管 ss 显示 CLOSE_WAIT：还没有进程持有这些套接字。"},
			Commands:  []string{`finwait ls --sockets --local-port {{port .local}} --columns state,local,remote,held,age`, `ss -Htln sport = :{{port .local}}`},
			Mechanism: "内核自行完成握手，并把连接放入监听套接字的队列。在 accept() 取走它之前，没有进程持有它，它也没有 inode。",
			Sources:   []string{"inet_csk_accept(), net/ipv4/inet_connection_sock.c", "listen(2)"},
		},
		"listen-overflow": {
			Title: "监听套接字的 accept 队列已满",
			Text: `{{if .full}}{{ep .local}} 上的 {{proc .process}}：有 {{count .waiting}} 条连接在队列中等待，队列上限为 {{count .limit}}{{if eq .limited_by "somaxconn"}}，即 net.core.somaxconn 的上限{{else}}，即它自己的 listen() 的上限（net.core.somaxconn 为 {{count .somaxconn}}）{{end}}。` +
				`{{if .dropped}}自第一次读取以来，这个网络命名空间丢弃了 {{n .dropped "SYN"}} 个 SYN。{{else}}下一个 SYN 会被丢弃。{{end}}` +
				`{{else}}自第一次读取以来，这个网络命名空间因某个监听队列已满而丢弃了 {{n .dropped "SYN"}} 个 SYN；现在没有队列是满的。{{end}}`,
			Cause:     "连接到达的速度超过了程序接受它们的速度。SYN 被丢弃的客户端会在一秒后重试，之后间隔越来越长。",
			Fixes:     []Fix{{"先看 accept-stall：增加工作进程，或者消除阻塞它们的原因。", "无"}, {"在程序的 listen() 中使用更大的 backlog，并把 net.core.somaxconn 调到同样大；然后重启程序。", "占用内存，并且等待更久"}},
			DoNot:     []string{"net.ipv4.tcp_max_syn_backlog 不是这个队列。", "net.ipv4.tcp_abort_on_overflow=1 会把一秒的延迟变成失败。"},
			Commands:  []string{`nstat -az TcpExtListenOverflows TcpExtListenDrops`, `finwait ls --sockets --state listen --columns local,recv-q,send-q,pid,comm`},
			Mechanism: "队列比上限多容纳一条连接；上限是 listen() 时的 backlog 与 net.core.somaxconn 中较小的一个。计数器属于整个网络命名空间，也包括客户端的重试。",
			Sources:   []string{"sk_acceptq_is_full(), tcp_conn_request()", "listen(2)"},
		},
		"sysctl-lint": {
			Title: "某项设置的作用与人们以为的不同",
			Text: `{{.file}}:{{.line}}：{{.key}} = {{.value}}：{{if eq .why "recycle"}}自 Linux 4.12 起它已不存在，因此这一行不起作用{{else if eq .why "few_buckets"}}上限这么低时，连接不经过 TIME_WAIT 就结束，对端会收到 RST{{else if eq .why "short_fin_timeout"}}它不会缩短 TIME_WAIT，反而会切断关闭较慢的对端` +
				`{{else if eq .why "no_timestamps"}}没有时间戳就无法识别旧报文，tcp_tw_reuse 也不起作用{{else if eq .why "abort_on_overflow"}}客户端本来只需等待一秒，现在会收到 RST{{else if eq .why "no_syncookies"}}SYN 队列满时会丢弃客户端{{else if eq .why "one_orphan_retry"}}回应较慢的对端会被切断{{else}}正在运行的内核没有这项设置{{end}}。`,
			Cause:     "这一行抄自针对其他内核的建议，或者错误的建议。",
			Fixes:     []Fix{{"删除这一行，然后执行 sysctl --system。", "无；已设置的值会保留到再次设置或主机重启"}},
			Commands:  []string{`grep -n {{.key}} {{.file}}`, `sysctl {{.key}}`},
			Mechanism: "每种设置各有原因，结论中已说明。另见 finwait help reasons。",
			Sources:   []string{"ip-sysctl.rst", "4396e46187ca (\"tcp: remove tcp_tw_recycle\", Linux 4.12)"},
		},
		"hidden-namespaces": {
			Title:     "大多数 TIME_WAIT 在其他网络命名空间中",
			Text:      `{{n .elsewhere "socket"}} 个处于 TIME_WAIT 的套接字在 {{n .namespaces "other network namespace"}} 个其他网络命名空间中；这里有 {{count .here}} 个。ss 和 netstat 只显示这里的。`,
			Cause:     "每个容器或 pod 都有自己的网络命名空间。",
			Fixes:     []Fix{{"什么都不需要做。finwait ls --by netns 会显示全部。", "无"}},
			Commands:  []string{`finwait ls --by netns --state time-wait`, `lsns -t net`},
			Mechanism: "套接字、端口、计数器和大多数 sysctl 都属于某个网络命名空间。",
			Sources:   []string{"network_namespaces(7)"},
		},
		"ports-held-by-binders": {
			Title: "对外连接的端口被 bind() 占住",
			Text: `{{if .remote}}从 {{.local_addr}} 到 {{ep .remote}} 已没有本地端口可用，尽管 {{count .usable}} 个端口中只有 {{count .used}} 个用于它{{else}}connect() 已没有本地端口可用{{end}}：` +
				`监听套接字和仅绑定的套接字占住了 {{n .held "port"}} 个端口{{if .bound_by_process}}，其中 {{count .bound_by_process}} 个属于 {{proc .holder}}{{end}}。下一次 connect() 会失败，错误为 EADDRNOTAVAIL。`,
			Cause: "无论目标是什么，connect() 都不会选择属于某次 bind() 的端口。",
			Fixes: []Fix{
				{"在调用 bind() 的程序中：bind() 到端口 0 之前设置 IP_BIND_ADDRESS_NO_PORT，让 connect() 选择端口。", "在 connect() 之前 getsockname() 显示端口 0"},
				{"关闭已绑定但不使用的套接字。", "无"},
			},
			DoNot:     []string{"net.ipv4.ip_autobind_reuse=1 让 bind() 共用端口，但随后失败的会是 connect()。"},
			Commands:  []string{`ss -Htanp state closed`, `ss -Htln`, `sysctl net.ipv4.ip_local_port_range net.ipv4.ip_local_reserved_ports`},
			Mechanism: "bind() 取得的端口留给绑定它的套接字，其他套接字的 connect() 会跳过它。先绑定再连接的套接字同样占住端口；没有内核会列出这些套接字，因此它们不计入这里的数目。",
			Sources:   []string{"__inet_hash_connect(), net/ipv4/inet_hashtables.c", "ip(7): IP_BIND_ADDRESS_NO_PORT"},
		},
		"fin-wait-1-stuck": {
			Title: "连接的结束卡在 FIN_WAIT_1",
			Text: `{{if eq .why "window"}}{{if .local_port}}端口 {{.local_port}} 上{{else}}通往 {{ep .remote}} {{end}}有 {{n .sockets "connection"}} 条连接已在本端关闭，但对端不读取最后的 {{size .bytes}}，这些数据由内核保存。已有 {{span .oldest}}无法发送任何数据。` +
				`{{else}}{{if .local_port}}端口 {{.local_port}} 上{{else}}通往 {{ep .remote}} {{end}}有 {{n .sockets "connection"}} 条连接已在本端关闭，而对端没有回应：最后的报文至少已重发 {{n .retries "time"}} 次。{{end}}{{if .local_port}}其中一个对端是 {{ep .example}}。{{end}}`,
			Cause: "FIN 排在数据之后。不读取的对端会关闭窗口，FIN 就必须等待；已消失的对端不会确认任何报文。",
			Fixes: []Fix{
				{"对于不读取的对端：在套接字上设置 TCP_USER_TIMEOUT，或者使用程序自己的限制，例如 nginx 的 send_timeout。", "较慢的客户端会被切断"},
				{"对于已消失的对端：net.ipv4.tcp_orphan_retries=3。", "回应较慢但仍然存在的对端会被切断"},
			},
			DoNot:     []string{"net.ipv4.tcp_fin_timeout 在 FIN 被确认之后才开始计时。"},
			Commands:  []string{`finwait ls --sockets --state fin-wait-1`, `ss -Htano state fin-wait-1`},
			Mechanism: "close() 之后，内核继续发送程序已写入的数据。对端窗口关闭时，ss 显示的定时器是 persist；内核等待确认时，显示的是 on。这样的套接字是孤儿套接字，计入 net.ipv4.tcp_max_orphans。",
			Sources:   []string{"RFC 9293, 3.6, 3.8.6.1", "tcp_probe_timer(), tcp_write_timeout(), net/ipv4/tcp_timer.c", "ip-sysctl.rst: tcp_orphan_retries"},
		},
		"last-ack-stuck": {
			Title:     "最后的 ACK 没有到达",
			Text:      `{{if .local_port}}端口 {{.local_port}} 上{{else}}通往 {{ep .remote}} {{end}}有 {{n .sockets "connection"}} 条连接停留在 LAST_ACK：FIN 至少已重发 {{n .retries "time"}} 次，而对端没有确认。{{if .local_port}}其中一个对端是 {{ep .example}}。{{end}}`,
			Cause:     "对端先关闭，现在已经消失；或者中间的防火墙已忘记这条连接。",
			Fixes:     []Fix{{"检查对端以及中间的防火墙和 NAT：它们是否在看到第一个 FIN 时就丢弃连接？", "无"}},
			DoNot:     []string{"数量不多时不需要修改任何 sysctl：内核会自行放弃。"},
			Commands:  []string{`finwait ls --sockets --state last-ack`, `ss -Htano state last-ack`},
			Mechanism: "FIN 被确认时 LAST_ACK 结束。FIN 会重发，间隔每次加倍，最多 net.ipv4.tcp_orphan_retries 次，其中 0 表示 8 次。",
			Sources:   []string{"RFC 9293, 3.6", "tcp_orphan_retries(), net/ipv4/tcp_timer.c", "ip-sysctl.rst: tcp_orphan_retries"},
		},
		"handshake-not-finished": {
			Title: "握手没有完成",
			Text: `端口 {{.local_port}} 上有 {{n .handshakes "handshake"}} 次握手没有完成：SYN-ACK 至少已重发 {{n .retries "time"}} 次，而 ACK 没有到达。` +
				`{{if eq .peers 1}}全部来自 {{.remote_addr}}。{{else}}它们来自 {{count .peers}} 个地址，其中 {{count .of_remote_addr}} 次来自 {{.remote_addr}}。{{end}}`,
			Cause:     "SYN-ACK 或它的 ACK 丢失：返回的路径不同，或者防火墙丢弃了它。也可能 SYN 的源地址是伪造的。",
			Fixes:     []Fix{{"跟踪报文：ip route get ADDRESS，并在两端使用 tcpdump。", "无"}},
			DoNot:     []string{"加长 SYN 队列只会保留更多这样的握手。"},
			Commands:  []string{`finwait ls --sockets --state new-syn-recv --local-port {{.local_port}}`, `ss -Htano state syn-recv sport = :{{.local_port}}`},
			Mechanism: "在 ACK 到达之前没有套接字，只有一个请求。内核在 1、2、4……秒后重发 SYN-ACK，最多 net.ipv4.tcp_synack_retries 次。",
			Sources:   []string{"reqsk_timer_handler(), net/ipv4/inet_connection_sock.c", "ip-sysctl.rst: tcp_synack_retries"},
		},
		"syn-queue-cookies": {
			Title: "SYN 队列曾经满过",
			Text: `{{if eq .why "dropped"}}自第一次读取以来丢弃了 {{n .dropped "SYN"}} 个 SYN，因为 SYN 队列已满，而 SYN cookie 已关闭。` +
				`{{else}}自第一次读取以来，SYN 队列满了 {{n .full "time"}} 次。发送了 {{n .sent "SYN cookie"}} 个 SYN cookie，收回 {{count .received}} 个。{{if eq .why "clients"}}因此这些是真实的客户端，队列对它们来说太短。{{else}}其余的是丢失的报文、已离开的客户端，或者洪泛攻击。{{end}}{{end}}`,
			Cause: "正在进行的握手多于监听套接字能容纳的数量。上限就是它的 accept 队列的上限。",
			Fixes: []Fix{
				{"在程序的 listen() 中使用更大的 backlog，并使 net.core.somaxconn 至少同样大；然后重启程序。", "占用内存，并且等待更久"},
				{"如果 cookie 没有收回：参见 handshake-not-finished。", "无"},
			},
			DoNot:     []string{"net.ipv4.tcp_syncookies=0 会改为丢弃客户端。", "SYN cookie 启用时，net.ipv4.tcp_max_syn_backlog 不是上限。"},
			Commands:  []string{`nstat -az TcpExtTCPReqQFullDoCookies TcpExtTCPReqQFullDrop TcpExtSyncookiesSent TcpExtSyncookiesRecv`, `finwait ls --sockets --state new-syn-recv`},
			Mechanism: "队列已满时，内核用 SYN cookie 回应，自己什么也不保存。回应的客户端可以建立连接，但缺少一些 TCP 选项。内核的消息“possible SYN flooding”指的就是这种情况，并不表示有攻击。",
			Sources:   []string{"tcp_syn_flood_action(), tcp_conn_request(), net/ipv4/tcp_input.c", "RFC 4987, 3.6", "ip-sysctl.rst: tcp_syncookies"},
		},
		"conntrack-table": {
			Title: "连接跟踪表几乎已满",
			Text:  `这个网络命名空间的连接跟踪表有 {{count .entries}} 个条目，上限为 {{count .limit}}（{{pct .share}}）。表满之后，新连接的第一个报文会被丢弃。内核自己在这里有 {{n .time_waits "socket"}} 个处于 TIME_WAIT 的套接字。`,
			Cause: "主机的防火墙或 NAT 跟踪每一条连接，并在连接结束后把条目再保留一段时间：TIME_WAIT 为 120 秒，是套接字的两倍。",
			Fixes: []Fix{
				{"调大 net.netfilter.nf_conntrack_max，以及哈希表（nf_conntrack_buckets）。", "占用内存"},
				{"net.netfilter.nf_conntrack_tcp_timeout_time_wait=70。", "被迟到的报文重新启动的 TIME_WAIT 会比它的条目更久"},
			},
			DoNot:     []string{"过短的 nf_conntrack_tcp_timeout_established 会切断空闲的连接。"},
			Commands:  []string{`sysctl net.netfilter.nf_conntrack_count net.netfilter.nf_conntrack_max`, `conntrack -S`},
			Mechanism: "该表计算整个网络命名空间的条目，不仅有 TCP，还有 UDP 等。它的状态有自己的超时，与套接字的状态不同。",
			Sources:   []string{"__nf_conntrack_alloc(), net/netfilter/nf_conntrack_core.c", "nf_conntrack_proto_tcp.c: tcp_timeouts[]", "nf_conntrack-sysctl.rst"},
		},
		"orphans-near-limit": {
			Title: "主机有很多孤儿套接字",
			Text: `{{if .aborted}}自第一次读取以来，有 {{n .aborted "connection"}} 条连接被重置，因为孤儿套接字太多，或者 TCP 的内存太少。{{end}}` +
				`主机有 {{n .orphans "orphan"}} 个孤儿套接字，net.ipv4.tcp_max_orphans 为 {{count .limit}}。`,
			Cause: "程序关闭了连接，而对端不读取或者不回应。",
			Fixes: []Fix{
				{"它们属于谁，参见 fin-wait-1-stuck 和 last-ack-stuck。", "无"},
				{"调大 net.ipv4.tcp_max_orphans。", "每个最多占用 64 KB 不可交换的内存"},
			},
			DoNot:     []string{"处于 TIME_WAIT 和 CLOSE_WAIT 的套接字不是孤儿套接字：在这里不需要处理它们。"},
			Commands:  []string{`cat /proc/net/sockstat`, `finwait ls --sockets --state fin-wait-1,last-ack,closing`, `sysctl net.ipv4.tcp_max_orphans`},
			Mechanism: "孤儿套接字已被程序关闭，但尚未结束：FIN_WAIT_1、尚未成为小套接字（minisock）的 FIN_WAIT_2、LAST_ACK、CLOSING。数量和上限属于主机，而不是某个网络命名空间。对端较慢时，内核把一个孤儿套接字算作两个或四个，因此在上限的四分之一时就可能开始重置。",
			Sources:   []string{"tcp_out_of_resources(), net/ipv4/tcp_timer.c", "ip-sysctl.rst: tcp_max_orphans"},
		},
		"too-many-files": {
			Title: "程序没有剩余的文件来接受连接",
			Text:  `{{proc .process}}已打开 {{count .files}} 个文件，上限为 {{count .file_limit}}，而 {{ep .local}} 上有 {{n .waiting "connection"}} 条连接在等待被接受。{{if ge .files .file_limit}}accept() 失败，错误为 EMFILE。{{end}}`,
			Cause: "每条被接受的连接占用一个文件，而上限（RLIMIT_NOFILE）已经达到。",
			Fixes: []Fix{
				{"调高上限：服务单元的 LimitNOFILE=，ulimit -n，或者对正在运行的进程使用 prlimit --nofile。", "使用 select() 的程序必须低于 1,024"},
				{"查找程序没有关闭的东西：参见 close-wait-leak。", "无"},
			},
			DoNot:     []string{"加长 backlog 只会让客户端等得更久，不会给程序更多文件。", "fs.file-max 是主机的上限，不是这个上限。"},
			Commands:  []string{`grep 'open files' /proc/{{pid .process}}/limits`, `ls /proc/{{pid .process}}/fd | wc -l`},
			Mechanism: "accept() 失败，错误为 EMFILE，连接留在队列中。许多程序会立刻重试，占满一个 CPU。",
			Sources:   []string{"accept(2): EMFILE", "getrlimit(2): RLIMIT_NOFILE"},
		},
		"ipv6-only-listener": {
			Title:     "监听套接字只接受 IPv6",
			Text:      `{{proc .process}}在 {{ep .local}} 上只监听 IPv6，而端口 {{port .local}} 上没有任何程序监听 IPv4：IPv4 客户端会被拒绝。`,
			Cause:     "程序设置了 IPV6_V6ONLY，或者 net.ipv6.bindv6only 为 1。",
			Fixes:     []Fix{{"让程序也监听 IPv4：监听 0.0.0.0，或者不设置 IPV6_V6ONLY。", "该端口随后对 IPv4 开放：请检查防火墙"}},
			DoNot:     []string{"net.ipv6.bindv6only 只是新套接字的默认值：大多数程序自己设置该选项。"},
			Commands:  []string{`ss -Htlnpe sport = :{{port .local}}`, `sysctl net.ipv6.bindv6only`},
			Mechanism: "除非设置了 IPV6_V6ONLY，:: 上的套接字接受两种协议族的连接，IPv4 显示为 ::ffff:a.b.c.d。程序设置它，是为了让每种协议族各有一个套接字；这里只有其中一个。",
			Sources:   []string{"ipv6(7): IPV6_V6ONLY", "ip-sysctl.rst: bindv6only"},
		},
		"host-sysctl-not-in-namespace": {
			Title:     "主机的设置没有进入容器",
			Text:      `{{.key}} 在初始网络命名空间中为 {{.value}}，但另有 {{n .namespaces "other network namespace"}} 个有套接字的网络命名空间使用内核的默认值{{if .default}} {{.default}}{{end}}。`,
			Cause:     "新的网络命名空间以内核的默认值开始，而不是以主机的设置开始。",
			Fixes:     []Fix{{"在每个需要它的命名空间中设置：docker run --sysctl，或者 pod 的 securityContext.sysctls。", "pod 可以设置哪些 sysctl，取决于 Kubernetes 的版本以及 --allowed-unsafe-sysctls"}},
			DoNot:     []string{"在主机上再设置一次，不会改变容器中的任何东西。"},
			Commands:  []string{`sysctl {{.key}}`, `nsenter --net=/proc/PID/ns/net sysctl {{.key}}`},
			Mechanism: "net.ipv4 和 net.core 的大多数 sysctl 属于某个网络命名空间。TCP 的设置中，只有 tcp_rmem、tcp_wmem 和拥塞控制算法取自初始网络命名空间。",
			Sources:   []string{"tcp_sk_init(), net/ipv4/tcp_ipv4.c", "network_namespaces(7)"},
		},
	},
}
