//go:build !linux

// Package cgroup finds cgroup v2 directories by path, and their paths by number.
package cgroup

import (
	"errors"
	"os/exec"
)

var errNotLinux = errors.New("only Linux has cgroups")

// ErrNoStart is Linux's.
var ErrNoStart = errNotLinux

// Find fails.
func Find(string) (id uint64, level uint32, path string, err error) { return 0, 0, "", errNotLinux }

// Tree fails.
func Tree() (map[uint64]string, error) { return nil, errNotLinux }

// Root fails.
func Root() (string, error) { return "", errNotLinux }

// Whole fails.
func Whole() (string, error) { return "", errNotLinux }

// TreeAt fails.
func TreeAt(string) (map[uint64]string, error) { return nil, errNotLinux }

// A Child is Linux's.
type Child struct {
	Parent, Path string
	ID           uint64
	Level        uint32
	Override     bool
}

// NewChild fails.
func NewChild() (*Child, error) { return nil, errNotLinux }

// Start fails.
func (*Child) Start(*exec.Cmd) error { return errNotLinux }

// Remove fails.
func (*Child) Remove() error { return errNotLinux }
