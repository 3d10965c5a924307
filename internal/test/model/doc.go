// Package model holds only tests. They compile the programs of bpf/ for the host, run them on a
// simulated kernel, and compare their output with what that kernel knows.
package model
