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

// image is a disk image that is open, checked and locked.
type image struct {
	diskimage.Image
	plugin string
	serial string
	part   bool   // the LUN is a part of the file, whose size has no meaning
	dir    string // of the backstore
}

// openImage opens and locks the image of l. The lock holds as long as File is
// open.
func openImage(l LUN) (image, error) {
	opened, err := diskimage.Open(diskimage.Options{
		Path: l.Path, ReadOnly: l.ReadOnly, SizeBytes: l.SizeBytes, BlockSize: l.BlockSize, Kernel: true,
	})
	if err != nil {
		return image{}, err
	}
	img := image{Image: opened, plugin: pluginFile, serial: l.Serial, part: l.SizeBytes != 0}
	if img.BlockDevice {
		img.plugin = pluginBlock
	}
	if img.serial == "" {
		img.serial = diskimage.Serial(l.Path)
	}
	return img, nil
}

// kernelPath is the name under which the kernel, in a system call of this
// process, finds the open image.
func (img image) kernelPath() string {
	return fmt.Sprintf("/proc/self/fd/%d", img.File.Fd())
}
