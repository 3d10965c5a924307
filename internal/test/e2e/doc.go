// Package e2e runs finwait with real programs of others. It is a module of its own, so that finwait
// does not depend on them.
package e2e
