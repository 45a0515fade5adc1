package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"minivmm/guestimages/cache"
	"minivmm/guestimages/debian"
	"minivmm/guestimages/initrd"
	"minivmm/guestimages/kernel"
)

// Paths relative to the top of the source tree.
const (
	program   = "build/minivmm"
	example   = "examples/debian.toml"
	built     = "examples/build"
	diskBytes = 128 << 20
)

// prepare builds minivmm and creates the files that the example names. Until unlock, which may be
// called twice, no other demo in this source tree prepares files or runs directly on this machine.
func prepare(ctx context.Context, c *cache.Cache, log *progress) (unlock func(), err error) {
	if _, err := os.Stat(example); err != nil {
		return nil, fmt.Errorf("run this at the top of the source tree: %w", err)
	}
	top, err := filepath.Abs(".")
	if err != nil {
		return nil, err
	}
	unlock, err = c.Lock(ctx, "demo"+top)
	if err != nil {
		return nil, err
	}
	unlock = sync.OnceFunc(unlock)
	if err := prepareLocked(ctx, c, log); err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

func prepareLocked(ctx context.Context, c *cache.Cache, log *progress) error {
	log.printf("building %s", program)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", program, "./cmd/minivmm")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, strings.TrimSpace(string(out)))
	}
	log.printf("preparing the guest: Debian's kernel and busybox, and an empty disk of %d MiB", diskBytes>>20)
	series, flavour, err := kernel.Parse("6.12-cloud")
	if err != nil {
		return err
	}
	k, err := kernel.Get(ctx, debian.New(c), series, flavour)
	if err != nil {
		return err
	}
	initrd, err := initrd.Build(ctx, c, k, initrd.Options{Hostname: "debian"})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(built, 0o755); err != nil {
		return err
	}
	return errors.Join(
		install(k.Image, filepath.Join(built, "vmlinuz")),
		install(initrd, filepath.Join(built, "initrd.cpio")),
		makeDisk(filepath.Join(built, "disk.img"), diskBytes),
	)
}

// install makes the file a copy of from, atomically; an existing copy is left alone.
func install(from, to string) error {
	want, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if have, err := os.ReadFile(to); err == nil && bytes.Equal(have, want) {
		return nil
	}
	f, err := os.CreateTemp(filepath.Dir(to), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(want)
	if err := errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), to)
}

// makeDisk creates a sparse file of that size; an existing file of that size is left alone.
func makeDisk(name string, size int64) error {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() == size {
		return nil
	}
	return errors.Join(f.Truncate(0), f.Truncate(size))
}
