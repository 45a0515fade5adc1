package diskimage

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// limits asks a block device for its block sizes (BLKSSZGET, BLKPBSZGET) and whether it can be
// written (BLKROGET): it can be opened for writing also if not.
func (img *Image) limits(readOnly bool) error {
	var logical, protected int
	for _, ask := range []struct {
		request uint
		name    string
		to      *int
	}{
		{unix.BLKSSZGET, "BLKSSZGET", &logical},
		{unix.BLKPBSZGET, "BLKPBSZGET", &img.Physical},
		{unix.BLKROGET, "BLKROGET", &protected},
	} {
		n, err := unix.IoctlGetInt(int(img.File.Fd()), ask.request)
		if err != nil {
			return &os.PathError{Op: ask.name, Path: img.File.Name(), Err: err}
		}
		*ask.to = n
	}
	img.BlockSize = max(img.BlockSize, logical)
	if protected != 0 && !readOnly {
		return errorf("%s: the device is read-only (readonly = true, or blockdev --setrw %s)", img.File.Name(), img.File.Name())
	}
	return nil
}

// hostUse says what the host has a block device in use for, or a partition of it, or the disk of
// which it is one: "mounted at /home"; "" if that is nothing that can be seen from here.
func hostUse(rdev uint64) string {
	device, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(rdev), unix.Minor(rdev)))
	if err != nil {
		return ""
	}
	family := []string{device}
	if _, err := os.Stat(device + "/partition"); err == nil {
		family = append(family, filepath.Dir(device))
	}
	parts, _ := filepath.Glob(device + "/*/partition")
	for _, part := range parts {
		family = append(family, filepath.Dir(part))
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	swaps, _ := os.ReadFile("/proc/swaps")
	for _, dir := range family {
		name := filepath.Base(dir)
		number, _ := os.ReadFile(dir + "/dev")
		for line := range strings.Lines(string(mounts)) {
			// 36 35 98:0 ROOT MOUNT OPTIONS... - TYPE SOURCE OPTIONS; the number is not btrfs's
			mount, source, _ := strings.Cut(line, " - ")
			f := strings.Fields(mount)
			if len(f) > 4 && (f[2] == strings.TrimSpace(string(number)) || strings.Contains(source, " /dev/"+name+" ")) {
				return name + " is mounted at " + f[4]
			}
		}
		if above, _ := filepath.Glob(dir + "/holders/*"); len(above) > 0 {
			return name + " is a part of " + filepath.Base(above[0])
		}
		if strings.Contains("\n"+string(swaps), "\n/dev/"+name+" ") {
			return name + " is swap space"
		}
	}
	return ""
}
