package main

import (
	"fmt"

	"github.com/spf13/pflag"
)

// outputFlags say how data is shown.
type outputFlags struct {
	output string
	color  string
}

func (o *outputFlags) register(fs *pflag.FlagSet) {
	fs.StringVarP(&o.output, "output", "o", "text", "output `format`: text or json")
	fs.StringVar(&o.color, "color", "auto", "colour: `when`: auto, always or never")
}

func (o *outputFlags) check() error {
	switch {
	case o.output != "text" && o.output != "json":
		return fmt.Errorf("output format %q: there are text and json", o.output)
	case o.color != "auto" && o.color != "always" && o.color != "never":
		return fmt.Errorf("colour %q: there are auto, always and never", o.color)
	}
	return nil
}
