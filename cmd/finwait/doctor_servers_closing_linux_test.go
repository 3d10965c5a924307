package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sendQueue is the Send-Q of all that ss(8) lists.
func sendQueue(filter ...string) func(*scene) float64 {
	return func(s *scene) (bytes float64) {
		for _, l := range s.ss(filter...) {
			bytes += s.number(strings.Fields(l)[1]) // without its state, for which the filter asks
		}
		return bytes
	}
}

// grow waits until what ss lists is older than the thresholds of the tests, which are 0.2 s.
func grow() { time.Sleep(300 * time.Millisecond) }

// large is nginx with a large file to send, and a line of configuration.
func (s *scene) large(line string) {
	s.Helper()
	s.nginx("server { listen 127.0.0.1:8080; root "+s.dir+"; "+line+" }", "", 8080)
	if err := os.Truncate(s.write("large", ""), 32<<20); err != nil {
		s.Fatal(err)
	}
}

// readSlowly are clients that read the large file so slowly that nothing more has room for a while.
func (s *scene) readSlowly(n int) {
	s.Helper()
	for range n {
		s.start(s.server("curl", "-s", "-o", "/dev/null", "--limit-rate", "1k", "http://127.0.0.1:8080/large"))
	}
	s.await("clients, and the server to close", func() bool {
		return s.moved("TcpPassiveOpens") == float64(n) && (!s.wrong || s.sockets("state", "established", "sport", "8080") == 0)
	})
	grow()
}

