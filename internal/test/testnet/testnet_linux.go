// Package testnet gives tests what internal/sandbox makes, and namespaces full
// of sockets in every state.
package testnet

import (
	"net/netip"
	"testing"

	"finwait/internal/sandbox"
)

// A NS is a sandbox that can be filled.
type NS struct {
	*sandbox.NS
	t testing.TB
}

// NewNS makes a namespace that goes away with the test.
func NewNS(t testing.TB) *NS {
	t.Helper()
	return &NS{sandbox.New(t), t}
}

// What a sandbox is made of.
type (
	Family = sandbox.Family
	Sock   = sandbox.Sock
	Pair   = sandbox.Pair
	Census = sandbox.Census
)

// Families are both.
var Families = sandbox.Families

// At is a port of the family's loopback address.
func At(f Family, port uint16) netip.AddrPort { return sandbox.At(f, port) }

// TCP flags (RFC 9293, section 3.1).
const (
	FIN = sandbox.FIN
	SYN = sandbox.SYN
	RST = sandbox.RST
	ACK = sandbox.ACK
)
