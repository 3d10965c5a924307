package main

import (
	"fmt"
	"slices"
	"strings"

	"finwait/internal/cgroup"
	"finwait/internal/label"
	"finwait/internal/netns"
	"finwait/tracer"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// complete offers the words of a vocabulary as values of a flag.
func complete[T fmt.Stringer](cmd *cobra.Command, flag string, values []T) {
	completeWords(cmd, flag, wordsOf(values))
}

func completeWords(cmd *cobra.Command, flag string, words []string) {
	completeFlag(cmd, flag, cobra.ShellCompDirectiveNoFileComp, func() []string { return words })
}

// completeFlag offers values of a flag. Of a flag that takes several, those after a comma too.
func completeFlag(cmd *cobra.Command, flag string, files cobra.ShellCompDirective, offer func() []string) {
	// It fails only if there is no such flag.
	_ = cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		before := ""
		if comma := strings.LastIndexByte(typed, ','); cmd.Flag(flag).Value.Type() == new(values).Type() {
			before = typed[:comma+1]
		}
		words := slices.Clone(offer())
		for i, word := range words {
			if asTyped := strings.ToLower(strings.ReplaceAll(word, "_", "-")); slices.Contains(wordsOf(tracer.States()), word) && begins(typed[len(before):], asTyped) {
				word = asTyped // a state, as flags take it
			}
			words[i] = before + word
		}
		return words, files
	})
}

// begins reports whether something was typed, and word begins with it.
func begins(typed, word string) bool { return typed != "" && strings.HasPrefix(word, typed) }

// offers are the values of the flags that mean the same in each command.
var offers = map[string]struct {
	files cobra.ShellCompDirective // whether there may be a path, too
	words func() []string
}{
	"pod":       {cobra.ShellCompDirectiveNoFileComp, func() []string { return label.New().Names(label.Pod) }},
	"container": {cobra.ShellCompDirectiveNoFileComp, func() []string { return label.New().Names(label.Container) }},
	"unit":      {cobra.ShellCompDirectiveNoFileComp, func() []string { return label.New().Names(label.Unit) }},
	"netns":     {cobra.ShellCompDirectiveDefault, namespaces},
	"cgroup":    {cobra.ShellCompDirectiveFilterDirs, cgroupDirectory},
	"output":    {cobra.ShellCompDirectiveNoFileComp, func() []string { return formats }},
	"color":     {cobra.ShellCompDirectiveNoFileComp, func() []string { return colours }},
}

// completeShared offers these values in a command and those below it.
func completeShared(cmd *cobra.Command) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if o, ok := offers[f.Name]; ok {
			completeFlag(cmd, f.Name, o.files, o.words)
		}
	})
	for _, sub := range cmd.Commands() {
		completeShared(sub)
	}
}

// namespaces are the network namespaces with a name. A path or an inode number names others.
func namespaces() []string {
	names := []string{
		cobra.CompletionWithDesc("self", "the one that finwait runs in"),
		cobra.CompletionWithDesc(label.Host, "that of the host"),
	}
	named, _ := netns.Names() // none if they cannot be read
	for _, name := range named {
		names = append(names, name)
	}
	slices.Sort(names[2:])
	return names
}

// cgroupDirectory is where a shell looks for directories.
func cgroupDirectory() []string {
	root, err := cgroup.Root()
	if err != nil {
		return nil
	}
	return []string{root}
}
