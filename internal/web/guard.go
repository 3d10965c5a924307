package web

import (
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// handler answers for all pages.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	index := true
	for _, p := range s.Pages {
		pattern := p.Path
		if pattern == "/" {
			index = false
		}
		mux.Handle(pattern, p.Handler)
	}
	if index {
		mux.HandleFunc("/{$}", s.index)
	}
	return s.guard(mux)
}

// guard refuses what no page of finwait asks for. A browser that is led here by a page of another
// site sends that site's name as Host (DNS rebinding), and without Access-Control headers it does
// not let such a page read an answer.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		switch {
		case !s.asked(r.Host):
			http.Error(w, fmt.Sprintf("finwait is not called %q: ask by an IP address or as localhost, or start it with --web.host", r.Host), http.StatusForbidden)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "there is nothing to change here: GET and HEAD", http.StatusMethodNotAllowed)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// asked reports whether a client may ask for this host: an IP address, localhost or a name of --web.host,
// with any port.
func (s *Server) asked(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	} else if in, ok := strings.CutPrefix(host, "["); ok {
		name = strings.TrimSuffix(in, "]")
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	// A dot at the end changes no name.
	same := func(other string) bool { return strings.EqualFold(strings.TrimSuffix(name, "."), other) }
	return same("localhost") || slices.ContainsFunc(s.Hosts, same)
}

var indexPage = template.Must(template.New("").Parse(`<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>finwait</title></head>
<body>
<h1>finwait</h1>
<ul>
{{range .}}{{if .About}}<li><a href="{{.Path}}">{{.Path}}</a>: {{.About}}</li>
{{end}}{{end}}</ul>
</body>
</html>
`))

// index lists the pages.
func (s *Server) index(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = indexPage.Execute(w, s.Pages) // the client may be gone
}
