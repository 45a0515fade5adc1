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

// prepare builds minivmm and creates the files that the example names.
func prepare(ctx context.Context, c *cache.Cache, log *progress) error {
	if _, err := os.Stat(example); err != nil {
		return fmt.Errorf("run this at the top of the source tree: %w", err)
	}
	log.printf("building %s", program)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", program, "./cmd/minivmm")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, strings.TrimSpace(string(out)))
	}
	log.printf("preparing the guest: Debian's kernel and busybox, and an empty disk of %d MiB", diskBytes>>20)
	k, err := kernel.Get(ctx, debian.New(c), "6.12-cloud")
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
	disk := filepath.Join(built, "disk.img")
	if info, err := os.Stat(disk); err != nil || info.Size() != diskBytes {
		if err := makeDisk(disk); err != nil {
			return err
		}
	}
	return errors.Join(
		install(k.Image, filepath.Join(built, "vmlinuz")),
		install(initrd, filepath.Join(built, "initrd.cpio")),
	)
}

// install copies one file (from) over another (to), unless both already have the same content.
func install(from, to string) error {
	want, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if have, err := os.ReadFile(to); err == nil && bytes.Equal(have, want) {
		return nil
	}
	return os.WriteFile(to, want, 0o644)
}

// makeDisk creates an empty, sparse disk of diskBytes bytes.
func makeDisk(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(diskBytes), f.Close())
}
