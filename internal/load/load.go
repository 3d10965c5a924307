// Package load makes TCP connections. Their number, their rate, how long they are held and
// which end closes first can be chosen.
package load

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"finwait/internal/histogram"
)

// A Config says what connections to make.
type Config struct {
	Count   int            // how many connections are tried
	Rate    float64        // per second; 0: as fast as possible
	Hold    time.Duration  // how long each connection stays open
	Closer  Closer         // who closes first
	Connect netip.AddrPort // the server; the zero value: own listeners on 127.0.0.1
	NetNS   string         // path of the network namespace; "": that of the caller
	Workers int            // threads that connect, each with a listener of its own unless Connect is set; 0 means 1
}

// MaxHeld is the largest number of connections that a worker holds open.
const MaxHeld = 256

// Ceiling is the highest rate that Hold and MaxHeld allow, per second. +Inf means any rate.
func (c *Config) Ceiling() float64 {
	return float64(c.MaxOpen()) / c.Hold.Seconds()
}

// MaxOpen is the largest number of connections that are open at the same time.
func (c *Config) MaxOpen() int { return MaxHeld * max(1, c.Workers) }

// Check returns what is wrong with a Config.
func (c *Config) Check() error {
	switch {
	case c.Count < 1:
		return fmt.Errorf("%d connections: 1 is the least", c.Count)
	case c.Rate < 0:
		return fmt.Errorf("rate %v is negative", c.Rate)
	case c.Hold < 0:
		return fmt.Errorf("hold %v is negative", c.Hold)
	case c.Closer == Both && c.Connect.IsValid():
		return errors.New("both ends close only where both are ours")
	}
	return nil
}

// A Summary is the result of a Run.
type Summary struct {
	Made    int
	Failed  map[error]int       // by errno
	Elapsed time.Duration       // from the first connect(2) until the last connection is closed
	Connect histogram.Histogram // duration of each connect(2) that succeeded, in ns
}

// A Closer is the end that closes first.
type Closer uint8

// Who closes first.
const (
	Client Closer = iota
	Server        // with Connect, the client waits for the server's close
	Both          // at the same time, as nearly as two threads can
	Reset         // the client, with SO_LINGER 0
)

var closers = []string{"client", "server", "both", "reset"}

func (c Closer) String() string { return closers[c] }

// ParseCloser is the inverse of String.
func ParseCloser(s string) (Closer, error) {
	for i, name := range closers {
		if s == name {
			return Closer(i), nil
		}
	}
	return 0, fmt.Errorf("closer %q: there are %s", s, strings.Join(closers, ", "))
}

// ParseRate reads connections per second: "200/s", "200", "30/m", or "max", which is 0.
func ParseRate(s string) (float64, error) {
	if s == "max" {
		return 0, nil
	}
	number, per := s, 1.0
	if n, ok := strings.CutSuffix(s, "/s"); ok {
		number = n
	} else if n, ok := strings.CutSuffix(s, "/m"); ok {
		number, per = n, 60
	}
	rate, err := strconv.ParseFloat(number, 64)
	if err != nil || !(rate > 0 && rate <= 1e9) {
		return 0, fmt.Errorf("rate %q: a number of connections such as 200/s or 30/m, or max", s)
	}
	return rate / per, nil
}
