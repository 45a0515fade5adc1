// Command minivmm runs virtual machines on KVM and builds the kernels, initial RAM file systems and
// disks that guests boot from.
//
// It is the command line for package vmm (the machine), vmm/config (configuration files and flags),
// vmm/control (requests to a running machine) and the packages below guestimages. A machine runs in
// the process of "minivmm run", or in a child process that has its own namespaces.
//
//	run [FILE] [-- COMMAND]  start a machine, by default with minivmm's own guest
//	check FILE               report the mistakes in a configuration file
//	list                     list the running machines
//	workers NAME             show a machine's threads and their resource usage
//	tune NAME                change how a machine's kernel workers run
//	rescan NAME              resize a machine's disks to the new sizes of their images
//	stop NAME                press a machine's power button, or kill the machine
//	kernel, initramfs, disk  build what guests boot from
//	version                  print the version of this build
//
// Each command is in the file that has its name. The exceptions are check (run.go), version
// (main.go), and tune, rescan and stop (control.go, which also handles these requests in the
// process of the machine). runner.go runs a machine. Other parts of run: furnish.go provides the
// default guest, console.go handles the terminal (output.go buffers its output), and channel.go
// connects to a command in the guest. exit.go has the errors and exit codes.
package main

import (
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"minivmm/internal/terminal"
	"minivmm/vmm"
	"minivmm/vmm/config"
	"minivmm/vmm/sandbox"
)

func main() {
	os.Exit(execute(newVM, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func newVM(plan vmm.Plan, opt vmm.Options) (machine, Input, error) {
	if err := sandbox.Process(); err != nil {
		return nil, nil, err
	}
	vm, err := vmm.New(plan, opt)
	if err != nil {
		return nil, nil, err
	}
	return vm, vm.Console(), nil
}

// execute runs the command line and returns the exit code. All text for people is sanitized; only a
// guest's console and the output of the guest's command go to stdout and stderr unchanged.
func execute(build newMachine, args []string, stdin, stdout *os.File, stderr io.Writer) int {
	root := newRootCommand(build, stdin, stdout, stderr)
	root.SetArgs(args)
	root.SetOut(terminal.Writer{W: stdout})
	root.SetErr(terminal.Writer{W: stderr})
	err := root.Execute()
	printError(root.ErrOrStderr(), err)
	return exitCode(err)
}

// printError prints an error. The errors in a configuration are printed without a prefix, because
// editors and CI parse them.
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

// rawOut returns the writer for the command's output, without the sanitizer. It is for binary data
// and control sequences.
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
	}
	root.SetFlagErrorFunc(flagError)
	return group(root, newRunCommand(build, stdin, stdout, stderr), newListCommand(), newWorkersCommand(),
		newStopCommand(), newTuneCommand(), newRescanCommand(), newCheckCommand(),
		newKernelCommand(), newInitramfsCommand(), newDiskCommand(), newVersionCommand())
}

// group makes cmd a command that has only subcommands.
func group(cmd *cobra.Command, subcommands ...*cobra.Command) *cobra.Command {
	cmd.Args, cmd.RunE = cobra.ArbitraryArgs, unknownCommand // reached only without a known subcommand
	cmd.AddCommand(subcommands...)
	return cmd
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

// unknownCommand is the RunE of a command with subcommands. It runs if the subcommand is missing or
// unknown.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	of := ""
	if cmd.HasParent() {
		of = " of " + cmd.Name()
	}
	var names []string
	for _, c := range cmd.Commands() {
		names = append(names, c.Name())
	}
	return usageError{fmt.Errorf("unknown command %q%s%s", args[0], of, config.DidYouMean(args[0], names))}
}

// flag is a command-line flag that passes its value to the function set. The field arg is the name
// of that value in the help.
type flag struct {
	arg string
	set func(value string) error
}

// Set, String and Type implement pflag.Value.
func (f flag) Set(value string) error { return f.set(value) }
func (f flag) String() string         { return "" }
func (f flag) Type() string           { return f.arg }

// text returns a function, for the field set of a flag, that parses the flag's text into value.
func text(value encoding.TextUnmarshaler) func(string) error {
	return func(s string) error { return value.UnmarshalText([]byte(s)) }
}

// argNames sets the names that the help shows for the arguments of flags. Each pair is
// "flag=ARGUMENT".
func argNames(flags *pflag.FlagSet, pairs ...string) {
	for _, pair := range pairs {
		name, arg, _ := strings.Cut(pair, "=")
		f := flags.Lookup(name)
		f.Value = argNamed{f.Value, arg}
	}
}

// argNamed is a flag's value with a different argument name in the help.
type argNamed struct {
	pflag.Value
	arg string
}

func (a argNamed) Type() string { return a.arg }

// build is the build information that the Go linker recorded.
type build struct {
	Version  string `json:"version"`            // the module's version, or "(devel)"
	Revision string `json:"revision,omitempty"` // the commit
	Time     string `json:"time,omitempty"`     // the time of the commit
	Modified bool   `json:"modified"`           // the tree had uncommitted changes
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func readBuild() build {
	b := build{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	setting := map[string]string{}
	for _, s := range info.Settings {
		setting[s.Key] = s.Value
	}
	b.Version = cmp.Or(info.Main.Version, b.Version)
	b.Revision, b.Time, b.Modified = setting["vcs.revision"], setting["vcs.time"], setting["vcs.modified"] == "true"
	return b
}

func newVersionCommand() *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this build",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := readBuild()
			if asJSON {
				return printJSON(cmd.OutOrStdout(), b)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "minivmm %s %s %s\n", b.Version, b.Go, b.Platform)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}
