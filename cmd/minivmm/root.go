package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"minivmm/internal/terminal"
	"minivmm/vmm/config"
)

// execute runs the command line and returns the exit code. Text for people is sanitized, whatever
// its source; only a guest's console and the output of its command go to stdout and stderr
// unchanged.
func execute(build newMachine, args []string, stdin, stdout *os.File, stderr io.Writer) int {
	root := newRootCommand(build, stdin, stdout, stderr)
	root.SetArgs(args)
	root.SetOut(terminal.Writer{W: stdout})
	root.SetErr(terminal.Writer{W: stderr})
	err := root.Execute()
	printError(root.ErrOrStderr(), err)
	return exitCode(err)
}

// printError prints the problems of a configuration unchanged, so that editors and CI can parse
// them, and all other errors prefixed with the program's name.
func printError(w io.Writer, err error) {
	var invalid *config.Error
	switch {
	case err == nil, errors.As(err, new(quiet)):
	case errors.As(err, &invalid):
		fmt.Fprintln(w, invalid)
	default:
		fmt.Fprintf(w, "minivmm: %v\n", err)
	}
}

// rawOut returns the command's output unsanitized, for binary data and control sequences.
func rawOut(cmd *cobra.Command) io.Writer {
	if w, ok := cmd.OutOrStdout().(terminal.Writer); ok {
		return w.W
	}
	return cmd.OutOrStdout()
}

// newRootCommand returns the command tree.
func newRootCommand(build newMachine, stdin, stdout *os.File, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:           "minivmm",
		Short:         "Run virtual machines on KVM with the kernel's vhost devices",
		Example:       "  minivmm run debian.toml\n  minivmm run --kernel vmlinuz --initrd initrd.cpio --disk disk.img",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.ArbitraryArgs, // only reached by an unknown command
		RunE:          unknownCommand,
	}
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(newRunCommand(build, stdin, stdout, stderr), newListCommand(), newWorkersCommand(), newStopCommand(), newTuneCommand(), newRescanCommand(), newCheckCommand(),
		newKernelCommand(), newInitramfsCommand(), newDiskCommand(), newVersionCommand())
	return root
}

// flagError adds a suggestion to the error of an unknown flag.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, "--"+f.Name) })
		name := "--" + strings.TrimLeft(unknown.GetSpecifiedName(), "-")
		return usageError{fmt.Errorf("%w%s", err, config.DidYouMean(name, names))}
	}
	return usageError{err}
}

// args turns a wrong number of arguments into a usage error that prints the correct usage.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{fmt.Errorf("%w\nusage: %s", err, cmd.UseLine())}
		}
		return nil
	}
}
