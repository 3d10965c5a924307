package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"finwait/internal/sandbox"

	"golang.org/x/sys/unix"
)

// terminal80 gives both ends of a terminal of 80 columns, and so many lines, that passes bytes on as they are.
func terminal80(t *testing.T, lines uint16) (screen, to *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { screen.Close() })
	fd := int(screen.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: lines, Col: 80})
	}
	if err == nil {
		to, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return screen, to
}

// On a terminal every line fits. A time that is asked for is shown on a narrow one, too, and is counted
// from the start.
func TestTerminal(t *testing.T) {
	for head, args := range map[string][]string{
		"TIME REMOTE FROM TO LASTED WHY":            {"trace", "--count", "9", "--time", "relative"},
		"LOCAL REMOTE FROM TO LASTED WHY":           {"trace", "--count", "9"},
		"TO COOKIE TIME":                            {"trace", "--count", "9", "--columns", "to,cookie,time"},
		"COMM LOCAL REMOTE LASTED TIMEWAIT WHY":     {"conns", "--count", "3", "--at", "close"},
		"OPENED LOCAL REMOTE LASTED TIMEWAIT WHY":   {"conns", "--count", "3", "--at", "close", "--time", "relative"},
		"STATE LIVE ENTERED LEFT P50 P99 MAX TOTAL": {"stat", "--duration", "1", "--by", "port", "--brief"},
		"STATE LOCAL REMOTE PID AGE HELD":           {"ls", "--sockets"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			ns := sandbox.New(t)
			ns.Pair(sandbox.Families[0])
			screen, to := terminal80(t, 50)
			p := newFinwait(t, append(args, "--netns", pathOf(ns))...)
			p.Stdout, p.Env = to, append(p.Env, "NO_COLOR=1")
			stop, stopped := make(chan struct{}), make(chan struct{})
			go func() { connect(ns, stop); close(stopped) }()
			if err := p.Start(); err != nil {
				t.Fatal(err)
			}
			to.Close()
			var shown strings.Builder
			buf := make([]byte, 4096)
			for {
				n, err := screen.Read(buf) // EIO: nobody has the terminal open any more
				shown.Write(buf[:n])
				if err != nil {
					break
				}
			}
			err := p.Wait()
			close(stop)
			<-stopped
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.ReplaceAll(shown.String(), "\r", ""), "\n")
			at := 0
			for at < len(lines) && strings.Join(strings.Fields(lines[at]), " ") != head {
				at++
			}
			if at+1 >= len(lines) || lines[at+1] == "" {
				t.Fatalf("no line below %q:\n%s", head, &shown)
			}
			for _, line := range lines {
				if n := utf8.RuneCountInString(line); n > 80 {
					t.Errorf("%d columns: %s", n, line)
				}
			}
			if strings.HasPrefix(head, "TIME ") {
				first, _, _ := strings.Cut(lines[at+1], " ")
				if s, err := strconv.ParseFloat(first, 64); err != nil || s < 0 || s > 30 {
					t.Errorf("%s s since finwait started: %v", first, err)
				}
			}
		})
	}
}
