//go:build !linux

package privilege

// Has is false: only Linux has these capabilities.
func Has(string) bool { return false }
