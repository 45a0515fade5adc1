package cache

import (
	"os"

	"minivmm/internal/workdir"
)

// making is the folder that contains the work folders.
const making = "making"

// Work creates a work folder, in the same file system as the entries. It first removes the work
// folders of processes that died. The caller must close it.
func (c *Cache) Work() (*workdir.Dir, error) {
	dir := c.Path(making)
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = workdir.Sweep(dir)
	}
	if err != nil {
		return nil, failed(err)
	}
	work, err := workdir.Temp(dir)
	if err != nil {
		return nil, failed(err)
	}
	return work, nil
}
