// Package model holds tests only: the programs of bpf/, compiled for the host,
// are run on a simulated kernel and compared with what that kernel knows.
package model
