package main

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"minivmm/guestimages/agent"
	"minivmm/guestimages/filetree"
	"minivmm/guestimages/initbin"
	"minivmm/guestimages/initrd"
	"minivmm/guestimages/kernel"
	"minivmm/internal/workdir"
)

const initramfsHelp = `Create an initial RAM file system from folders, tars and lists.

--dir, --tar and --list may be given several times. Entries of later sources replace those of earlier ones.
Owners and device nodes come from the sources; no root privileges are needed. The same sources always produce
the same bytes: times and extended attributes are not stored.

The lines of a list have the format of the kernel's usr/gen_init_cpio:
  file NAME LOCATION MODE UID GID [HARD LINK...]
  dir NAME MODE UID GID
  nod NAME MODE UID GID b|c MAJOR MINOR
  slink NAME TARGET MODE UID GID
  pipe NAME MODE UID GID
  sock NAME MODE UID GID
A LOCATION is relative to the list's folder.

--modules adds kernel modules and their dependencies, uncompressed, as /modules/NAME.ko. The file /modules/order
lists their paths in load order, one per line. --init adds minivmm's own init, which loads the modules, brings
up the system and runs COMMAND, or /bin/sh if there is none. A command after -- on the kernel command line
replaces both.
`

// initramfsOptions are the command's flags and arguments.
type initramfsOptions struct {
	output     string
	sources    []source
	owner      owner
	modules    []string
	kernel     string
	modulesDir string
	init       bool
	command    []string
	compress   string // "", none, gzip or zstd
}

// source is one --dir, --tar or --list.
type source struct{ kind, name string }

