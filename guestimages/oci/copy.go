package oci

import (
	"context"
	"errors"

	"minivmm/guestimages/cache"
	"minivmm/guestimages/disk"
)

// Create creates a writable disk of an image at path: a copy, with its own UUID, of the disk that
// Build returns. It also returns that disk. As in package disk, it returns fs.ErrExist if path
// exists and force is false, and EBUSY if the old image is in use. An error or interruption leaves
// nothing at path.
func Create(ctx context.Context, c *cache.Cache, image, path string, force bool, o Options, opt disk.Options) (_ *Disk, err error) {
	opt.FS = disk.Ext4
	if err := opt.Check(); err != nil {
		return nil, err
	}
	b, err := disk.Begin(path, force)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	o.Install = opt.Install
	d, err := Build(ctx, c, image, o)
	if err != nil {
		return nil, err
	}
	return d, b.FromImage(ctx, d.Path, opt)
}
