package main

import (
	"fmt"
	"os"
	"text/tabwriter"

	"finwait/internal/confine"
	"finwait/internal/privilege"
	"finwait/tracer"

	"github.com/spf13/cobra"
)

func newFeatures() *cobra.Command {
	return &cobra.Command{
		Use:   "features",
		Short: "Say what this kernel offers, what is in use, what is missing, and which capabilities it takes",
		Example: `  # Can finwait trace here, and what is missing?
  finwait features`,
		Args: rejectArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			features, refused := tracer.Features() // without a capability, those are worth reading all the more
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "FEATURE\tSINCE\tSTATE\tNOTE")
			for _, f := range append(features, privileges()...) {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", f.Name, f.Since, f.State, f.Note)
			}
			if err := w.Flush(); err != nil {
				return err
			}
			binary, err := os.Executable()
			if err != nil {
				binary = "finwait"
			}
			if _, err := fmt.Fprintf(cmd.OutOrStdout(), "\nto trace without root:  %[1]s %[2]s\nand to miss nothing:    %[3]s %[2]s\n",
				privilege.Setcap(false), binary, privilege.Setcap(true)); err != nil {
				return err
			}
			return refused
		},
	}
}

// privileges are what the process may, and what that is for.
func privileges() (rows []tracer.Feature) {
	for _, u := range privilege.Uses() {
		f := tracer.Feature{Name: u.Name, Since: u.Since, State: tracer.FeatureInUse, Note: u.For}
		if !privilege.Has(u.Name) {
			f.State = tracer.FeatureMissing
			if u.Without != "" {
				f.Note = "not told: " + u.Without
			}
		}
		rows = append(rows, f)
	}
	landlock := tracer.Feature{Name: "Landlock", Since: "5.13", State: tracer.FeatureInUse, Note: "once attached, trace can open no file, and since 6.7 make no connection"}
	if !confine.Landlock() {
		landlock.State = tracer.FeatureMissing
	}
	return append(rows, landlock)
}
