package oci

import (
	"context"
	"errors"

	"minivmm/guestimages/cache"
	"minivmm/guestimages/disk"
)

// Create makes a disk of an image at path, for its owner to write to: a copy of what Build returns, which is returned too,
// with a UUID of its own. It holds to the rules of package disk: a file that is there is fs.ErrExist unless force replaces
// it, one in use is EBUSY, and what fails or is interrupted leaves nothing.
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
