// Command maketest implements "make test". It runs all tests on this computer with the race
// detector, and then the tests that need KVM and vhost: in the emulated host on each of its
// kernels, or directly on this computer if a guest works here. At the end it prints a summary. It
// also implements "make unit", "make vm" and "make stress-host". It must run at the top of the
// source tree.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"minivmm/guestimages/cache"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := dispatch(ctx, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "maketest: %v\n", err)
		os.Exit(1)
	}
}

func dispatch(ctx context.Context, args []string) error {
	c, err := cache.Open(os.Stderr)
	if err != nil {
		return err
	}
	c.Prefix = "emuhost: "
	switch {
	case len(args) == 1 && args[0] == "test":
		return test(ctx, c, os.Stdout)
	case len(args) == 1 && args[0] == "unit":
		return unit(ctx, os.Stdout)
	case len(args) == 4 && args[0] == "vm":
		return vm(ctx, c, args[1], args[2], args[3])
	case len(args) == 3 && args[0] == "stress-host":
		return stressHost(ctx, c, os.Stdout, args[1], args[2])
	}
	return errors.New("usage: maketest test | unit | vm KERNEL PACKAGE TESTS | stress-host STARTS GUESTS")
}
