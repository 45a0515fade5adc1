package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"minivmm/vmm/config"
)

const runHelp = `Run a machine in the foreground until its guest powers off.

The configuration comes from FILE, from flags, or from both; flags override the file. On a terminal,
Ctrl-A x kills the machine, Ctrl-A Ctrl-A sends a Ctrl-A and Ctrl-A h prints help.

Without a kernel, the machine boots a default guest: a kernel from minivmm's store, which is fetched
the first time, and minivmm's own init in memory. The guest runs COMMAND, or the command of the image
given with --image, or a shell. Standard input, output and error are connected to that command, and
its exit code is returned: 128 plus the signal's number if a signal killed it, 127 if it cannot be
started, 125 if the guest cannot be prepared for it. If the guest reboots or crashes before its
command exits, minivmm prints an error. With root= in --cmdline and no COMMAND, the guest boots the
system on that disk instead; it crashes if the disk has no system.

SIGTERM, SIGINT and SIGHUP press the guest's power button. A second signal kills the guest at once,
and so does the end of machine.shutdown_timeout. If the guest powers off in time, the exit code is 0,
or 128 plus the signal's number if this interrupted a command.

In the values of --net and --disk, write two commas for a literal comma; a key without a value is
switched on. Giving one of these flags replaces the whole list in the file.

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
	flags.BoolVar(&dryRun, "dry-run", false, "print the resolved configuration as TOML and exit")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		files, command := beforeDash(cmd, args)
		file := strings.Join(files, "") // one or none
		if len(files) == 1 && file == "" {
			return usageError{errors.New("FILE is empty")}
		}
		cfg, err := load(file, w.settings)
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

func newCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "check FILE",
		Short:   "Check a configuration file",
		Long:    "Read a configuration file and print each problem as file:line:col: error: text. No machine is started.",
		Example: "  minivmm check debian.toml",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := load(args[0], nil)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: ok: %s, vcpus %d, memory %s, net %d, disk %d\n",
				args[0], cfg.Name, cfg.Machine.VCPUs, cfg.Machine.Memory, len(cfg.Net), len(cfg.Disk))
			return nil
		},
	}
}

// load calls config.Resolve. An error that is not about the configuration itself, such as a missing
// file, becomes a fileError.
func load(name string, settings []config.Setting) (*config.Config, error) {
	cfg, err := config.Resolve(name, settings)
	if _, invalid := err.(*config.Error); err != nil && !invalid {
		return nil, fileError{err}
	}
	return cfg, err
}

// words collects the settings that the flags of run make, in the order on the command line. Package
// config interprets the values.
type words struct {
	settings []config.Setting
	entries  map[string]int // number of entries of each list so far
}

// word is one flag.
type word struct {
	name  string
	arg   string // the name of its value in the help
	key   string // the configuration key; for net and disk, the key of the list
	first string // the table's key that a value without a key sets; empty for a flag that sets a single key
	help  string
}

func newWords(flags *pflag.FlagSet) *words {
	w := &words{entries: map[string]int{}}
	for _, f := range []word{
		{name: "name", key: "name", arg: "NAME", help: "the machine's name"},
		{name: "cpus", key: "machine.vcpus", arg: "N", help: "virtual CPUs"},
		{name: "memory", key: "machine.memory", arg: "SIZE", help: "guest memory, such as 512M"},
		{name: "image", key: "image", arg: "IMAGE", help: "an OCI image as the root file system: a path that begins with / or ./, oci:PATH, or a name in a registry"},
		{name: "kernel", key: "boot.kernel", arg: "KERNEL", help: "kernel image, or store:NAME for a kernel in minivmm's store"},
		{name: "initrd", key: "boot.initrd", arg: "PATH", help: "initial RAM disk"},
		{name: "cmdline", key: "boot.cmdline", arg: "WORDS", help: "parameters for the guest kernel's command line"},
		{name: "console", key: "console", first: "mode", arg: "MODE", help: "stdio, null, or file,path=PATH[,size=SIZE]"},
		{name: "net", key: "net", first: "backend", arg: "BACKEND[,key=value...]", help: "a network card, such as auto,address=10.0.2.1/24; none for no card"},
		{name: "disk", key: "disk", first: "path", arg: "PATH[,key=value...]", help: "a disk, such as disk.img,readonly; none for no disk"},
	} {
		add := func(value string) error { return w.add(f, value) }
		flags.Var(flag{f.arg, add}, f.name, f.help+" (key "+f.key+")")
	}
	return w
}

func (w *words) add(f word, value string) error {
	name := "--" + f.name
	switch {
	case f.first == "":
		w.settings = append(w.settings, config.Setting{Flag: name, Key: f.key, Value: value})
	case f.key == "console":
		w.settings = append(w.settings, config.Setting{Flag: name, Key: f.key, Clear: true})
		w.settings = append(w.settings, entry(name, f.key+".", f.first, value)...)
	case value == "none":
		w.settings = append(w.settings, config.Setting{Flag: name, Key: f.key, Clear: true})
	default:
		prefix := f.key + "." + strconv.Itoa(w.entries[f.key]) + "."
		w.entries[f.key]++
		w.settings = append(w.settings, entry(name+" "+strconv.Quote(value), prefix, f.first, value)...)
	}
	return nil // config checks the values
}

// entry parses [first=]VALUE[,key=value...]. A part after the first that has no value switches its
// key on.
func entry(flag, prefix, first, value string) (out []config.Setting) {
	for i, part := range splitCommas(value) {
		key, val, ok := strings.Cut(part, "=")
		switch {
		case ok && isKey(key):
		case i == 0:
			key, val = first, part
		case !ok:
			key, val = part, "on"
		}
		out = append(out, config.Setting{Flag: flag, Key: prefix + key, Value: val})
	}
	return out
}

// isKey reports whether s, the text before a '=', looks like a key and not like the start of a
// path.
func isKey(s string) bool {
	const letters = "_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	return s != "" && strings.Trim(s, letters) == ""
}

// splitCommas splits s at single commas; two commas are one literal comma.
func splitCommas(s string) []string {
	const literal = "\x00" // an argument cannot contain it
	parts := strings.Split(strings.ReplaceAll(s, ",,", literal), ",")
	for i, part := range parts {
		parts[i] = strings.ReplaceAll(part, literal, ",")
	}
	return parts
}
