// Package laws holds a test of which package may import which.
package laws
