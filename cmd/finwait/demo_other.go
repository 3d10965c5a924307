//go:build !linux

package main

import (
	"io"

	"finwait/tracer"

	"github.com/spf13/cobra"
)

func newDemo(io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Show how TCP connections end, each way made for real",
		RunE:  func(*cobra.Command, []string) error { return tracer.ErrNotLinux },
	}
}
