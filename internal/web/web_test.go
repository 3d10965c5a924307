package web

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// TestMain makes this binary a server that systemd has started, if the environment says so.
func TestMain(m *testing.M) {
	if os.Getenv("FINWAIT_TEST_ACTIVATED") == "" {
		os.Exit(m.Run())
	}
	s := &Server{Activated: true, Pages: hello()}
	if err := s.Listen(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_ = s.Serve(context.Background())
}

func hello() []Page {
	return []Page{{Path: "/hello", About: "it greets", Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "hello")
	})}}
}

// serving starts a server, and gives its address.
func serving(t *testing.T, s *Server) string {
	t.Helper()
	if len(s.Addresses) == 0 {
		s.Addresses = []string{"127.0.0.1:0"}
	}
	s.Pages = hello()
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s.Addrs()[0].String()
}

func ask(t *testing.T, c *http.Client, method, url, host string) (code int, body string, h http.Header) {
	t.Helper()
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	r.Header.Set("Origin", "http://evil.example")
	answer, err := c.Do(r)
	if err != nil {
		return 0, err.Error(), nil
	}
	defer answer.Body.Close()
	b, _ := io.ReadAll(answer.Body)
	return answer.StatusCode, string(b), answer.Header
}

// A page of another site that leads a browser here under its own name gets nothing, and no page can
// read an answer.
func TestHost(t *testing.T) {
	at := serving(t, &Server{Hosts: []string{"node7.example.com"}})
	for host, code := range map[string]int{
		at: 200, "127.0.0.1": 200, "[::1]:80": 200, "[::1]": 200, "10.9.8.7:1": 200, "localhost": 200, "LOCALHOST:11793": 200, "localhost.": 200,
		"node7.example.com": 200, "Node7.Example.com.:443": 200,
		"evil.example": 403, "evil.example:11793": 403, "localhost.evil.example": 403, "127.0.0.1.evil.example": 403, "example.com": 403,
		"node7": 403, "[evil.example]": 403,
	} {
		got, body, h := ask(t, http.DefaultClient, http.MethodGet, "http://"+at+"/hello", host)
		if got != code || (code == 200) != (body == "hello") {
			t.Errorf("as %q: %d %s, want %d", host, got, body, code)
		}
		for name := range h {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("as %q: %s is set", host, name)
			}
		}
		if csp := h.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'") {
			t.Errorf("as %q: the policy is %q", host, csp)
		}
	}
}

func TestPages(t *testing.T) {
	at := "http://" + serving(t, &Server{})
	if code, body, _ := ask(t, http.DefaultClient, http.MethodGet, at+"/", ""); code != 200 || !strings.Contains(body, `<a href="/hello">/hello</a>: it greets`) {
		t.Errorf("%d %s", code, body)
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions} {
		if code, _, _ := ask(t, http.DefaultClient, method, at+"/hello", ""); code != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", method, code)
		}
	}
	if code, _, _ := ask(t, http.DefaultClient, http.MethodGet, at+"/none", ""); code != http.StatusNotFound {
		t.Errorf("/none: %d", code)
	}
}

