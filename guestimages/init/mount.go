package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/agent"
)

// kernelMounts are mounted first. /proc may be mounted already, see kernelWords.
var kernelMounts = [...]agent.Mount{
	{Source: "proc", Target: "/proc", Type: "proc"},
	{Source: "sys", Target: "/sys", Type: "sysfs"},
	{Source: "dev", Target: "/dev", Type: "devtmpfs"},
	{Source: "pts", Target: "/dev/pts", Type: "devpts", Data: "gid=5,mode=620,ptmxmode=666"},
	{Source: "shm", Target: "/dev/shm", Type: "tmpfs", Data: "mode=1777"},
}

// mount mounts m, and first creates the target folder if that folder is missing.
func mount(m agent.Mount) error {
	if err := os.MkdirAll(m.Target, 0o755); err != nil {
		return err
	}
	err := unix.Mount(m.Source, m.Target, m.Type, 0, m.Data)
	if errors.Is(err, unix.EBUSY) && m.Type == "proc" {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "mount " + m.Type, Path: m.Target, Err: err}
	}
	return nil
}

// deviceLinks adds the links in /dev that programs expect but devtmpfs does not create.
func deviceLinks() error {
	for name, target := range map[string]string{
		"/dev/fd":     "/proc/self/fd",
		"/dev/stdin":  "/proc/self/fd/0",
		"/dev/stdout": "/proc/self/fd/1",
		"/dev/stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(target, name); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

// options9p are the mount options for a 9p tree that nothing but this VM changes while the VM runs.
// msize is the largest message size that the transport handles well.
const options9p = "trans=virtio,version=9p2000.L,msize=262144"

// moveTo makes the 9p tree the root file system, with a writable layer in memory over it.
func moveTo(r agent.Root) error {
	const lower = "/lower"
	if err := mount(agent.Mount{Source: r.Tag, Target: lower, Type: "9p", Data: options9p + ",cache=loose"}); err != nil {
		return err
	}
	root, err := overlayOver(lower)
	if err != nil {
		return err
	}
	dir := root + "/lib/modules"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	// modprobe looks for the running kernel's modules there.
	if err := os.Symlink(r.Modules, dir+"/"+r.Release); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return switchRoot(root)
}

// mountShares mounts the writable folders and returns a function that unmounts them. Only mapped
// files of a share are cached, so the data has reached the host when a write returns.
func mountShares(shares []agent.Share) (unmount func(), err error) {
	unmount = func() {
		unix.Sync()
		for _, s := range shares {
			if err := unix.Unmount(s.Path, 0); err != nil {
				fmt.Fprintf(os.Stderr, "init: umount %s: %v\n", s.Path, err)
			}
		}
	}
	for _, s := range shares {
		if err := mount(agent.Mount{Source: s.Tag, Target: s.Path, Type: "9p", Data: options9p + ",cache=mmap"}); err != nil {
			return nil, err
		}
	}
	return unmount, nil
}
