package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/internal/test/testnet"
)

// postgres serves a database on 5432 of these addresses.
func (s *scene) postgres(addresses string) {
	s.Helper()
	if _, err := exec.LookPath("psql"); err != nil && os.Getenv("CI") == "" {
		s.Skip("there is no psql")
	}
	dir, err := os.MkdirTemp("", "finwait-postgres-") // s.dir is in a directory that lets only root in
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { os.RemoveAll(dir) })
	p := testnet.Postgres(s, dir, "-c", "listen_addresses="+addresses)
	c := s.server(p.Path, p.Args[1:]...)
	c.Dir, c.SysProcAttr.Credential = dir, p.SysProcAttr.Credential
	s.start(c)
	s.listens(5432)
	s.await("a database", func() bool { return strings.TrimSpace(s.query("127.0.0.1")) == "1" })
}

func (s *scene) query(host string) string {
	return s.output("psql", "-h", host, "-U", "postgres", "-At", "-c", "select 1", "postgres")
}

// Programs of several kinds at once, and what they say of each other.
func TestDoctorOfServersTogether(t *testing.T) {
	playAll(t, map[string]serverScenario{
		"a database that listens on another address": {
			set: func(s *scene) { s.postgres(s.either("127.0.0.1", "127.0.0.1,127.0.0.2")) },
			during: func(s *scene) {
				for range 10 {
					s.query("127.0.0.2")
				}
			},
			wrong:  "refused-storm failing",
			truths: []truth{moved("refused-storm", "refused", "TcpAttemptFails")},
			comm:   "psql",
		},
		"an upload that python's server does not read": {
			set: func(s *scene) {
				s.start(s.server("python3", "-m", "http.server", "--bind", "127.0.0.1", "8080"))
				s.listens(8080)
			},
			during: func(s *scene) { // it reads 8 KiB with the head of a request, and answers 501
				s.idle(4, 8080, "POST / HTTP/1.0\r\nContent-Length: "+s.either("40000\r\n\r\n"+strings.Repeat("x", 40000), "4\r\n\r\nxxxx"))
				s.await("answers", func() bool { return s.moved("TcpPassiveOpens") == 4 && s.sockets("state", "established") == 0 })
			},
			wrong:  "reset-by-unread-data failing",
			truths: []truth{moved("reset-by-unread-data", "resets", "TcpExtTCPAbortOnClose")},
			comm:   "python3",
		},
		"a proxy that checks by RST": {
			set: func(s *scene) {
				s.nginx(`server { listen 127.0.0.1:8081; `+hello+`}`, "", 8081)
				s.tcp("", s.either("", "option tcp-check\n tcp-check connect linger"), "check inter 50")
			},
			during: func(s *scene) { s.await("checks", func() bool { return s.moved("TcpActiveOpens") >= 5 }) },
			wrong:  "reset-by-linger-zero note",
			truths: []truth{moved("reset-by-linger-zero", "resets", "TcpExtTCPAbortOnData")},
			comm:   "haproxy",
		},
	})
}

// Programs that do what they are for: no finding, and above note there never is one.
func TestDoctorOfHealthyServers(t *testing.T) {
	t.Parallel()
	web := func(s *scene) {
		s.nginx(`server { listen 127.0.0.1:8081; `+hello+`}`, "", 8081)
		s.node(`http.createServer((q, r) => setTimeout(() => r.writeHead(200, {"Content-Length": 5}).end("hello"), 20)).listen(8082, "127.0.0.1")`, 8082)
		s.haproxy(`defaults
 mode http
 timeout connect 1s
 timeout client 1h
 timeout server 1h
frontend f
 bind 127.0.0.1:8080
 use_backend node if { path /node }
 default_backend nginx
backend nginx
 server s 127.0.0.1:8081
backend node
 server s 127.0.0.1:8082`, 8080)
	}
	load := func(s *scene) {
		s.together(1, "ab", "-q", "-k", "-n", "4000", "-c", "10", "http://127.0.0.1:8080/")
		s.together(1, "ab", "-q", "-k", "-n", "100", "-c", "10", "http://127.0.0.1:8080/node")
		s.together(5, "curl", "-s", "http://127.0.0.1:8080/")
	}
	for name, c := range map[string]struct{ before, during func(*scene) }{
		"idle":         {nil, func(*scene) { time.Sleep(time.Second) }},
		"busy":         {nil, load},
		"after a load": {load, func(*scene) { time.Sleep(time.Second) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, sandbox.New(t))
			web(s)
			if c.before != nil {
				c.before(s)
			}
			ids, _, _ := watchedBy(t, s.ns, nil, func() { c.during(s) })
			noAlarm(t, ids)
		})
	}
}

func noAlarm(t *testing.T, ids []string) {
	t.Helper()
	for _, id := range ids {
		if !strings.HasSuffix(id, " note") && !strings.HasSuffix(id, " ok") {
			t.Errorf("a false alarm: %s", id)
		}
	}
}

// A load test leaves TIME_WAITs behind, and no finding above note; nor is there one while it runs.
func TestDoctorAfterLoad(t *testing.T) {
	t.Parallel()
	for _, closer := range []string{"client", "reset"} {
		t.Run(closer, func(t *testing.T) {
			t.Parallel()
			ns := sandbox.New(t)
			load := newFinwait(t, "demo", "load", "--connect", nginxIn(t, ns, "").String(), "--rate", "400/s", "--count", "1200", "--closer", closer)
			ns.Start(load.Cmd)
			during, _ := doctorsView(t, ns, "--for", "2s")
			if err := load.Wait(); err != nil {
				t.Fatalf("%v: %s", err, load.said())
			}
			if n := ns.Counter("Tcp.ActiveOpens"); n < 1200 {
				t.Fatalf("%d connections were opened", n)
			}
			after, _ := doctorsView(t, ns, "--for", "1s")
			noAlarm(t, append(during, after...))
		})
	}
}
