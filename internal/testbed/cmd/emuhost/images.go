package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"minivmm/guestimages/cache"
	"minivmm/guestimages/debian"
	"minivmm/guestimages/initrd"
	"minivmm/guestimages/kernel"
	"minivmm/internal/testbed/emuhost"
	"minivmm/internal/testbed/probe"
)

// printKernel implements "emuhost kernel".
func printKernel(ctx context.Context, c *cache.Cache, args []string) error {
	name := args[0]
	if !strings.Contains(name, "-") { // a host kernel, such as 6.12
		name += "-" + kernel.Full
	}
	k, err := kernel.Get(ctx, debian.New(c), name)
	var unknown *kernel.InputError
	if errors.As(err, &unknown) {
		return &statusError{statusUsage, err}
	}
	if err != nil {
		return err
	}
	_, err = fmt.Printf("%s\n%s\n", k.Image, k.Modules)
	return err
}

// printChoice implements "emuhost probe".
func printChoice(ctx context.Context, c *cache.Cache, _ []string) error {
	choice, err := probe.Choose(ctx, c, "auto")
	if err != nil {
		return err
	}
	_, err = fmt.Println(choice)
	return err
}

// prepare implements "emuhost prepare": it fetches and builds everything that tests use on hosts
// with Linux 6.12 and 6.1.
func prepare(ctx context.Context, c *cache.Cache, _ []string) error {
	for _, name := range []string{"6.12", "6.1"} {
		config := emuhost.DefaultConfig()
		config.Kernel = name
		if _, err := emuhost.Prepare(ctx, c, config); err != nil {
			return err
		}
		k, err := kernel.Get(ctx, debian.New(c), name+"-cloud")
		if err != nil {
			return err
		}
		if _, err := initrd.Build(ctx, c, k, initrd.Options{}); err != nil {
			return err
		}
	}
	return nil
}

// update implements "emuhost update".
func update(ctx context.Context, c *cache.Cache, _ []string) error {
	return debian.New(c).Forget(ctx)
}
