package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"minivmm/guestimages/agent"
	"minivmm/guestimages/cache"
	"minivmm/guestimages/debian"
	"minivmm/guestimages/initrd"
	guestStress "minivmm/internal/testbed/stress"
)

// stressPackages provide the QEMU that runs the guest: Debian's own, as users have it.
var stressPackages = []string{"qemu-system-x86"}

// stress implements "emuhost stress": it prepares the guest here, then runs this program in the
// emulated host.
func stress(ctx context.Context, c *cache.Cache, args []string) error {
	var o options
	f := newFlags("stress", &o)
	guestKernel := f.String("guest-kernel", "6.12-cloud", "guest kernel")
	guestCPUs := f.Int("guest-cpus", 4, "number of guest CPUs")
	duration := f.Duration("duration", time.Minute, "duration of the load")
	if err := parse(f, args); err != nil {
		return err
	}
	if err := o.finish(f); err != nil {
		return err
	}
	if f.NArg() != 0 {
		return &statusError{statusUsage, errors.New("stress takes flags only")}
	}
	if err := debian.New(c).Install(ctx, "the stress test", stressPackages...); err != nil {
		return ended(ctx, err)
	}
	k, err := getKernel(ctx, c, *guestKernel)
	if err != nil {
		return ended(ctx, err)
	}
	initrd, err := initrd.Build(ctx, c, k, initrd.Options{})
	if err != nil {
		return ended(ctx, err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	argv := []string{self, stressInside, k.Image, initrd, strconv.Itoa(*guestCPUs), duration.String()}
	return o.inHost(ctx, c, agent.Command{Argv: argv}, agent.Streams{Stdout: os.Stdout, Stderr: os.Stderr}, nil)
}

// stressInside is the command that stress runs in the emulated host. It is not for users.
const stressInside = "stress-inside"

func runStressInside(ctx context.Context, _ *cache.Cache, args []string) error {
	if len(args) != 4 {
		return &statusError{statusUsage, errors.New(`stress-inside is an internal command: use "emuhost stress"`)}
	}
	cpus, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	duration, err := time.ParseDuration(args[3])
	if err != nil {
		return err
	}
	answered, err := guestStress.Run(ctx, guestStress.Config{
		QEMU: "qemu-system-x86_64", Kernel: args[0], Initrd: args[1], CPUs: cpus, Duration: duration, Log: os.Stdout,
	})
	if err != nil {
		return err
	}
	_, err = fmt.Printf("%d pings answered in %v, no panic, no hang\n", answered, duration)
	return err
}
