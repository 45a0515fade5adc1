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

const initramfsHelp = `Make an initial RAM file system from folders, tars and lists.

--dir, --tar and --list may be given several times; each is laid over what those before it gave.
Owners and device nodes come from the sources and need no root. The same sources give the same bytes,
whenever and in whatever order their files were made: times are not kept, nor are extended attributes.

A list has lines as the kernel's usr/gen_init_cpio has them:
  file NAME LOCATION MODE UID GID [HARD LINK...]
  dir NAME MODE UID GID
  nod NAME MODE UID GID b|c MAJOR MINOR
  slink NAME TARGET MODE UID GID
  pipe NAME MODE UID GID
  sock NAME MODE UID GID
A LOCATION is relative to the list's folder.

--modules adds modules of a kernel with all that they need, unpacked, as /modules/NAME.ko, and their
paths in load order, one a line, as /modules/order. --init adds minivmm's own init, which loads them, brings
up the system and runs COMMAND, or else /bin/sh, and what is behind -- on the kernel's command line
instead of either.
`

// initramfsOptions are the command's flags.
type initramfsOptions struct {
	output     string
	sources    []source
	owner      owner
	modules    []string
	kernel     string
	modulesDir string
	init       bool
	command    []string
	compress   compression
}

// source is one --dir, --tar or --list.
type source struct{ kind, name string }

func newInitramfsCommand() *cobra.Command {
	var o initramfsOptions
	cmd := &cobra.Command{
		Use:   "initramfs -o FILE [flags] [-- COMMAND...]",
		Short: "Make an initial RAM file system",
		Long:  initramfsHelp,
		Example: "  minivmm initramfs -o initrd.cpio --dir root --owner 0:0\n" +
			"  docker export web | minivmm initramfs -o web.cpio --tar - --init -- /usr/bin/web\n" +
			"  minivmm initramfs -o initrd.cpio --list files.list --modules virtio_net,virtio_scsi --kernel 6.12",
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVarP(&o.output, "output", "o", "", "the file to make or replace; - for stdout")
	for _, f := range []struct{ kind, arg, help string }{
		{"dir", "DIR", "a folder, with owners, modes, device nodes and hard links"},
		{"tar", "FILE", "a tar: plain, gzip, zstd, xz, lz4 or bzip2; - for stdin"},
		{"list", "FILE", "a list of files; - for stdin"},
	} {
		flags.Var(&sourceFlag{&o.sources, f.kind, f.arg}, f.kind, f.help)
	}
	flags.Var(&o.owner, "owner", "the owner of all that --dir gives, by number")
	flags.StringSliceVar(&o.modules, "modules", nil, "kernel modules, with what they need")
	flags.StringVar(&o.kernel, "kernel", "", "the modules' kernel: one of minivmm kernel list")
	flags.StringVar(&o.modulesDir, "kernel-modules", "", "or the folder of its modules, with modules.dep")
	flags.BoolVar(&o.init, "init", false, "add minivmm's init")
	flags.Var(&o.compress, "compress", "none, gzip or zstd")
	argNames(flags, "output=FILE", "modules=NAME,...", "kernel=NAME", "kernel-modules=DIR")
	flags.Lookup("modules").DefValue = ""
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if cmd.ArgsLenAtDash() != 0 && len(args) > 0 {
			return usageError{fmt.Errorf("unknown argument %q\nusage: %s", args[0], cmd.UseLine())}
		}
		o.command = args
		if err := o.check(rawOut(cmd)); err != nil {
			return usageError{err}
		}
		return work(cmd.Context(), func(ctx context.Context) error { return o.run(ctx, cmd) })
	}
	return cmd
}

// check finds what flags contradict.
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
		return errors.New("nowhere to write to: give -o FILE")
	case o.output == "-" && isFile && term.IsTerminal(int(f.Fd())):
		return errors.New("stdout is a terminal: give -o FILE")
	case len(o.sources) == 0 && !o.init && len(o.modules) == 0:
		return errors.New("nothing to put in: give --dir, --tar, --list, --modules or --init")
	case fromStdin > 1:
		return errors.New("stdin can be one source only")
	case o.kernel != "" && o.modulesDir != "":
		return errors.New("--kernel and --kernel-modules: one kernel at a time")
	case (len(o.modules) > 0) != (o.kernel != "" || o.modulesDir != ""):
		return errors.New("--modules wants --kernel or --kernel-modules, and they want it")
	case len(o.command) > 0 && !o.init:
		return errors.New("COMMAND is for --init to run")
	}
	return nil
}

// outside refuses an output that the next run would take for a part of its source.
func outside(output, dir string) error {
	folder, err := filepath.EvalSymlinks(filepath.Dir(output))
	if err != nil {
		return nil // told when it is written
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil
	}
	if folder, err = filepath.Abs(folder); err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	if rel, err := filepath.Rel(dir, folder); err == nil && filepath.IsLocal(rel) {
		return fmt.Errorf("%s lies in %s, which it is made of", output, dir)
	}
	return nil
}

