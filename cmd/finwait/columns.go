package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"finwait/internal/text"

	"github.com/spf13/cobra"
)

// columnFlags choose the columns of a table of R.
type columnFlags[R any] struct {
	all   []text.Column[R]
	names values
}

// shortened says what else a narrow terminal does not show.
const shortened = `Addresses and names that have no room are shortened, and "…" stands for what is left out; so it does at the end of a line. `

// listColumns is the word that lists the columns, in place of their names.
const listColumns = "help"

// register adds the flag, and to the help in which order a terminal loses columns.
func (c *columnFlags[R]) register(cmd *cobra.Command, usage string) {
	cmd.Flags().Var(&c.names, "columns", usage+"show these `columns` in this order, or all; help lists them")
	completeWords(cmd, "columns", append(text.Names(c.all), "all", listColumns))
	cmd.Long += "\n\n" + paragraph("A terminal that is too narrow for the usual columns loses "+text.Going(c.all)+", in this order. "+
		shortened+"--columns chooses other columns, of which it loses none. A pipe or file gets everything.")
}

// check refuses columns where there are none.
func (c *columnFlags[R]) check(out *outputFlags) error {
	if len(c.names) > 0 && !c.listed() && (out.json || out.output != "text") {
		return errors.New("--columns is for text: JSON has everything")
	}
	return nil
}

// checkTime refuses to leave out a column that is asked for.
func (c *columnFlags[R]) checkTime(clock, column string) error {
	if clock == "none" && slices.Contains(c.names, column) {
		return fmt.Errorf("--time none leaves out the column %s, and --columns asks for it", column)
	}
	return nil
}

// without refuses flags whose text is in a column that was not chosen. given has the flags by column.
func (c *columnFlags[R]) without(given map[string][]string) error {
	if len(c.names) == 0 || c.listed() || len(c.names) == 1 && c.names[0] == "all" {
		return nil
	}
	for _, column := range slices.Sorted(maps.Keys(given)) {
		if flags := given[column]; len(flags) > 0 && !slices.Contains(c.names, column) {
			return fmt.Errorf("%s is shown in the column %s, and --columns leaves that out", flags[0], column)
		}
	}
	return nil
}

// ifSo are the flags that were given.
func ifSo(flags map[string]bool) (given []string) {
	for _, flag := range slices.Sorted(maps.Keys(flags)) {
		if flags[flag] {
			given = append(given, flag)
		}
	}
	return given
}

// listed says whether the list of columns is asked for, and nothing else.
func (c *columnFlags[R]) listed() bool { return len(c.names) == 1 && c.names[0] == listColumns }

// list writes it.
func (c *columnFlags[R]) list(stdout io.Writer) error { return text.Explain(stdout, c.all) }

// chosen are the columns.
func (c *columnFlags[R]) chosen() (text.Columns[R], error) { return text.Choose(c.all, c.names) }

// paragraph breaks a text of a help page into lines.
func paragraph(words string) string {
	const helpWidth = 80
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	text.Wrap(w, words, helpWidth)
	w.Flush() // a bytes.Buffer does not fail
	return string(bytes.TrimSpace(b.Bytes()))
}
