package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"minivmm/guestimages/agent"
	"minivmm/guestimages/cache"
	"minivmm/internal/testbed/emuhost"
	"minivmm/internal/testbed/probe"
)

// execTest implements "emuhost exec", for "go test -exec": it runs a test binary in the emulated
// host, with the flags from go test. go test has already made the package's folder the current
// folder.
func execTest(ctx context.Context, c *cache.Cache, args []string) error {
	var o options
	f := newFlags("exec", &o)
	auto := f.Bool("auto", false, "run directly on this machine if a guest works here; "+
		probe.ModeEnv+" (auto, direct or emulated) overrides it")
	if err := o.parse(f, args); err != nil {
		return err
	}
	argv := f.Args()
	if len(argv) == 0 {
		return &statusError{statusUsage, errors.New("exec: no test binary given")}
	}
	mode := "emulated"
	if *auto {
		mode = "auto"
	}
	choice, err := probe.Choose(ctx, c, mode)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "emuhost: %v\n", choice)
	path, err := filepath.Abs(argv[0])
	if err != nil {
		return err
	}
	argv[0] = path
	if choice.Direct {
		return &os.PathError{Op: "exec", Path: path, Err: syscall.Exec(path, argv, os.Environ())}
	}
	cwd, err := os.Getwd()
	if err != nil {
		return err
	}
	o.config.Shares = append(o.config.Shares, emuhost.TestShares(argv[1:], os.Environ(), cwd)...)
	return o.inHost(ctx, c, agent.Command{Argv: argv})
}
