//go:build !linux

// Package confine gives up, for the whole process and for good, what a command does
// not need any more: capabilities, and, with Landlock, files and connections.
package confine

import "errors"

// A Need is what is still to be done when a command gives up the rest.
type Need struct {
	Capabilities []string
	Files        bool
	RemoveDirs   []string
	ConnectTo    []uint16
	Check        func() error
}

// Landlock is Linux's.
func Landlock() bool { return false }

// Confine fails: only Linux is known to be able to.
func Confine(Need) (bool, error) { return false, errors.New("this system is not Linux") }
