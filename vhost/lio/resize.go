package lio

import (
	"errors"
	"fmt"

	"minivmm/internal/diskimage"
)

// Rescan checks whether the sizes of the images have changed, passes new sizes to the kernel, and
// returns the LUNs whose size changed. From then on READ CAPACITY reports the new size and requests
// beyond the old size are served, but the guest is not notified: vhost-scsi sends no event, and LIO
// reports no unit attention condition. A Linux guest must rescan the disk
// (/sys/class/block/sdX/device/rescan).
//
// fileio accepts a new size in its control file at any time (fd_set_configfs_dev_params;
// fd_get_blocks); iblock reads the size from the block device (iblock_get_blocks). A partial block
// at the end does not count. If an image no longer contains a whole block, its LUN keeps the old
// size and Rescan returns an error.
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
	size, _, err := diskimage.Size(img.File)
	if err != nil {
		return false, err
	}
	if size -= size % uint64(img.BlockSize); size == 0 {
		return false, fmt.Errorf("%s: no longer has a whole block", img.File.Name())
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

// SizeBytes returns the current size of a LUN in the kernel.
func (tg *Target) SizeBytes(lun uint16) uint64 { return tg.images[lun].SizeBytes }