func newInitramfsCommand() *cobra.Command {
	var o initramfsOptions
	cmd := &cobra.Command{
		Use:   "initramfs -o FILE [flags] [-- COMMAND...]",
		Short: "Create an initial RAM file system",
		Long:  initramfsHelp,
		Example: "  minivmm initramfs -o initrd.cpio --dir root --owner 0:0\n" +
			"  docker export web | minivmm initramfs -o web.cpio --tar - --init -- /usr/bin/web\n" +
			"  minivmm initramfs -o initrd.cpio --list files.list --modules virtio_net,virtio_scsi --kernel 6.12",
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVarP(&o.output, "output", "o", "", "file to create or replace; - for stdout")
	for _, f := range []struct{ kind, arg, help string }{
		{"dir", "DIR", "add a folder, with owners, modes, device nodes and hard links"},
		{"tar", "FILE", "add a tar: plain, gzip, zstd, xz, lz4 or bzip2; - for stdin"},
		{"list", "FILE", "add the files of a list; - for stdin"},
	} {
		flags.Var(flag{f.arg, func(value string) error {
			if value == "" {
				return errors.New("the name is empty")
			}
			o.sources = append(o.sources, source{f.kind, value})
			return nil
		}}, f.kind, f.help)
	}
	flags.Var(o.owner.flag(), "owner", "numeric owner of all files from --dir")
	flags.StringSliceVar(&o.modules, "modules", nil, "add kernel modules and their dependencies")
	flags.StringVar(&o.kernel, "kernel", "", "kernel of the modules: a NAME of minivmm kernel list")
	flags.StringVar(&o.modulesDir, "kernel-modules", "", "or its modules folder, with modules.dep")
	flags.BoolVar(&o.init, "init", false, "add minivmm's init")
	flags.Var(flag{"FORMAT", func(value string) error {
		if !slices.Contains([]string{"none", "gzip", "zstd"}, value) {
			return errors.New("want none, gzip or zstd")
		}
		o.compress = value
		return nil
	}}, "compress", "compression: none, gzip or zstd")
	argNames(flags, "output=FILE", "modules=NAME,...", "kernel=NAME", "kernel-modules=DIR")
	flags.Lookup("modules").DefValue = ""
	cmd.RunE = working(func(ctx context.Context, cmd *cobra.Command, args []string) error {
		if cmd.ArgsLenAtDash() != 0 && len(args) > 0 {
			return usageError{fmt.Errorf("unknown argument %q\nusage: %s", args[0], cmd.UseLine())}
		}
		o.command = args
		if err := o.check(rawOut(cmd)); err != nil {
			return usageError{err}
		}
		return o.run(ctx, cmd)
	})
	return cmd
}

// check returns an error for flags that contradict each other.
func (o *initramfsOptions) check(stdout io.Writer) error {
	fromStdin := 0
	for _, s := range o.sources {
		switch {
		case s.name == "-" && s.kind != "dir":
			fromStdin++
		case s.kind == "dir" && o.output != "-":
			if err := outside(o.output, s.name); err != nil {
				return err
			}
		}
	}
	f, isFile := stdout.(*os.File)
	switch {
	case o.output == "":
		return errors.New("no output file: set it with -o FILE")
	case o.output == "-" && isFile && term.IsTerminal(int(f.Fd())):
		return errors.New("stdout is a terminal: set an output file with -o FILE")
	case len(o.sources) == 0 && !o.init && len(o.modules) == 0:
		return errors.New("no content: use --dir, --tar, --list, --modules or --init")
	case fromStdin > 1:
		return errors.New("only one source can read from stdin")
	case o.kernel != "" && o.modulesDir != "":
		return errors.New("--kernel and --kernel-modules exclude each other")
	case (len(o.modules) > 0) != (o.kernel != "" || o.modulesDir != ""):
		return errors.New("--modules must be used together with --kernel or --kernel-modules")
	case len(o.command) > 0 && !o.init:
		return errors.New("COMMAND requires --init")
	}
	return nil
}

// outside returns an error if the output is in one of its source folders: the next run would add
// the old output.
func outside(output, dir string) error {
	var at [2]string
	for i, name := range []string{filepath.Dir(output), dir} {
		name, err := filepath.Abs(name)
		if err == nil {
			at[i], err = filepath.EvalSymlinks(name)
		}
		if err != nil {
			return nil // reading the source or writing the output reports the error
		}
	}
	if rel, err := filepath.Rel(at[1], at[0]); err == nil && filepath.IsLocal(rel) {
		return fmt.Errorf("output %s is inside its source %s", output, at[1])
	}
	return nil
}

// run creates the file.
func (o *initramfsOptions) run(ctx context.Context, cmd *cobra.Command) (err error) {
	dir := os.TempDir()
	if o.output != "-" {
		dir = filepath.Dir(o.output) // there must be room for the output anyway
	}
	if err := workdir.Sweep(dir); err != nil {
		return err
	}
	contents, err := workdir.Temp(dir)
	if err != nil {
		return sourceError(err)
	}
	defer func() { err = errors.Join(err, contents.Close()) }()
	tree, err := filetree.New(contents.Path, filetree.Limits{})
	if err != nil {
		return err
	}
	for _, s := range o.sources {
		if err := addSource(ctx, tree, s.kind, s.name, o.owner, cmd.InOrStdin()); err != nil {
			return sourceError(err)
		}
	}
	loaded, err := o.addModules(tree)
	if err != nil {
		return sourceError(err)
	}
	if o.init {
		if err := o.addInit(ctx, tree, loaded, cmd.ErrOrStderr()); err != nil {
			return err
		}
	}
	write := func(w io.Writer) error {
		packed, err := compressor(w, o.compress)
		if err != nil {
			return err
		}
		if err := initrd.Write(packed, tree); err != nil {
			return err
		}
		return packed.Close()
	}
	if o.output == "-" {
		err = write(initrd.ContextWriter(ctx, rawOut(cmd)))
	} else {
		err = initrd.Create(ctx, o.output, write)
	}
	return sourceError(err)
}

// addSource adds a folder ("dir"), a tar or a list on top of the tree; the tar or list "-" is stdin.
func addSource(ctx context.Context, tree *filetree.Tree, kind, name string, as owner, stdin io.Reader) error {
	switch {
	case kind == "dir" && as.set:
		return tree.AddDirAs(ctx, name, as.uid, as.gid)
	case kind == "dir":
		return tree.AddDir(ctx, name)
	}
	var in io.Reader
	if name == "-" {
		in = interruptibleReader(ctx, stdin)
	} else {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	if kind == "list" {
		return tree.AddList(ctx, in, filepath.Dir(name))
	}
	err := tree.AddTar(ctx, in)
	if err != nil && name != "-" {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return err
}

// addModules adds the modules and returns their paths in load order.
func (o *initramfsOptions) addModules(tree *filetree.Tree) ([]string, error) {
	if len(o.modules) == 0 {
		return nil, nil
	}
	modules, err := o.openModules()
	if err != nil {
		return nil, err
	}
	loaded, err := initrd.AddModules(tree, modules, o.modules...)
	if err != nil {
		return nil, err
	}
	order := ""
	for _, path := range loaded {
		order += path + "\n"
	}
	return loaded, initrd.AddFile(tree, "/modules/order", 0o644, []byte(order))
}

func (o *initramfsOptions) openModules() (*kernel.Modules, error) {
	if o.kernel == "" {
		return kernel.OpenModules(o.modulesDir)
	}
	c, err := openCache(nil)
	if err != nil {
		return nil, err
	}
	k, err := kernel.Open(c).Find(strings.TrimPrefix(o.kernel, "store:")) // boot.kernel has this prefix
	if err != nil {
		return nil, err
	}
	return k.OpenModules()
}

// addInit adds minivmm's own init and its plan.
func (o *initramfsOptions) addInit(ctx context.Context, tree *filetree.Tree, loaded []string, log io.Writer) error {
	c, err := openCache(log)
	if err != nil {
		return err
	}
	program, err := initbin.Path(ctx, c)
	if err != nil {
		return err
	}
	command := o.command
	if len(command) == 0 {
		command = []string{"/bin/sh"}
	}
	return sourceError(initrd.AddInit(tree, program, agent.Plan{Modules: loaded, Command: &agent.Command{Argv: command}}))
}

// owner is the value UID:GID.
type owner struct {
	uid, gid uint32
	set      bool
}

// flag returns the flag --owner.
func (o *owner) flag() flag {
	return flag{"UID:GID", func(value string) error {
		uid, gid, _ := strings.Cut(value, ":")
		u, err := strconv.ParseUint(uid, 10, 32)
		g, gerr := strconv.ParseUint(gid, 10, 32)
		if err != nil || gerr != nil {
			return errors.New("want UID:GID as two numbers")
		}
		*o = owner{uint32(u), uint32(g), true}
		return nil
	}}
}

// compressor returns a writer that compresses into w. The result is reproducible: no times, no
// names, one thread.
func compressor(w io.Writer, format string) (io.WriteCloser, error) {
	switch format {
	case "gzip":
		return gzip.NewWriter(w), nil
	case "zstd":
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	}
	return unpacked{w}, nil
}

type unpacked struct{ io.Writer }

func (unpacked) Close() error { return nil }
