package diskimage

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// limits reads the block sizes of a block device (BLKSSZGET, BLKPBSZGET) and checks that it is
// writable (BLKROGET): a read-only device can still be opened for writing.
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
		return errorf("%s: the device is read-only (set readonly = true, or run blockdev --setrw %s)", img.File.Name(), img.File.Name())
	}
	return nil
}

// hostUse describes the host's use of a block device, of one of its partitions, or of the disk that
// contains it, such as "sda1 is mounted at /home". It returns "" if no use is visible in this
// namespace.
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
			// 36 35 98:0 ROOT MOUNT OPTIONS... - TYPE SOURCE OPTIONS; on btrfs the number is
			// another one
			mount, source, _ := strings.Cut(line, " - ")
			f := strings.Fields(mount)
			if len(f) > 4 && (f[2] == strings.TrimSpace(string(number)) || strings.Contains(source, " /dev/"+name+" ")) {
				return name + " is mounted at " + f[4]
			}
		}
		if above, _ := filepath.Glob(dir + "/holders/*"); len(above) > 0 {
			return name + " is part of " + filepath.Base(above[0])
		}
		if strings.Contains("\n"+string(swaps), "\n/dev/"+name+" ") {
			return name + " is swap space"
		}
	}
	return ""
}
