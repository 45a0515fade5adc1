package lio

import (
	"errors"
	"fmt"

	"minivmm/internal/diskimage"
)

// Rescan looks whether the images' sizes have changed, gives the kernel the new
// ones, and returns the LUNs where they have. From then on READ CAPACITY has the
// new size and requests beyond the old one are served, but nothing tells the
// guest: vhost-scsi has no event for it and LIO no unit attention condition, so a
// Linux guest is to be asked (/sys/class/block/sdX/device/rescan).
//
// fileio takes its size from the control file at any time
// (fd_set_configfs_dev_params; fd_get_blocks); iblock asks the block device
// (iblock_get_blocks). Bytes at the end that are no whole block do not count. An
// image that was made empty keeps its size, with an error.
func (tg *Target) Rescan() (changed []uint16, err error) {
	var errs []error
	for i := range tg.images {
		resized, err := tg.rescan(i)
		if resized {
			changed = append(changed, uint16(i))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("disk %d: %w", i, err))
		}
	}
	return changed, errors.Join(errs...)
}

func (tg *Target) rescan(i int) (changed bool, err error) {
	img := &tg.images[i]
	if img.part {
		return false, nil
	}
	size, _, err := diskimage.Size(img.File)
	if err != nil {
		return false, err
	}
	if size -= size % uint64(img.BlockSize); size == 0 {
		return false, fmt.Errorf("%s: has no block any more", img.File.Name())
	}
	if size == img.SizeBytes {
		return false, nil
	}
	if !img.BlockDevice {
		if err := tg.tree.fs.write(img.dir+"/control", fmt.Sprintf("fd_dev_size=%d", size)); err != nil {
			return false, err
		}
	}
	img.SizeBytes = size
	return true, nil
}

// SizeBytes is the size of a LUN as the kernel has it.
func (tg *Target) SizeBytes(lun uint16) uint64 { return tg.images[lun].SizeBytes }
