// Command demo shows minivmm at work, from scratch. It builds minivmm, fetches a guest, starts the
// VM of examples/debian.toml as a user would, transfers data over the guest's network card and
// disk, and prints the results: rates, checksums, exits to user space, and the work of the kernel's
// workers. It requires Debian, Go and gcc, and must be started in the top folder of the source
// tree.
//
// If this computer has no working KVM or no vhost, the demo runs in the emulated host (package
// emuhost). The exit status is 0 only if everything succeeded.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"minivmm/guestimages/agent"
	"minivmm/guestimages/cache"
	"minivmm/internal/testbed/emuhost"
	"minivmm/internal/testbed/probe"
)

// inside is the argument with which the demo starts itself in the emulated host. Users do not pass
// it.
const inside = "inside"

// patience is the time limit of the demonstration. It is measured with this computer's clock,
// because an emulated host's clock may run fast when this computer is busy.
const patience = 20 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	var err error
	switch {
	case len(os.Args) == 1:
		err = demo(ctx)
	case slices.Equal(os.Args[1:], []string{inside}):
		err = show(ctx, os.Stdout, os.Stderr)
	default:
		err = errors.New("no arguments allowed; " +
			probe.ModeEnv + " (auto, direct, emulated) selects where the guest runs")
	}
	switch {
	case err == nil:
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "demo: interrupted")
		os.Exit(130)
	default:
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		os.Exit(1)
	}
}

// demo prepares the files, chooses between this computer and the emulated host, and runs there.
func demo(ctx context.Context) error {
	log := &progress{w: os.Stderr, start: time.Now()}
	c, err := cache.Open(log)
	if err != nil {
		return err
	}
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	// Until unlock is called, no other demo in this source tree prepares files or runs directly on
	// this computer.
	unlock, err := c.Lock(ctx, "demo"+dir)
	if err != nil {
		return err
	}
	unlock = sync.OnceFunc(unlock)
	defer unlock()
	if err := prepare(ctx, c, log); err != nil {
		return err
	}
	choice, err := probe.Choose(ctx, c, "auto")
	if err != nil {
		return err
	}
	log.printf("%v", choice)
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("not finished after %v", patience))
	defer cancel()
	if choice.Direct {
		return show(ctx, os.Stdout, log)
	}
	// Each emulated host has its own layer over the files, so another demo may use the same files
	// at the same time.
	unlock()
	return emulated(ctx, c, dir, log)
}

// emulated starts this program in the emulated host, where the program calls show.
func emulated(ctx context.Context, c *cache.Cache, dir string, log *progress) error {
	h, err := emuhost.Prepare(ctx, c, emuhost.DefaultConfig())
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	log.printf("starting the emulated host")
	exit, err := h.Run(ctx, agent.Command{Argv: []string{self, inside}, Env: os.Environ(), Dir: dir}, agent.Streams{Stdout: os.Stdout, Stderr: log})
	if err != nil {
		return err
	}
	if exit.Code() != 0 {
		return errors.New("the demonstration failed in the emulated host, as reported above")
	}
	return nil
}