// run makes the file.
func (o *initramfsOptions) run(ctx context.Context, cmd *cobra.Command) (err error) {
	dir := os.TempDir()
	if o.output != "-" {
		dir = filepath.Dir(o.output) // which has room for what is made
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
		if err := o.add(ctx, tree, s, cmd.InOrStdin()); err != nil {
			return sourceError(err)
		}
	}
	// What depends on the kernel comes in an archive of its own, after what does not.
	var first, second initrd.Archive
	loaded, err := o.addModules(&second)
	if err != nil {
		return fileError{err}
	}
	if o.init {
		if err := o.addInit(ctx, &second, loaded, cmd.ErrOrStderr()); err != nil {
			return err
		}
	}
	if err := first.AddTree(tree); err != nil {
		return fileError{err}
	}
	write := func(w io.Writer) error {
		packed, err := o.compress.writer(w)
		if err != nil {
			return err
		}
		archives := []*initrd.Archive{&first}
		if o.init || len(loaded) > 0 {
			archives = append(archives, &second)
		}
		for _, a := range archives {
			if _, err := a.WriteTo(packed); err != nil {
				return err
			}
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

// add lays one source over the tree.
func (o *initramfsOptions) add(ctx context.Context, tree *filetree.Tree, s source, stdin io.Reader) error {
	switch s.kind {
	case "dir":
		return addDir(ctx, tree, s.name, o.owner)
	case "tar":
		return addTar(ctx, tree, s.name, stdin)
	}
	if s.name == "-" {
		return tree.AddList(ctx, interruptibleReader(ctx, stdin), ".")
	}
	f, err := os.Open(s.name)
	if err != nil {
		return err
	}
	defer f.Close()
	return tree.AddList(ctx, f, filepath.Dir(s.name))
}

// addModules adds the modules, and returns their paths in load order.
func (o *initramfsOptions) addModules(a *initrd.Archive) ([]string, error) {
	if len(o.modules) == 0 {
		return nil, nil
	}
	tree, err := o.openModules()
	if err != nil {
		return nil, err
	}
	loaded, err := a.AddModules(tree, o.modules...)
	if err != nil {
		return nil, err
	}
	order := strings.Join(loaded, "\n")
	if order != "" {
		order += "\n"
	}
	a.File("/modules/order", 0o644, []byte(order))
	return loaded, nil
}

func (o *initramfsOptions) openModules() (*kernel.Modules, error) {
	if o.kernel == "" {
		return kernel.OpenModules(o.modulesDir)
	}
	c, err := openCache(nil)
	if err != nil {
		return nil, err
	}
	k, err := kernel.Open(c).Find(strings.TrimPrefix(o.kernel, "store:")) // as boot.kernel has it
	if err != nil {
		return nil, err
	}
	return k.OpenModules()
}

// addInit adds minivmm's own init, and what it is to do.
func (o *initramfsOptions) addInit(ctx context.Context, a *initrd.Archive, loaded []string, log io.Writer) error {
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
	return a.AddInit(program, agent.Plan{Modules: loaded, Command: &agent.Command{Argv: command}})
}

// sourceFlag is one of the flags that name sources, in the order of the command line.
type sourceFlag struct {
	sources   *[]source
	kind, arg string
}

// Set, String and Type are pflag.Value's, as those of the flags below.
func (f *sourceFlag) Set(value string) error {
	if value == "" {
		return errors.New("the name is empty")
	}
	*f.sources = append(*f.sources, source{f.kind, value})
	return nil
}

func (f *sourceFlag) String() string { return "" }
func (f *sourceFlag) Type() string   { return f.arg }

// owner is the value UID:GID.
type owner struct {
	uid, gid uint32
	set      bool
}

func (o *owner) Set(value string) error {
	uid, gid, _ := strings.Cut(value, ":")
	u, err := strconv.ParseUint(uid, 10, 32)
	g, gerr := strconv.ParseUint(gid, 10, 32)
	if err != nil || gerr != nil {
		return errors.New("want UID:GID, two numbers")
	}
	*o = owner{uint32(u), uint32(g), true}
	return nil
}

func (o *owner) String() string { return "" }
func (o *owner) Type() string   { return "UID:GID" }

// compression is how the output is packed; "" is "none".
type compression string

func (c *compression) Set(value string) error {
	if !slices.Contains([]string{"none", "gzip", "zstd"}, value) {
		return errors.New("want none, gzip or zstd")
	}
	*c = compression(value)
	return nil
}

func (c *compression) String() string { return string(*c) }
func (c *compression) Type() string   { return "FORMAT" }

// writer packs into w. The same bytes in give the same bytes out: no times, no names, one thread.
func (c compression) writer(w io.Writer) (io.WriteCloser, error) {
	switch c {
	case "gzip":
		return gzip.NewWriter(w), nil
	case "zstd":
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	}
	return unpacked{w}, nil
}

type unpacked struct{ io.Writer }

func (unpacked) Close() error { return nil }
