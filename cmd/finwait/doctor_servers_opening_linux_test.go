package main

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// background starts so many curls, which the end of the test ends.
func (s *scene) background(n int, args ...string) {
	s.Helper()
	for range n {
		s.start(s.server("curl", append([]string{"-s", "--max-time", "60"}, args...)...))
	}
}

// tcp is HAProxy in front of port 8081, with lines of its frontend and of its server.
func (s *scene) tcp(bind, frontend, server string) {
	s.Helper()
	s.haproxy(`defaults
 mode tcp
 retries 0
 timeout connect 1s
 timeout client 1h
 timeout server 1h
listen l
 bind 127.0.0.1:8080 `+bind+`
 `+frontend+`
 server s 127.0.0.1:8081 `+server, 8080)
}

// Connections that come late, or not at all.
func TestDoctorOfServersOpening(t *testing.T) {
	page := "http://127.0.0.1:8080/"
	playAll(t, map[string]serverScenario{
		"a proxy that may have one connection": {
			set: func(s *scene) { s.tcp("backlog 10", "maxconn "+s.either("1", "100"), "") },
			during: func(s *scene) {
				s.nginx(`server { listen 127.0.0.1:8081; `+hello+`}`, "", 8081)
				s.idle(3, 8080, "")
				s.await("three connections", func() bool { return s.sockets("state", "established", "dport", "8080") == 3 })
				grow()
			},
			args:   []string{"--set", "accept-stall.age=0.2"},
			wrong:  "accept-stall failing",
			truths: []truth{{id: "accept-stall", key: "waiting", says: recvQueue}, {id: "accept-stall", key: "limit", says: sendQueue("state", "listening", "sport", "8080")}},
			comm:   "haproxy",
		},
		"a short backlog": {
			set: func(s *scene) {
				s.nginx(`server { listen 127.0.0.1:8081; `+hello+`}`, "", 8081)
				s.tcp("backlog "+s.either("1", "100"), "maxconn 1", "")
			},
			during: func(s *scene) {
				s.idle(6, 8080, "")
				s.await("a full queue", func() bool { return s.moved("TcpExtListenOverflows") > 0 == s.wrong && recvQueue(s) > 1 })
			},
			args:   []string{"--set", "accept-stall.age=1000"},
			wrong:  "listen-overflow failing",
			truths: []truth{moved("listen-overflow", "dropped", "TcpExtListenOverflows")},
			comm:   "haproxy",
		},
		"a server that is stopped": {
			set: func(s *scene) {
				nginx := s.nginx(helloServer, "", 8080)
				for _, master := range s.children(nginx.Process.Pid) {
					for _, worker := range s.children(master) {
						if err := unix.Kill(worker, map[bool]unix.Signal{true: unix.SIGSTOP, false: unix.SIGCONT}[s.wrong]); err != nil {
							s.Fatal(err)
						}
					}
				}
			},
			during: func(s *scene) {
				s.background(3, page)
				s.await("connections", func() bool { return !s.wrong || recvQueue(s) == 3 })
				grow()
			},
			args:   []string{"--set", "accept-stall.age=0.2"},
			wrong:  "accept-stall failing",
			truths: []truth{{id: "accept-stall", key: "waiting", says: recvQueue}},
			comm:   "nginx",
		},
		"a server without files": {
			set: func(s *scene) { s.nginx(helloServer, "worker_rlimit_nofile "+s.either("12", "100")+";", 8080) },
			during: func(s *scene) {
				s.idle(8, 8080, "")
				s.await("eight connections", func() bool { return s.sockets("state", "established", "dport", "8080") == 8 })
			},
			args:   []string{"--set", "accept-stall.age=1000"},
			wrong:  "too-many-files failing",
			truths: []truth{{id: "too-many-files", key: "waiting", says: recvQueue}},
			comm:   "nginx",
		},
		"a firewall that drops SYN-ACKs, and a short SYN queue": {
			set: func(s *scene) {
				s.nginx(`server { listen 127.0.0.1:8080 backlog=`+s.either("1", "128")+`; `+hello+`}`, "", 8080)
				s.nft("tcp sport 8080 tcp flags & (syn | ack) == syn | ack drop")
			},
			during: func(s *scene) {
				s.background(5, page)
				s.await("SYNs", func() bool { return s.sockets("state", "syn-sent") == 5 })
			},
			wrong:  "syn-queue-cookies note",
			truths: []truth{moved("syn-queue-cookies", "sent", "TcpExtSyncookiesSent"), moved("syn-queue-cookies", "full", "TcpExtTCPReqQFullDoCookies")},
		},
		"a firewall that drops SYN-ACKs": {
			set: func(s *scene) {
				s.nginx(helloServer, "", 8080)
				if s.wrong {
					s.nft("tcp sport 8080 tcp flags & (syn | ack) == syn | ack drop")
				}
			},
			during: func(s *scene) {
				s.background(4, page)
				s.await("SYN-ACKs that are sent again", func() bool {
					all := strings.Join(s.ss("state", "syn-recv"), " ")
					return !s.wrong || strings.Count(all, "timer:(on,") == 4 && !strings.Contains(all, ",0)")
				})
			},
			args:   []string{"--set", "handshake-not-finished.retries=1", "--set", "handshake-not-finished.least=4"},
			wrong:  "handshake-not-finished note",
			truths: []truth{listed("handshake-not-finished", "handshakes", "state", "syn-recv", "sport", "8080")},
		},
		"a firewall that drops the first SYN": {
			set: func(s *scene) {
				s.nginx(helloServer, "", 8080)
				if s.wrong {
					s.nft("tcp dport 8080 tcp flags & (syn | ack) == syn tcp sport != @seen add @seen { tcp sport } drop")
				}
			},
			during: func(s *scene) { s.together(4, "curl", "-s", page) },
			wrong:  "connect-retransmits slow",
			truths: []truth{moved("connect-retransmits", "late", "TcpExtTCPSynRetrans"), moved("connect-retransmits", "connected", "TcpPassiveOpens")},
			comm:   "curl",
		},
		"a firewall that says that the host is unreachable": {
			set: func(s *scene) {
				s.nginx(helloServer, "", 8080)
				if s.wrong {
					s.nft("tcp dport 8080 counter reject with icmpx type host-unreachable")
				}
			},
			during: func(s *scene) { s.together(3, "curl", "-s", page) },
			wrong:  "unreachable failing",
			truths: []truth{packets("unreachable", "failed")},
			comm:   "curl",
		},
		"a backend behind a firewall": {
			set: func(s *scene) {
				s.upstream("proxy_connect_timeout 900ms;", "keepalive 8;", "")
				if s.wrong {
					s.nft("tcp dport 8081 counter drop")
				}
			},
			during: func(s *scene) {
				var took []float64
				for said := range strings.FieldsSeq(s.output("curl", "-s", "-Z", "--parallel-immediate", "-o", "/dev/null", "-w", "%{time_total} ", page+"[1-6]")) {
					took = append(took, s.number(said))
				}
				s.slow = len(took) != 6 || slices.Max(took)-slices.Min(took) > 0.03 // then nginx did not give up after one time
			},
			wrong:  "connect-times-out failing",
			truths: []truth{packets("connect-times-out", "given_up")},
			comm:   "nginx",
		},
		"a proxy with the wrong port of its backend": {
			set: func(s *scene) {
				s.nginx(`server { listen 127.0.0.1:8080; location / { proxy_pass http://127.0.0.1:`+s.either("8082", "8081")+`; } }
server { listen 127.0.0.1:8081; `+hello+`}`, "", 8080, 8081)
			},
			during: func(s *scene) { s.requests(12) },
			wrong:  "refused-storm failing",
			truths: []truth{moved("refused-storm", "refused", "TcpAttemptFails")},
			comm:   "nginx",
		},
		"a proxy with one port": {
			set: func(s *scene) {
				s.ns.Sysctl("tcp_timestamps", s.either("0", "1"))
				s.nginx(`server { listen 127.0.0.1:8081; `+hello+`}`, "", 8081)
				s.tcp("", "", "source 127.0.0.1:20000")
				s.nft("tcp dport 8081 tcp flags & (syn | ack) == syn counter")
			},
			during: func(s *scene) {
				s.output("curl", "-s", page)
				s.await("TIME_WAIT", func() bool { return s.sockets("state", "time-wait", "sport", "20000") == 1 })
				s.output("curl", "-s", page)
			},
			wrong:  "fixed-port-meets-itself failing",
			truths: []truth{{id: "fixed-port-meets-itself", key: "failed", says: func(s *scene) float64 { return 2 - s.counted() }}},
			comm:   "haproxy",
		},
		"a listener for IPv6": {
			set: func(s *scene) {
				s.nginx(`server { listen [::]:8080 ipv6only=`+s.either("on", "off")+`; `+hello+`}`, "", 8080)
				s.output("curl", "-s", page)
			},
			wrong: "ipv6-only-listener note",
		},
		"a firewall that tracks": {
			set: func(s *scene) {
				s.nginx(helloServer, "", 8080)
				s.nft(s.either("ct state established counter", "counter"))
			},
			during: func(s *scene) { s.together(3, "curl", "-s", page) },
			args:   []string{"--set", "conntrack-table.share=0.000001"},
			wrong:  "conntrack-table will_fail",
			truths: []truth{{id: "conntrack-table", key: "entries", says: func(s *scene) float64 { return s.number(strings.TrimSpace(s.output("conntrack", "-C"))) }}},
		},
	})
}

// recvQueue is how many connections the listener on 8080 has not accepted.
func recvQueue(s *scene) float64 {
	s.Helper()
	return s.number(strings.Fields(s.ss("state", "listening", "sport", "8080")[0])[0])
}
