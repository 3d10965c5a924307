// Finwait shows every TCP state transition of a Linux host, and how long each state lasted.
package main

import "os"

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}
