// Package web serves HTTP: on loopback addresses to everybody on this host, on others only with TLS
// and a password, unless that is switched off. exporter-toolkit reads the file for these two.
package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	toolkit "github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v2"
)

// DefaultAddress is where finwait listens. 793 is the RFC that first described TCP.
const DefaultAddress = "127.0.0.1:11793"

// A Server is what to serve, and where.
type Server struct {
	Addresses  []string // host:port; with Activated none
	Activated  bool     // the sockets are systemd's: sd_listen_fds(3)
	ConfigFile string   // of exporter-toolkit, with TLS and passwords; "": none
	AnyAddress bool     // other addresses than loopback need neither TLS nor a password
	Hosts      []string // names by which clients may ask, beside localhost and IP addresses

	Pages []Page
	Log   io.Writer // what goes wrong with single connections

	listeners []net.Listener
}

// A Page is one path.
type Page struct {
	Path    string // "/" is the page for what has no path of its own
	About   string // a sentence for the index; "": it is not in it
	Handler http.Handler
}

// Listen binds. It fails for an address that would show this host's connections to others.
func (s *Server) Listen() (err error) {
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.Activated {
		if s.listeners, err = activation.Listeners(); err != nil {
			return fmt.Errorf("take the sockets of systemd: %w", err)
		}
		if len(s.listeners) == 0 {
			return errors.New("systemd has passed no socket: LISTEN_FDS is not set for this process")
		}
	}
	for _, address := range s.Addresses {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		s.listeners = append(s.listeners, l)
	}
	return s.check()
}

// check asks about the sockets themselves: a name can stand for any address.
func (s *Server) check() error {
	guarded, err := s.guarded()
	if err != nil {
		return err
	}
	if guarded || s.AnyAddress {
		return nil
	}
	for _, l := range s.listeners {
		if !local(l.Addr()) {
			return fmt.Errorf("on %v others can see which connections this host has: that takes --web.config.file with TLS and passwords or client certificates, or --web.any-address", l.Addr())
		}
	}
	return nil
}

// local: only processes of this host can connect. vsock reaches other machines.
func local(a net.Addr) bool {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	}
	return false
}

// guarded: the file asks for TLS, and for a password or a certificate.
func (s *Server) guarded() (bool, error) {
	if s.ConfigFile == "" {
		return false, nil
	}
	if err := toolkit.Validate(s.ConfigFile); err != nil {
		return false, fmt.Errorf("read %s: %w", s.ConfigFile, err)
	}
	b, err := os.ReadFile(s.ConfigFile)
	if err != nil {
		return false, err
	}
	var c toolkit.Config
	if err := yaml.Unmarshal(b, &c); err != nil {
		return false, fmt.Errorf("read %s: %w", s.ConfigFile, err)
	}
	known := len(c.Users) > 0 || c.TLSConfig.ClientAuth == "RequireAndVerifyClientCert"
	return c.TLSConfig.IsEnabled() && known, nil
}

// Addrs are where it listens.
func (s *Server) Addrs() (all []net.Addr) {
	for _, l := range s.listeners {
		all = append(all, l.Addr())
	}
	return all
}

// Close gives up what Listen took.
func (s *Server) Close() {
	for _, l := range s.listeners {
		_ = l.Close() // it may be closed already
	}
}

// How long clients may take. A stream, such as of a page, takes as long as it likes to be written.
const (
	readTimeout = 10 * time.Second
	idleTimeout = 2 * time.Minute
	// shutdownTimeout is for requests that are being answered at the end.
	shutdownTimeout = 2 * time.Second
)

// Serve answers requests until the context is done.
func (s *Server) Serve(ctx context.Context) error {
	handler := s.handler()
	failed := make(chan error, len(s.listeners))
	var servers []*http.Server
	for _, l := range s.listeners {
		// One each: the toolkit changes the server that it is given.
		server := &http.Server{
			Handler: handler, ReadTimeout: readTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: 16 << 10,
			ErrorLog: log.New(cmp.Or(s.Log, io.Discard), "", 0),
		}
		servers = append(servers, server)
		go func() {
			failed <- toolkit.Serve(l, server, &toolkit.FlagConfig{WebConfigFile: &s.ConfigFile}, slog.New(slog.DiscardHandler))
		}()
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	end, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	for _, server := range servers {
		if server.Shutdown(end) != nil {
			_ = server.Close()
		}
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
