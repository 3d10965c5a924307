package main

import (
	"fmt"
	"strings"
	"testing"
)

// upstream is a proxy on 8080 and its backend on 8081, both nginx.
func (s *scene) upstream(proxy, pool, backend string) {
	s.nginx(fmt.Sprintf(`upstream u { server 127.0.0.1:8081; %s }
server { listen 127.0.0.1:8080; location / { proxy_pass http://u; %s } }
server { listen 127.0.0.1:8081; %s %s }`, pool, proxy, backend, hello), "", 8080, 8081)
}

// requests asks for a page so often on one connection, and gives how many answers were an error.
func (s *scene) requests(n int) (errors float64) {
	said := s.output("curl", "-s", "-o", "/dev/null", "-w", "%{http_code} ", fmt.Sprintf("http://127.0.0.1:8080/[1-%d]", n))
	if got := len(strings.Fields(said)); got != n {
		s.Fatalf("%d requests, and these answers: %s", n, said)
	}
	return float64(n - strings.Count(said, "200"))
}

const fewPorts = "40000 40019"

// Ports and TIME_WAITs.
func TestDoctorOfServersPorts(t *testing.T) {
	var failed float64
	noKeepAlive := func(s *scene) {
		s.ns.Sysctl("tcp_tw_reuse", "0")
		s.ns.Sysctl("ip_local_port_range", fewPorts)
		s.upstream(`proxy_http_version 1.1; proxy_set_header Connection "";`, s.either("", "keepalive 8;"), "")
	}
	playAll(t, map[string]serverScenario{
		"an upstream without keep-alive": {
			set: noKeepAlive,
			during: func(s *scene) {
				if e := s.requests(27); s.wrong {
					failed = e
				}
			},
			wrong: "port-exhausted failing, port-range-shape note, tw-reuse-cannot-help note",
			right: "port-range-shape note",
			truths: []truth{
				{id: "port-exhausted", key: "failed", says: func(*scene) float64 { return failed }},
				listed("port-exhausted", "used", "dst", "127.0.0.1:8081"),
				listed("tw-reuse-cannot-help", "time_waits", "state", "time-wait", "dst", "127.0.0.1:8081"),
			},
			comm: "nginx",
		},
		"an upstream nearly without ports": {
			set:    noKeepAlive,
			during: func(s *scene) { s.requests(17) },
			wrong:  "port-pressure risk, port-range-shape note, tw-reuse-cannot-help note",
			right:  "port-range-shape note",
			truths: []truth{listed("port-pressure", "used", "dst", "127.0.0.1:8081")},
		},
		"an upstream of HTTP 1.0": {
			set: func(s *scene) {
				s.ns.Sysctl("ip_local_port_range", fewPorts)
				s.upstream(s.either("proxy_http_version 1.0;", `proxy_http_version 1.1; proxy_set_header Connection "";`), s.either("", "keepalive 8;"), "")
			},
			during: func(s *scene) {
				s.nft("tcp sport 8081 tcp flags & fin == fin counter")
				s.requests(60)
			},
			wrong:  "port-range-shape note, server-closes-first note",
			right:  "port-range-shape note",
			truths: []truth{packets("server-closes-first", "closed_here")},
			comm:   "nginx",
		},
		"a listener in the range": {
			set: func(s *scene) {
				s.ns.Sysctl("ip_local_reserved_ports", s.either("", "50051"))
				s.nginx(`server { listen 127.0.0.1:50051; `+hello+`}`, "", 50051)
			},
			wrong: "listener-in-ephemeral-range note",
		},
		"ports that listeners hold": {
			set: func(s *scene) {
				s.ns.Sysctl("ip_local_port_range", fewPorts)
				s.nginx(`server { listen 127.0.0.1:8080; listen 127.0.0.1:`+s.either("40000-40016", "41000-41016")+`; `+hello+`}`, "", 8080)
				s.idle(3, 8080, "")
				s.await("three connections", func() bool { return s.sockets("state", "established", "dst", "127.0.0.1:8080") == 3 })
			},
			during: func(s *scene) {
				if got := s.output("curl", "-s", "-o", "/dev/null", "-w", "%{errormsg}", "http://127.0.0.1:8080/"); (got != "") != s.wrong {
					s.Errorf("curl says %q", got)
				}
			},
			wrong:  "listener-in-ephemeral-range note, port-exhausted failing, port-range-shape note, ports-held-by-binders will_fail",
			right:  "port-range-shape note",
			truths: []truth{listed("ports-held-by-binders", "held", "state", "listening", "sport", ">=", "40000")},
		},
		"TIME_WAITs of a server": {
			set: func(s *scene) { s.nginx("keepalive_timeout "+s.either("0", "60s")+"; "+helloServer, "", 8080) },
			during: func(s *scene) {
				s.output("ab", "-q", "-k", "-n", "1500", "-c", "8", "http://127.0.0.1:8080/")
			},
			wrong: "server-closes-first note, short-connections note, time-wait-harmless ok",
			truths: []truth{
				moved("server-closes-first", "closed", "TcpPassiveOpens"),
				moved("short-connections", "closed", "TcpPassiveOpens"),
				listed("time-wait-harmless", "time_waits", "state", "time-wait"),
			},
			comm: "nginx",
		},
		"no room for TIME_WAITs": {
			set: func(s *scene) {
				if s.wrong {
					s.ns.Sysctl("tcp_max_tw_buckets", "10")
				}
				s.nginx(helloServer, "", 8080)
			},
			during: func(s *scene) { s.output("ab", "-q", "-n", "40", "http://127.0.0.1:8080/") },
			wrong:  "time-wait-overflow failing",
			truths: []truth{moved("time-wait-overflow", "overflows", "TcpExtTCPTimeWaitOverflow"), listed("time-wait-overflow", "minisocks", "state", "time-wait")},
		},
		"a short tcp_fin_timeout": {
			set: func(s *scene) {
				s.ns.Sysctl("tcp_fin_timeout", s.either("10", "60"))
				s.nginx(helloServer, "", 8080)
			},
			during: func(s *scene) { s.output("ab", "-q", "-n", "120", "http://127.0.0.1:8080/") },
			args:   []string{"--set", "short-connections.rate=1"},
			wrong:  "fin-timeout-misunderstood note, server-closes-first note, short-connections note",
			right:  "server-closes-first note, short-connections note",
			truths: []truth{listed("fin-timeout-misunderstood", "time_waits", "state", "time-wait")},
		},
	})
}
