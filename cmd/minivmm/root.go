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

// execute is the program: it runs the command line and returns the exit code. What it prints for people is cleaned, whoever
// wrote it; only a guest's console and its command's output go to stdout and stderr as they are.
func execute(build newMachine, args []string, stdin, stdout *os.File, stderr io.Writer) int {
	root := newRootCommand(build, stdin, stdout, stderr)
	root.SetArgs(args)
	root.SetOut(terminal.Writer{W: stdout})
	root.SetErr(terminal.Writer{W: stderr})
	err := root.Execute()
	printError(root.ErrOrStderr(), err)
	return exitCode(err)
}

// printError prints a configuration's problems as they are, for editors and CI to find, and other errors under the program's name.
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

// rawOut is the command's output for what is not text.
func rawOut(cmd *cobra.Command) io.Writer {
	if w, ok := cmd.OutOrStdout().(terminal.Writer); ok {
		return w.W
	}
	return cmd.OutOrStdout()
}

// newRootCommand is the command line.
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

// flagError adds the nearest flag to an unknown one.
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

// args turns a wrong number of arguments into a usage error that shows the right one.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{fmt.Errorf("%w\nusage: %s", err, cmd.UseLine())}
		}
		return nil
	}
}