// certificate writes one for 127.0.0.1 and its key.
func certificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "finwait"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	write(t, filepath.Join(dir, "cert.pem"), string(public))
	write(t, filepath.Join(dir, "key.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(public)
	return pool
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

const withTLS = "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n"

func withPassword(t *testing.T) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return "basic_auth_users:\n  scraper: " + string(hash) + "\n"
}

// On an address that others reach it starts only with TLS and a password, or if it is told to.
func TestOtherAddresses(t *testing.T) {
	dir := t.TempDir()
	certificate(t, dir)
	file := filepath.Join(dir, "web.yml")
	for name, c := range map[string]struct {
		server Server
		config string
		want   string // in the error; "": it listens
	}{
		"any address":              {Server{Addresses: []string{"0.0.0.0:0"}}, "", "--web.config.file with TLS and passwords"},
		"any IPv6":                 {Server{Addresses: []string{"[::]:0"}}, "", "--web.any-address"},
		"a port":                   {Server{Addresses: []string{":0"}}, "", "--web.any-address"},
		"one of two":               {Server{Addresses: []string{"127.0.0.1:0", "0.0.0.0:0"}}, "", "--web.any-address"},
		"by flag":                  {Server{Addresses: []string{"0.0.0.0:0"}, AnyAddress: true}, "", ""},
		"TLS only":                 {Server{Addresses: []string{"0.0.0.0:0"}}, withTLS, "--web.any-address"},
		"password only":            {Server{Addresses: []string{"0.0.0.0:0"}}, withPassword(t), "--web.any-address"},
		"TLS and password":         {Server{Addresses: []string{"0.0.0.0:0"}}, withTLS + withPassword(t), ""},
		"TLS and certificates":     {Server{Addresses: []string{"0.0.0.0:0"}}, withTLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: cert.pem\n", ""},
		"certificates, not needed": {Server{Addresses: []string{"0.0.0.0:0"}}, withTLS + "  client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: cert.pem\n", "--web.any-address"},
		"loopback":                 {Server{Addresses: []string{"127.0.0.1:0", "127.7.7.7:0", "localhost:0"}}, "", ""},
		"wrong file":               {Server{Addresses: []string{"127.0.0.1:0"}}, "basic: 1\n", "web.yml"},
		"no socket of systemd":     {Server{Activated: true}, "", "LISTEN_FDS"},
	} {
		if c.config != "" {
			write(t, file, c.config)
			c.server.ConfigFile = file
		}
		err := c.server.Listen()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		c.server.Close()
	}
	server := Server{Addresses: []string{"127.0.0.1:0"}, ConfigFile: filepath.Join(dir, "none.yml")}
	if err := server.Listen(); err == nil {
		t.Error("it listens without its file")
	}
}

func TestTLSAndPassword(t *testing.T) {
	dir := t.TempDir()
	pool := certificate(t, dir)
	file := filepath.Join(dir, "web.yml")
	write(t, file, withTLS+withPassword(t))
	at := serving(t, &Server{ConfigFile: file, Addresses: []string{"127.0.0.1:0", "127.0.0.1:0"}})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	if code, _, _ := ask(t, client, http.MethodGet, "https://"+at+"/hello", ""); code != http.StatusUnauthorized {
		t.Errorf("without a password: %d", code)
	}
	if code, body, _ := ask(t, client, http.MethodGet, "https://scraper:wrong@"+at+"/hello", ""); code != http.StatusUnauthorized {
		t.Errorf("with a wrong one: %d %s", code, body)
	}
	if code, body, _ := ask(t, client, http.MethodGet, "https://scraper:secret@"+at+"/hello", ""); body != "hello" {
		t.Errorf("with the right one: %d %s", code, body)
	}
	if code, body, _ := ask(t, client, http.MethodGet, "https://scraper:secret@"+at+"/hello", "evil.example"); code != http.StatusForbidden {
		t.Errorf("under another name: %d %s", code, body)
	}
	if _, body, _ := ask(t, http.DefaultClient, http.MethodGet, "http://"+at+"/hello", ""); strings.Contains(body, "hello") {
		t.Errorf("without TLS: %s", body)
	}
}

// systemd passes a socket as descriptor 3.
func TestActivated(t *testing.T) {
	for address, refused := range map[string]bool{"127.0.0.1:0": false, "0.0.0.0:0": true} {
		l, err := net.Listen("tcp4", address)
		if err != nil {
			t.Fatal(err)
		}
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		// LISTEN_PID is that of the process: the shell's, which becomes it.
		cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0"`, os.Args[0])
		cmd.Env = append(os.Environ(), "FINWAIT_TEST_ACTIVATED=1", "LISTEN_FDS=1")
		cmd.ExtraFiles = []*os.File{f}
		var said strings.Builder
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if refused {
			if err := cmd.Wait(); err == nil || !strings.Contains(said.String(), "--web.any-address") {
				t.Errorf("%v: %v, said %q", address, err, &said)
			}
		} else {
			code, body, _ := ask(t, &http.Client{Timeout: time.Minute}, http.MethodGet, "http://"+l.Addr().String()+"/hello", "")
			if body != "hello" {
				t.Errorf("%d %s, said %q", code, body, &said)
			}
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		f.Close()
		l.Close()
	}
}
