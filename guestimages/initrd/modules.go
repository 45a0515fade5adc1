package modules

import (
	"path"

	"minivmm/guestimages/initramfs"
)

// AddTo adds the named modules and all that they need, unpacked and without signatures, to an initial RAM file system, and returns their paths
// there in load order.
func AddTo(image *initramfs.Archive, t *Tree, names ...string) ([]string, error) {
	files, err := t.LoadOrder(names...)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, file := range files {
		b, err := t.Read(file)
		if err != nil {
			return nil, err
		}
		p := path.Join("/modules", nameOf(file)+".ko")
		image.File(p, 0o644, initramfs.Owner{}, unsigned(b))
		paths = append(paths, p)
	}
	return paths, nil
}
