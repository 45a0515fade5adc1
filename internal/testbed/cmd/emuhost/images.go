package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"minivmm/guestimages/cache"
	"minivmm/guestimages/debian"
	"minivmm/guestimages/initrd"
	"minivmm/guestimages/kernel"
	"minivmm/internal/testbed/emuhost"
)

func getKernel(ctx context.Context, c *cache.Cache, name string) (kernel.Kernel, error) {
	series, flavour, err := kernel.Parse(name)
	if err != nil {
		return kernel.Kernel{}, &statusError{statusUsage, err}
	}
	return kernel.Get(ctx, debian.New(c), series, flavour)
}

// printKernel implements "emuhost kernel".
func printKernel(ctx context.Context, c *cache.Cache, args []string) error {
	if len(args) != 1 {
		return &statusError{statusUsage, errors.New("kernel: want one name: 6.12, 6.1, 6.12-cloud or 6.1-cloud")}
	}
	k, err := getKernel(ctx, c, args[0])
	if err != nil {
		return ended(ctx, err)
	}
	_, err = fmt.Printf("%s\n%s\n", k.Image, k.Modules)
	return err
}

// writeInitrd implements "emuhost initrd".
func writeInitrd(ctx context.Context, c *cache.Cache, args []string) error {
	f := flag.NewFlagSet("emuhost initrd", flag.ContinueOnError)
	var files, mods, command list
	f.Var(&files, "file", "SOURCE:PATH, a file on this machine and its path in the guest; may be repeated")
	f.Var(&mods, "module", "a kernel module to load instead of the default ones; may be repeated")
	f.Var(&command, "command", "the guest's command instead of /bin/sh; repeat the flag for each argument")
	hostname := f.String("hostname", "guest", "the guest's host name")
	if err := parse(f, args); err != nil {
		return err
	}
	if f.NArg() != 2 {
		return &statusError{statusUsage, errors.New("initrd: want a kernel, such as 6.12-cloud, and the file to write")}
	}
	o := initrd.Options{Modules: mods, Hostname: *hostname, Command: command}
	for _, file := range files {
		source, path, ok := strings.Cut(file, ":")
		if !ok {
			return &statusError{statusUsage, fmt.Errorf("-file %s: want SOURCE:PATH", file)}
		}
		o.Files = append(o.Files, initrd.File{Source: source, Path: path})
	}
	k, err := getKernel(ctx, c, f.Arg(0))
	if err != nil {
		return ended(ctx, err)
	}
	made, err := initrd.Build(ctx, c, k, o)
	if err != nil {
		return ended(ctx, err)
	}
	return copyFile(f.Arg(1), made)
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}

// prepare implements "emuhost prepare": it fetches and builds everything that tests use, for both
// host kernels.
func prepare(ctx context.Context, c *cache.Cache, args []string) error {
	if len(args) != 0 {
		return &statusError{statusUsage, errors.New("prepare takes no arguments")}
	}
	for _, name := range []string{"6.12", "6.1"} {
		config := emuhost.DefaultConfig()
		config.Kernel = name
		if _, err := emuhost.Prepare(ctx, c, config); err != nil {
			return ended(ctx, err)
		}
		k, err := getKernel(ctx, c, name+"-cloud")
		if err != nil {
			return ended(ctx, err)
		}
		if _, err := initrd.Build(ctx, c, k, initrd.Options{}); err != nil {
			return ended(ctx, err)
		}
	}
	return nil
}

// update implements "emuhost update".
func update(ctx context.Context, c *cache.Cache, args []string) error {
	if len(args) != 0 {
		return &statusError{statusUsage, errors.New("update takes no arguments")}
	}
	return debian.New(c).Forget(ctx)
}
