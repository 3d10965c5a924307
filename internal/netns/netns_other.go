//go:build !linux

package netns

import "errors"

type file struct{}

// Find fails.
func Find(string) (NS, error) { return NS{}, errors.New("only Linux has network namespaces") }

// Gone is never reached.
func (*NS) Gone() bool { return false }

// Interface finds nothing: only Linux has network namespaces.
func Interface(string, string) (uint32, uint64, error) {
	return 0, 0, errors.New("only Linux has network namespaces")
}
