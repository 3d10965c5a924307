//go:build !linux

package netns

import "errors"

type file struct{}

var errNotLinux = errors.New("only Linux has network namespaces")

// Find fails.
func Find(string) (NS, error) { return NS{}, errNotLinux }

// Processes fails.
func Processes() (map[uint32]int, error) { return nil, errNotLinux }

// Names fails.
func Names() (map[uint32]string, error) { return nil, errNotLinux }

// PathOf is never reached.
func PathOf(int) string { return "" }

// Gone is never reached.
func (*NS) Gone() bool { return false }

// Interface finds nothing: only Linux has network namespaces.
func Interface(string, string) (uint32, uint64, error) {
	return 0, 0, errNotLinux
}
