package main

import (
	"context"
	"encoding"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"minivmm/guestimages/cache"
	"minivmm/guestimages/debian"
	"minivmm/guestimages/disk"
	"minivmm/guestimages/filetree"
	"minivmm/guestimages/kernel"
	"minivmm/guestimages/oci"
	"minivmm/vmm/config"
)

// work runs do for a command that creates or changes files. A signal cancels ctx, so that do can
// remove partial results before it returns.
func work(ctx context.Context, do func(ctx context.Context) error) error {
	ctx, done := interruptible(ctx)
	defer done()
	err := do(ctx)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return imageError(err)
}

// imageError wraps errors of the guestimages packages so that they get the exit codes of exit.go.
func imageError(err error) error {
	var tool *debian.ToolError
	var ofDisk *disk.InputError
	var ofKernel *kernel.InputError
	var ambiguous *kernel.AmbiguousError
	var ofImage oci.InvalidError
	switch {
	case hostFull(err), errors.Is(err, syscall.EBUSY): // not the fault of the user's input
		return err
	case errors.Is(err, debian.ErrNoApt):
		return hostError{fmt.Errorf("%w; or import a kernel: minivmm kernel import FILE", err)}
	case errors.As(err, &tool):
		return hostError{err}
	case errors.As(err, &ofDisk), errors.As(err, &ofKernel), errors.As(err, &ambiguous), errors.As(err, &ofImage),
		errors.Is(err, debian.ErrNotOffered), errors.Is(err, fs.ErrExist), errors.Is(err, fs.ErrNotExist):
		return fileError{err}
	}
	return err
}

// hostError reports something that this host lacks.
type hostError struct{ error }

func (e hostError) Unwrap() error        { return e.error }
func (e hostError) Is(target error) bool { return target == errors.ErrUnsupported }

// hostFull reports whether err means that the host is out of a resource, or that the user's limit
// or quota is reached.
func hostFull(err error) bool {
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG, syscall.ENOMEM, syscall.EAGAIN, syscall.EMFILE, syscall.ENFILE} {
		if errors.Is(err, full) {
			return true
		}
	}
	return false
}

// sourceError marks an error from reading the user's input as such, unless the host is the cause.
func sourceError(err error) error {
	if err == nil || hostFull(err) {
		return err
	}
	return fileError{err}
}

// openCache returns the user's cache, which logs its slow operations to log.
func openCache(log io.Writer) (*cache.Cache, error) {
	c, err := cache.Open(log)
	if err == nil {
		c.Prefix = "minivmm: "
	}
	return c, err
}

// unknownCommand is the RunE of a command that has only subcommands. It runs without a subcommand
// or with an unknown one.
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

// addTar adds the contents of a tar file on top of the tree; "-" is stdin.
func addTar(ctx context.Context, tree *filetree.Tree, name string, stdin io.Reader) error {
	if name == "-" {
		return tree.AddTar(ctx, interruptibleReader(ctx, stdin))
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := tree.AddTar(ctx, f); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// addDir adds the contents of a directory on top of the tree.
func addDir(ctx context.Context, tree *filetree.Tree, name string, as owner) error {
	if as.set {
		return tree.AddDirAs(ctx, name, as.uid, as.gid)
	}
	return tree.AddDir(ctx, name)
}

// flag is a flag whose value is given to set. arg is the value's name in the help.
type flag struct {
	arg string
	set func(value string) error
}

// Set, String and Type implement pflag.Value.
func (f flag) Set(value string) error { return f.set(value) }
func (f flag) String() string         { return "" }
func (f flag) Type() string           { return f.arg }

// text returns the set function of a value that parses itself.
func text(value encoding.TextUnmarshaler) func(string) error {
	return func(s string) error { return value.UnmarshalText([]byte(s)) }
}

// argNames sets the names of flags' arguments in the help, as pairs "flag=ARGUMENT".
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
