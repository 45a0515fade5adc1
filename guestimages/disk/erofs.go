package disk

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/filetree"
)

// erofs creates an erofs image of the tree. mkfs.erofs reads the tree as a tar from a pipe.
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
	// mkfs.erofs 1.8 loops forever if the tar ends within a file, so an error in writeTar must
	// stop mkfs.erofs.
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

// mkfsErofs returns the path of mkfs.erofs 1.8.5 or newer, which stores everything that is in a
// tar. Version 1.7 has --tar, but stores undefined nanoseconds and damages files of 4 GiB and more.
// Versions before 1.8.5 cut names to 254 bytes.
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
	if n.Minor >= 1<<19 { // mkfs.erofs before 1.9.2 stores a wrong number
		return inputErrorf("%q: erofs: mkfs.erofs cannot create a device with minor number %d: use ext4", n.Path, n.Minor)
	}
	for name := range n.Xattrs {
		if strings.Contains(name, "=") || !matches(xattrName, name) {
			return inputErrorf("%q: erofs: mkfs.erofs cannot store the extended attribute %q", n.Path, name)
		}
	}
	return nil
}

// writeTar writes the tree as a tar for mkfs.erofs, in the pax format of pax(1). A node without a
// time gets the time given by made. archive/tar cannot be used: it omits trailing zeros from
// fractions of a second, and mkfs.erofs before 1.9.2 reads the digits as a number of nanoseconds.
func writeTar(to io.Writer, t *filetree.Tree, made time.Time) error {
	w := bufio.NewWriterSize(to, 64<<10)
	for n := range t.All() {
		if err := writeTarNode(w, n, made); err != nil {
			return fmt.Errorf("disk: %q: %w", n.Path, err)
		}
	}
	w.Write(make([]byte, 2*tarBlock)) // the end mark
	return w.Flush()
}

// tarTypes maps the file types of st_mode to the types of tar entries.
var tarTypes = map[uint32]byte{unix.S_IFREG: '0', unix.S_IFLNK: '2', unix.S_IFCHR: '3', unix.S_IFBLK: '4', unix.S_IFDIR: '5', unix.S_IFIFO: '6'}

func writeTarNode(w *bufio.Writer, n *filetree.Node, made time.Time) error {
	kind, target, size := tarTypes[n.Mode&unix.S_IFMT], n.Target, n.SizeBytes
	if n.Link != "" {
		kind, target, size = '1', n.Link, 0
	}
	var records strings.Builder
	add := func(key, value string) {
		bytes := len(" =\n") + len(key) + len(value)
		bytes += len(strconv.Itoa(bytes + len(strconv.Itoa(bytes)))) // the number counts its own digits
		fmt.Fprintf(&records, "%d %s=%s\n", bytes, key, value)
	}
	mtime := timeOf(n, made)
	nsec := mtime.Nanosecond()
	if mtime.Unix() < 0 {
		nsec = 0 // the sign of a fraction before 1970 depends on the version of mkfs.erofs
	}
	add("path", "./"+n.Path)
	add("mtime", fmt.Sprintf("%d.%09d", mtime.Unix(), nsec))
	add("uid", strconv.FormatUint(uint64(n.UID), 10))
	add("gid", strconv.FormatUint(uint64(n.GID), 10))
	add("size", strconv.FormatInt(size, 10))
	if target != "" {
		add("linkpath", target)
	}
	for _, name := range slices.Sorted(maps.Keys(n.Xattrs)) {
		add("SCHILY.xattr."+name, string(n.Xattrs[name]))
	}
	if records.Len() > maxRecords {
		return inputErrorf("erofs: path, link and extended attributes need %d bytes in a tar; mkfs.erofs can read %d", records.Len(), maxRecords)
	}
	w.Write(tarHeader('x', records.Len(), &filetree.Node{}))
	w.WriteString(records.String())
	padTar(w, int64(records.Len()))
	w.Write(tarHeader(kind, 0, n))
	if kind != '0' || size == 0 {
		return nil
	}
	f, err := n.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.CopyN(w, f, size); errors.Is(err, io.EOF) {
		return fmt.Errorf("%s became smaller while it was read", f.Name())
	} else if err != nil {
		return err
	}
	return padTar(w, size)
}

const (
	tarBlock   = 512
	maxRecords = 32 << 10 // mkfs.erofs before 1.9.2 damages longer records (lib/tar.c, erofs_iostream_bread)
)

func padTar(w io.Writer, size int64) error {
	_, err := w.Write(make([]byte, -size&(tarBlock-1)))
	return err
}

// tarHeader returns the header of a tar entry. The header contains only what pax records cannot
// express: type, mode, device number and a size. The size is that of the pax records in the entry
// that holds them, and 0 in other entries.
func tarHeader(kind byte, size int, n *filetree.Node) []byte {
	b := make([]byte, tarBlock)
	for off, field := range map[int]string{
		0: "entry", 100: octal(7, n.Mode&0o7777), 108: octal(7, 0), 116: octal(7, 0), 124: octal(11, uint32(size)), 136: octal(11, 0),
		148: "        ", 156: string(kind), 257: "ustar\x0000", 329: octal(7, n.Major), 337: octal(7, n.Minor),
	} {
		copy(b[off:], field)
	}
	sum := uint32(0)
	for _, c := range b {
		sum += uint32(c)
	}
	copy(b[148:], octal(6, sum)+"\x00")
	return b
}

func octal(digits int, v uint32) string { return fmt.Sprintf("%0*o", digits, v) }
