package lio

import (
	"fmt"

	"minivmm/internal/diskimage"
)

// Names of LIO's backstore plugins.
const (
	pluginFile  = "fileio"
	pluginBlock = "iblock"
)

// image is an open, checked and locked disk image.
type image struct {
	diskimage.Image
	plugin string
	serial string
	dir    string // folder of the backstore
}

// openImage opens and locks the image of l. The lock is held as long as File is open.
func openImage(l LUN) (image, error) {
	opened, err := diskimage.Open(diskimage.Options{Path: l.Path, ReadOnly: l.ReadOnly, BlockSize: l.BlockSize, Kernel: true})
	if err != nil {
		return image{}, err
	}
	img := image{Image: opened, plugin: pluginFile, serial: l.Serial}
	if img.BlockDevice {
		img.plugin = pluginBlock
	}
	if img.serial == "" {
		img.serial = diskimage.Serial(l.Path)
	}
	return img, nil
}

// kernelPath returns the path by which the kernel, in a system call of this process, opens the same
// image.
func (img image) kernelPath() string {
	return fmt.Sprintf("/proc/self/fd/%d", img.File.Fd())
}
