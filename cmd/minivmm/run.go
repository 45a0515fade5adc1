package main

import (
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"
)

const runHelp = `Run a machine in the foreground until its guest powers off.

The configuration comes from FILE, from flags, or from both; flags win. On a terminal, Ctrl-A x ends
the machine, Ctrl-A Ctrl-A sends a Ctrl-A and Ctrl-A h prints help.

Without a kernel the machine gets a default guest: a kernel that minivmm keeps, or fetches the first
time, and minivmm's own init in memory. It runs COMMAND, or a shell, or what the image of --image
runs; standard input, output and error are the command's, and so is the exit code once it has run:
128 plus its number for a signal that ended it, 127 if it cannot be started, 125 if the guest cannot
be made ready for it. A guest that ends before its command does is an error, which is printed.
With root= in --cmdline and no COMMAND, the system on that disk is started instead; a guest that
finds none there crashes.

SIGTERM, SIGINT and SIGHUP press the guest's power button; a second one, or the end of
machine.shutdown_timeout, ends the guest at once. A guest that powers off in time gives 0, or 128
plus the signal's number if a command ended with it.

In the values of --net and --disk two commas stand for one, and a key without a value is switched on.
When one of them is given, it replaces the file's whole list.

`

func newRunCommand(build newMachine, stdin, stdout *os.File, stderr io.Writer) *cobra.Command {
	var verbose, dryRun bool
	cmd := &cobra.Command{
		Use:   "run [FILE] [-- COMMAND...]",
		Short: "Run a machine",
		Long:  runHelp + exitHelp(),
		Example: "  minivmm run -- uname -a\n" +
			"  minivmm run debian.toml\n" +
			"  minivmm run debian.toml --memory 2G --disk other.img,readonly\n" +
			"  minivmm run --kernel vmlinuz --initrd initrd.cpio --net auto --disk disk.img",
	}
	cmd.Args = args(func(cmd *cobra.Command, args []string) error {
		files, _ := beforeDash(cmd, args)
		return cobra.MaximumNArgs(1)(cmd, files)
	})
	flags := cmd.Flags()
	flags.SortFlags = false
	w := newWords(flags)
	flags.BoolVarP(&verbose, "verbose", "v", false, "print the machine's workers")
	flags.BoolVar(&dryRun, "dry-run", false, "print the resolved configuration as TOML, and start nothing")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		files, command := beforeDash(cmd, args)
		file := ""
		if len(files) == 1 {
			file = files[0]
			if file == "" {
				return usageError{errors.New("FILE is empty")}
			}
		}
		cfg, err := load(file, w.settings())
		if err != nil {
			return err
		}
		if dryRun {
			_, err := cmd.OutOrStdout().Write(cfg.TOML())
			return err
		}
		r := runner{
			cfg: cfg, command: command, verbose: verbose, anyName: file == "" && !flags.Changed("name"),
			build: build, stdin: stdin, stdout: stdout, stderr: stderr, log: cmd.ErrOrStderr(),
		}
		return r.run(cmd.Context())
	}
	return cmd
}

// beforeDash splits the arguments at "--".
func beforeDash(cmd *cobra.Command, args []string) (before, after []string) {
	if at := cmd.ArgsLenAtDash(); at >= 0 {
		return args[:at], args[at:]
	}
	return args, nil
}
