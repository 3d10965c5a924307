// Command listen is all that there is in a container of a test: it holds a listener.
package main

import (
	"fmt"
	"net"
	"os"
	"time"
)

func main() {
	if _, err := net.Listen("tcp4", "127.0.0.1:0"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	time.Sleep(time.Hour)
}
