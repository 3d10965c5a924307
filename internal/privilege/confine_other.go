//go:build !linux

package privilege

import "errors"

// A Need is what is still to be done when a command gives up the rest.
type Need struct {
	Capabilities []string
	Files        bool
	Check        func() error
}

// Has is false: only Linux has these capabilities.
func Has(string) bool { return false }

// Landlock is Linux's.
func Landlock() bool { return false }

// Confine fails: only Linux is known to be able to.
func Confine(Need) (bool, error) { return false, errors.New("this system is not Linux") }
