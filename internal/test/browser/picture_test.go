package browser

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"finwait/internal/load"
	"finwait/internal/sandbox"
	"finwait/tracer"

	"github.com/chromedp/chromedp"
)

var pictures = flag.String("pictures", "", "write the pictures of docs/ into this `directory`; it takes two minutes")

// TestPictures takes the pictures of docs/page.md: of a host on which a bit of everything happens.
func TestPictures(t *testing.T) {
	if *pictures == "" {
		t.Skip("-pictures says where to write them")
	}
	d := drive(t, tracer.SplitPort)
	d.ticks(time.Second)
	quiet, shop := sandbox.New(t), sandbox.New(t)
	ipv4 := sandbox.Families[0]
	shop.Sysctl("ip_local_port_range", "32768 34599")
	for _, ns := range []*sandbox.NS{quiet, shop} { // a namespace in which a process is can be found
		p := exec.Command("sleep", "600")
		ns.Start(p)
		t.Cleanup(func() { _ = p.Process.Kill(); _ = p.Wait() })
	}
	for range 3 { // closed by the peer, not by the program
		quiet.Pair(ipv4).Client.Close()
	}
	quiet.Pair(ipv4)
	half := quiet.Pair(ipv4)
	half.Client.ShutdownWrite()
	quiet.Socket(ipv4).Connecting(sandbox.At(ipv4, 9))
	running := make(chan error, 3)
	for _, c := range []load.Config{
		{Count: 2600, Rate: 25, Closer: load.Client, Hold: 200 * time.Millisecond, NetNS: shop.Path()},
		{Count: 600, Rate: 6, Closer: load.Server, Hold: 20 * time.Millisecond, NetNS: quiet.Path()},
		{Count: 200, Rate: 2, Closer: load.Reset, Hold: time.Second, NetNS: quiet.Path()},
	} {
		go func() {
			_, err := load.Run(t.Context(), c, nil)
			running <- err
		}()
	}
	for range 5 {
		time.Sleep(15 * time.Second)
		_ = quiet.Socket(ipv4).TryConnect(sandbox.At(ipv4, 9))
		d.refresh()
	}
	time.Sleep(10 * time.Second)
	d.refresh()
	b := browser(t, d.url)
	b.await("document.querySelector('#lists table')")
	for _, p := range []struct {
		name          string
		width, height int64
		scheme, at    string // what is scrolled to
	}{
		{"page-light", 1280, 900, "light", "body"}, {"page-dark", 1280, 900, "dark", "body"},
		{"page-narrow", 360, 760, "light", "body"}, {"page-below", 1280, 1200, "light", "#time"},
	} {
		b.media(p.width, p.height, p.scheme)
		b.run("document.querySelector('" + p.at + "').scrollIntoView()")
		time.Sleep(1500 * time.Millisecond) // it draws with the next reading
		shot := chromedp.CaptureScreenshot()
		png, err := chromedp.Run(b.ctx, shot)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(*pictures, p.name+".png"), png, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b.quiet()
}
