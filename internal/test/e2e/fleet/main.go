// Fleet pretends to be many finwaits: it serves the page of one, as curl has written it to a file,
// under many addresses, with counters that grow. docs/fleet.md says what it was used for.
package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

var (
	page   = flag.String("page", "", "the `file` with a page of /metrics")
	hosts  = flag.Int("hosts", 1000, "serve the pages of so many hosts, at /0/metrics and so on")
	listen = flag.String("listen", "127.0.0.1:11900", "`address`")
	grows  = flag.Float64("grows", 0.4, "which part of the series changes from scrape to scrape")
)

// A line of the page: text, or a series with its value.
type line struct {
	text   string
	value  float64
	series bool
}

func main() {
	flag.Parse()
	lines, err := read(*page)
	if err != nil {
		log.Fatal(err)
	}
	begun := time.Now()
	handler := func(w http.ResponseWriter, r *http.Request) {
		host, err := strconv.Atoi(strings.Split(r.URL.Path, "/")[1])
		if err != nil || host >= *hosts {
			http.NotFound(w, r)
			return
		}
		var b bytes.Buffer
		tick := float64(time.Since(begun)/time.Second) + float64(host%60)
		n := 0
		for _, l := range lines {
			if !l.series {
				b.WriteString(l.text)
				continue
			}
			v := l.value
			if n++; float64(n%100) < *grows*100 {
				v += tick * float64(1+n%7)
			}
			b.WriteString(l.text)
			b.WriteByte(' ')
			b.Write(strconv.AppendFloat(nil, v, 'g', -1, 64))
			b.WriteByte('\n')
		}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = z.Write(b.Bytes())
			_ = z.Close()
			return
		}
		_, _ = w.Write(b.Bytes())
	}
	log.Fatal(http.ListenAndServe(*listen, http.HandlerFunc(handler)))
}

func read(file string) (lines []line, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	series := 0
	for in := bufio.NewScanner(f); in.Scan(); {
		text := in.Text()
		i := strings.LastIndexByte(text, ' ')
		if strings.HasPrefix(text, "#") || i < 0 {
			lines = append(lines, line{text: text + "\n"})
			continue
		}
		v, err := strconv.ParseFloat(text[i+1:], 64)
		if err != nil {
			return nil, err
		}
		series++
		lines = append(lines, line{text: text[:i], value: v, series: true})
	}
	fmt.Fprintf(os.Stderr, "%d series a host, %d in all\n", series, series**hosts)
	return lines, nil
}
