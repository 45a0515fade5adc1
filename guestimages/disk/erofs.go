package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/filetree"
)

// erofs creates an erofs of the tree. mkfs.erofs reads the tree as a tar from a pipe.
func (b *Build) erofs(ctx context.Context, t *filetree.Tree, opt Options) error {
	for n := range t.All() {
		if err := checkErofs(n); err != nil {
			return err
		}
	}
	mkfs, err := opt.mkfsErofs(ctx)
	if err != nil {
		return err
	}
	made := measure(t).time
	// mkfs.erofs 1.8 loops forever if the tar ends within a file, so an error in writeTar must stop
	// it.
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	mk := newTool(ctx, b.dir, mkfs, "--quiet", "--tar=f", "-Eforce-inode-extended", "-L", opt.Label, "-U", opt.UUID,
		"-T"+strconv.FormatInt(max(1, made.Unix()), 10), "--mkfs-time", filepath.Base(b.image()))
	mk.Env = append(mk.Env, "TMPDIR="+b.dir) // mkfs.erofs stores contents there until it has read the whole tar
	mk.Env = slices.DeleteFunc(mk.Env, func(v string) bool {
		return strings.HasPrefix(v, "SOURCE_DATE_EPOCH=") // mkfs.erofs would replace later times with it
	})
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := writeTar(w, t, made); err != nil {
			stop(err)
		}
		w.Close()
	}()
	mk.Stdin = r
	_, _, err = mk.run()
	r.Close()
	<-done
	if err != nil {
		return err
	}
	st, err := os.Stat(b.image())
	if err != nil {
		return err
	}
	if opt.SizeBytes != 0 && st.Size() > opt.SizeBytes {
		return inputErrorf("a disk of %d KiB is too small for this tree: as erofs it needs %d KiB (%dK)", opt.SizeBytes>>10, st.Size()>>10, st.Size()>>10)
	}
	return nil
}

// mkfsErofs returns the path of mkfs.erofs, which must store everything that is in a tar. Version
// 1.7 has --tar, but stores undefined nanoseconds and damages files of 4 GiB and more; versions
// before 1.8.5 cut names to 254 bytes.
func (o *Options) mkfsErofs(ctx context.Context) (string, error) {
	path, err := o.tool(ctx, "mkfs.erofs")
	if err != nil {
		return "", err
	}
	// Old versions print their version and then fail, because they do not know the option.
	said, _, err := newTool(ctx, "", path, "--version").run()
	if ctx.Err() != nil {
		return "", err
	}
	found := regexp.MustCompile(`\d+\.[\d.]+`).FindString(string(said))
	var version [3]int
	fmt.Sscanf(found, "%d.%d.%d", &version[0], &version[1], &version[2])
	if slices.Compare(version[:], []int{1, 8, 5}) >= 0 {
		return path, nil
	}
	return "", fmt.Errorf("disk: making an erofs requires mkfs.erofs 1.8.5 or newer, but %s is version %q: "+
		"install erofs-utils from Debian 13 or newer, or use ext4 (--fs ext4): %w", path, found, errors.ErrUnsupported)
}

// checkErofs returns an *InputError for a node that a tar or mkfs.erofs cannot store.
func checkErofs(n *filetree.Node) error {
	if n.Mode&unix.S_IFMT == unix.S_IFSOCK {
		return inputErrorf("%q: erofs: mkfs.erofs cannot create sockets: remove it, or use ext4", n.Path)
	}
	if n.Minor >= 1<<19 { // mkfs.erofs before 1.9.2 stores another number
		return inputErrorf("%q: erofs: mkfs.erofs cannot create a device with minor number %d: use ext4", n.Path, n.Minor)
	}
	for name := range n.Xattrs {
		if strings.Contains(name, "=") || !matches(xattrName, name) {
			return inputErrorf("%q: erofs: mkfs.erofs cannot store the extended attribute %q", n.Path, name)
		}
	}
	return nil
}
