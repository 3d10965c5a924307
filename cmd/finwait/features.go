package main

import (
	"fmt"
	"text/tabwriter"

	"finwait/tracer"

	"github.com/spf13/cobra"
)

func newFeatures() *cobra.Command {
	return &cobra.Command{
		Use:   "features",
		Short: "Say what this kernel offers, what is in use, and what is missing",
		Args:  rejectArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			features, err := tracer.Features()
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "FEATURE\tSINCE\tSTATE\tNOTE")
			for _, f := range features {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", f.Name, f.Since, f.State, f.Note)
			}
			return w.Flush()
		},
	}
}
