// Package live holds the tests that trace the running kernel. They need root.
package live
