package kernel

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"minivmm/vmm/boot"

	"golang.org/x/sys/unix"
)

// maxUnasked is how many kernels added at boot the store keeps, about 75 MB each.
const maxUnasked = 8

// settleTime is the resolution of the coarsest time stamps in use, FAT's.
const settleTime = 2 * time.Second

// Unpacked returns the path of the vmlinux that is packed in the kernel image at path, for a
// machine that boots this file. The first time, it copies the image into the store; later it
// recognizes the image by its inode, size and times, without reading it. The store keeps the last
// maxUnasked such kernels. Unpacked returns path itself for an image that is not packed, that has
// an unknown compression, or that cannot be read or booted, which the VMM then reports. An error
// gives the reason why the store cannot keep the vmlinux.
func (s *Store) Unpacked(ctx context.Context, path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO must not hang the start
	if err != nil {
		return path, nil
	}
	defer f.Close()
	key, changed, err := fileKey(f)
	if err != nil || key == "" {
		return path, err
	}
	known, err := s.lookUp(func(x *index) ([]record, error) {
		return x.matching(func(r record) bool { return slices.Contains(r.Files, key) }), nil
	})
	if err != nil {
		return "", err
	}
	if len(known) > 0 {
		return cmp.Or(known[0].Vmlinux, path), nil
	}
	if s.now().Sub(changed) < settleTime {
		return "", fmt.Errorf("the image changed within the last %v", settleTime)
	}
	source, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	k, err := s.add(ctx, false, func(ctx context.Context, work string, r *record) error {
		r.Source, r.Files, r.Unasked = source, []string{key}, true
		dir := filepath.Join(work, entry)
		if err := copyFile(filepath.Join(dir, imageFile), path, maxImage); err != nil {
			return err
		}
		if now, _, err := fileKey(f); err != nil || now != key {
			return cmp.Or(err, errors.New("the image changed during the import"))
		}
		if err := takeImage(dir, r); err != nil {
			return importError(path, err)
		}
		return nil
	})
	var input *InputError
	if errors.As(err, &input) {
		err = nil
	}
	return cmp.Or(k.Vmlinux, path), err
}

// fileKey identifies a packed kernel image without reading it, by a hash of device, inode, size,
// mtime and ctime. Only the kernel sets ctime: every write, truncation or chmod advances it, and a
// file put in the image's place has another inode. changed is the ctime; a second change within the
// same clock tick would not be detected. key is "" for a file that is not packed.
func fileKey(f *os.File) (key string, changed time.Time, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "", changed, &os.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return "", changed, nil
	}
	if packed, err := boot.IsPacked(f); err != nil || !packed {
		return "", changed, err
	}
	sum := sha256.Sum256(fmt.Append(nil, st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim))
	return hex.EncodeToString(sum[:16]), time.Unix(st.Ctim.Unix()), nil
}

// merge adds the index's record of the same image to r. A kernel that a user added keeps its source
// when a machine boots the same image later.
func (r *record) merge(old record) {
	for _, key := range old.Files {
		if !slices.Contains(r.Files, key) && len(r.Files) < maxUnasked {
			r.Files = append(r.Files, key)
		}
	}
	if r.Unasked && !old.Unasked {
		r.Source = old.Source
	}
	r.Unasked = r.Unasked && old.Unasked
}

// trim removes the oldest kernels that were added at boot.
func (x *index) trim() {
	unasked := x.matching(func(r record) bool { return r.Unasked })
	for _, r := range unasked[:max(0, len(unasked)-maxUnasked)] {
		x.remove(r.ID)
	}
}
