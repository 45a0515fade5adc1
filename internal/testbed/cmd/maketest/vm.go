package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"minivmm/guestimages/cache"
	"minivmm/guestimages/debian"
)

// vm runs the tests of one package: those whose names match the pattern in run, or all of them if
// run is empty. They run in one emulated host with the kernel that host names, or directly on this
// computer if it can run a guest. Tests that need a Debian disk are skipped until "make test" has
// created one.
func vm(ctx context.Context, c *cache.Cache, host, pkg, run string) error {
	g, err := prepareGuests(ctx, c, debian.New(c))
	if err != nil {
		return err
	}
	launcher, err := buildLauncher(ctx, c)
	if err != nil {
		return err
	}
	args := []string{"test", "-exec", launcher + " exec -auto -kernel " + host, "-count=1", "-timeout", "5h"}
	if run != "" {
		args = append(args, "-v", "-run", run)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, pkg)...)
	cmd.Env = append(os.Environ(), g.env(c, host)...)
	if c.Has(debianDisk()) {
		disk := c.Path(debianDisk())
		cmd.Env = append(cmd.Env, "MINIVMM_DEBIAN_DISK="+disk, "MINIVMM_CLIENTS_DISK="+disk)
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go test %s: %w", pkg, err)
	}
	return nil
}