// Connections that do not end, or end by an RST.
func TestDoctorOfServersClosing(t *testing.T) {
	const open = `net.createServer({allowHalfOpen: true}, c => c.resume()).listen(8081, "127.0.0.1")`
	playAll(t, map[string]serverScenario{
		"a proxy that ignores that its clients are gone": {
			set: func(s *scene) {
				s.node(`http.createServer(() => {}).listen(8081, "127.0.0.1")`, 8081)
				s.nginx(`server { listen 127.0.0.1:8080; location / { proxy_pass http://127.0.0.1:8081; proxy_ignore_client_abort `+s.either("on", "off")+`; } }`, "", 8080)
			},
			during: func(s *scene) {
				s.together(6, "curl", "-s", "--max-time", "1", "http://127.0.0.1:8080/")
				grow()
			},
			args:   []string{"--set", "close-wait-leak.age=0.2"},
			wrong:  "close-wait-leak risk",
			truths: []truth{listed("close-wait-leak", "sockets", "state", "close-wait", "sport", "8080")},
			comm:   "nginx",
		},
		"a server that does not close": {
			set: func(s *scene) {
				s.node(`net.createServer({allowHalfOpen: `+s.either("true", "false")+`}, c => c.resume()).listen(8080, "127.0.0.1")`, 8080)
			},
			during: func(s *scene) {
				clients := s.idle(5, 8080, "")
				s.await("five connections", func() bool { return s.sockets("state", "established", "dport", "8080") == 5 })
				for _, c := range clients {
					s.signal(c, syscall.SIGTERM)
				}
				s.await("the clients' FINs", func() bool { return s.sockets("state", "established", "sport", "8080") == 0 })
				grow()
			},
			args:   []string{"--set", "close-wait-leak.age=0.2"},
			wrong:  "close-wait-leak risk",
			truths: []truth{listed("close-wait-leak", "sockets", "state", "close-wait", "sport", "8080")},
			comm:   "node",
		},
		"a half-closed proxy": {
			set: func(s *scene) {
				s.node(open, 8081)
				s.haproxy(`defaults
 mode tcp
 timeout connect 1s
 timeout client 1h
 timeout server 1h
 `+s.either("", "timeout client-fin 100ms\n timeout server-fin 100ms")+`
listen l
 bind 127.0.0.1:8080
 server s 127.0.0.1:8081`, 8080)
			},
			during: func(s *scene) {
				clients := s.idle(3, 8080, "")
				s.await("both connections of each client", func() bool { return s.sockets("state", "established", "dport", "8081") == 3 })
				for _, c := range clients {
					s.signal(c, syscall.SIGTERM)
				}
				s.await("the FINs that the proxy passes on", func() bool { return !s.wrong || s.sockets("state", "fin-wait-2", "dport", "8081") == 3 })
				grow()
			},
			args:   []string{"--set", "half-closed-held.age=0.2"},
			wrong:  "half-closed-held risk",
			truths: []truth{listed("half-closed-held", "sockets", "state", "fin-wait-2", "dport", "8081")},
			comm:   "haproxy",
		},
		"clients that do not close": {
			set: func(s *scene) {
				s.ns.Sysctl("tcp_fin_timeout", "1")
				s.nginx(`server { listen 127.0.0.1:8080; client_header_timeout 200ms; `+hello+`}`, "", 8080)
			},
			during: func(s *scene) {
				s.node(fmt.Sprintf(`for (let i = 0; i < 6; i++) net.connect({port: 8080, host: "127.0.0.1", allowHalfOpen: %s}).resume(); setTimeout(() => {}, 1e6)`, s.either("true", "false")))
				s.await("FINs", func() bool { return s.moved("TcpPassiveOpens") == 6 && s.sockets("state", "established") == 0 })
				s.await("the end of FIN_WAIT_2", func() bool { return s.sockets("state", "fin-wait-2") == 0 })
			},
			wrong:  "peer-does-not-close note",
			truths: []truth{listed("peer-does-not-close", "sockets", "state", "close-wait", "dport", "8080")},
			comm:   "nginx",
		},
		"a client that does not read": {
			set:    func(s *scene) { s.large("send_timeout " + s.either("200ms", "60s") + ";") },
			during: func(s *scene) { s.readSlowly(1) },
			args:   []string{"--set", "fin-wait-1-stuck.age=0.2", "--set", "fin-wait-1-stuck.bytes=1"},
			wrong:  "fin-wait-1-stuck risk",
			truths: []truth{{id: "fin-wait-1-stuck", key: "bytes", says: sendQueue("state", "fin-wait-1", "sport", "8080")}, listed("fin-wait-1-stuck", "sockets", "state", "fin-wait-1")},
		},
		"a server that resets clients that do not read": {
			set: func(s *scene) {
				s.large("send_timeout 200ms; reset_timedout_connection " + s.either("on", "off") + ";")
			},
			during: func(s *scene) { s.readSlowly(3) },
			wrong:  "reset-by-linger-zero risk",
			truths: []truth{moved("reset-by-linger-zero", "resets", "TcpExtTCPAbortOnData"), moved("reset-by-linger-zero", "unacknowledged", "TcpExtTCPAbortOnData")},
			comm:   "nginx",
		},
		"a firewall that drops the last FIN": {
			set: func(s *scene) {
				s.nginx(helloServer, "", 8080)
				if s.wrong {
					s.nft("tcp sport 8080 tcp flags & fin == fin drop")
				}
			},
			during: func(s *scene) {
				s.together(3, "curl", "-s", "http://127.0.0.1:8080/")
				s.await("FINs that are sent again", func() bool {
					stuck := s.ss("state", "last-ack")
					return len(stuck) == 0 && !s.wrong || len(stuck) == 3 && !strings.Contains(strings.Join(stuck, " "), ",0)") && !strings.Contains(strings.Join(stuck, " "), ",1)")
				})
			},
			wrong:  "last-ack-stuck note",
			truths: []truth{listed("last-ack-stuck", "sockets", "state", "last-ack", "sport", "8080")},
		},
		"a server that does not read to the end": {
			set: func(s *scene) { // of a request nginx first reads 1 KiB
				s.write("body", strings.Repeat("x", 20<<10))
				s.nginx(`server { listen 127.0.0.1:8080; location / { return `+s.either("444", "403")+`; } }`, "", 8080)
			},
			during: func(s *scene) {
				s.together(6, "curl", "-s", "-H", "Expect:", "--data-binary", "@body", "http://127.0.0.1:8080/")
			},
			wrong:  "reset-by-unread-data failing",
			truths: []truth{moved("reset-by-unread-data", "resets", "TcpExtTCPAbortOnClose")},
			comm:   "nginx",
		},
		"a server that resets at a timeout": {
			set: func(s *scene) {
				s.nginx(`server { listen 127.0.0.1:8080; client_header_timeout 200ms; reset_timedout_connection `+s.either("on", "off")+`; `+hello+`}`, "", 8080)
			},
			during: func(s *scene) {
				s.idle(4, 8080, "GET / HTTP/1.1\r\n")
				s.await("timeouts", func() bool { return s.moved("TcpPassiveOpens") == 4 && s.sockets("state", "established") == 0 })
			},
			wrong:  "reset-by-linger-zero note",
			truths: []truth{moved("reset-by-linger-zero", "resets", "TcpExtTCPAbortOnData")},
			comm:   "nginx",
		},
		"a client that keeps connections for too long": {
			set: func(s *scene) {
				s.nginx(`keepalive_timeout 600ms; server { listen 127.0.0.1:8080; `+hello+`}`, "", 8080)
				s.nft(`tcp sport 8080 tcp flags & rst == rst counter`)
			},
			during: func(s *scene) {
				said := s.python(`import http.client, select, time
all = [http.client.HTTPConnection("127.0.0.1", 8080) for _ in range(5)]
def ask(c):
    c.request("GET", "/")
    c.getresponse().read()
for c in all: ask(c)
late = ` + s.either("True", "False") + `
if late: select.select([all[0].sock], [], [])
began = time.monotonic()
for c in all:
    if late: select.select([c.sock], [], [])
    try: ask(c)
    except (http.client.RemoteDisconnected, ConnectionError): pass
print(time.monotonic() - began)
`)
				s.slow = s.number(strings.TrimSpace(said)) > 0.5
			},
			wrong: "keepalive-race failing",
			truths: []truth{
				packets("keepalive-race", "resets"),
				{id: "keepalive-race", key: "idle_ns", says: func(*scene) float64 { return 600e6 }, within: 0.2}, // as nginx was told
			},
		},
		"a proxy that keeps connections for longer than its backend": {
			set: func(s *scene) {
				s.node(`const s = http.createServer((q, r) => setTimeout(() => r.writeHead(200, {"Content-Length": 5}).end("hello"), 200)); s.keepAliveTimeout = `+s.either("600", "60000")+`; s.listen(8081, "127.0.0.1")`, 8081)
				s.haproxy(`defaults
 mode http
 timeout connect 1s
 timeout client 1h
 timeout server 1h
 http-reuse always
listen l
 bind 127.0.0.1:8080
 server s 127.0.0.1:8081 pool-purge-delay 1h`, 8080)
				s.nft("tcp sport 8081 tcp flags & rst == rst counter\ntcp sport 8081 tcp flags & fin == fin drop")
			},
			during: func(s *scene) {
				ask := func() { s.output("ab", "-q", "-k", "-n", "8", "-c", "8", "http://127.0.0.1:8080/") }
				ask()
				open := time.Now()
				if s.wrong {
					s.await("closes, of which the proxy does not know", func() bool {
						closed := s.sockets("state", "fin-wait-1", "sport", "8081")
						if closed == 0 {
							open = time.Now()
						}
						return closed > 3
					})
				}
				ask()
				s.slow = s.wrong && time.Since(open) > time.Second // what comes 1 s after a FIN does not count
			},
			wrong:  "keepalive-race failing",
			truths: []truth{packets("keepalive-race", "resets")},
			comm:   "node",
		},
	})
}
