package boot

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// cache is a folder of unpacked kernels, one file each: the vmlinux as it came
// out, then a trailer. Files are made under another name, synced and renamed,
// so that a name is always a whole file and any number of starts may fill the
// same cache at once: the last one wins with the same content.
type cache struct{ dir string }

const (
	cacheEntries  = 8         // kernels kept; about 60 MB each
	cacheTempAge  = time.Hour // a temporary file so old is of a start that died
	cacheSuffix   = ".vmlinux"
	cacheTempName = "unpacking-*"
)

// cacheKey identifies an image without reading it: device, inode, size, mtime,
// ctime and the first bytes, hashed. It is sound because no one but the kernel
// sets ctime: every write, truncation or chmod moves it on, and a file put in
// the image's place has another inode. What is left is a write within the
// clock tick of the last change, which [settled] excludes, and another file
// system with the same device and inode number, whose file would need the same
// times to the nanosecond and the same boot header.
type cacheKey [sha256.Size]byte

func newCacheKey(st *unix.Stat_t, head []byte) cacheKey {
	b := []byte("minivmm vmlinux 1\n")
	for _, v := range []int64{int64(st.Dev), int64(st.Ino), st.Size, st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec} {
		b = binary.LittleEndian.AppendUint64(b, uint64(v))
	}
	return sha256.Sum256(append(b, head...))
}

// settleTime is longer than the coarsest time stamps in use: 2 s, FAT.
const settleTime = 2 * time.Second

// settled reports whether the file's last change is so long ago that another
// one would show in its times.
func settled(st *unix.Stat_t, now time.Time) bool {
	return now.Sub(time.Unix(st.Ctim.Unix())) > settleTime
}

// openCache makes the folder, for its owner only. Others must not be able to
// put a kernel in it.
func openCache(dir string) (*cache, error) {
	if dir == "" {
		return nil, errors.New("no cache folder given")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	if (st.Uid != 0 && int(st.Uid) != os.Geteuid()) || st.Mode&0o022 != 0 {
		return nil, &os.PathError{Op: "use as cache", Path: dir, Err: errors.New("owned or writable by another user")}
	}
	return &cache{dir}, nil
}

func (c *cache) path(key cacheKey) string {
	return filepath.Join(c.dir, hex.EncodeToString(key[:16])+cacheSuffix)
}

// The trailer: magic, length of the vmlinux, key, hash of the vmlinux's first
// page (its headers). It shows a file that was cut, that is another one's, or
// that a crashed file system left empty; damage in the middle is the disk's to
// find.
const (
	trailerMagic = "mvmmvml1"
	trailerSize  = 8 + 8 + 2*sha256.Size
	trailerPage  = 4096
)

func trailer(key cacheKey, size int64, firstPage []byte) []byte {
	b := binary.LittleEndian.AppendUint64([]byte(trailerMagic), uint64(size))
	b = append(b, key[:]...)
	sum := sha256.Sum256(firstPage)
	return append(b, sum[:]...)
}

// lookup returns the entry for key and the length of its vmlinux. A missing
// entry is an error that matches fs.ErrNotExist, any other a damaged one.
func (c *cache) lookup(key cacheKey) (*os.File, int64, error) {
	f, err := os.OpenFile(c.path(key), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, 0, err
	}
	size, err := checkEntry(f, key)
	if err != nil {
		f.Close()
		return nil, 0, &os.PathError{Op: "check", Path: c.path(key), Err: err}
	}
	// The time of last use, for trim; a read-only cache does without.
	now := time.Now()
	_ = os.Chtimes(f.Name(), now, now)
	return f, size, nil
}

func checkEntry(f *os.File, key cacheKey) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	size := st.Size() - trailerSize
	if !st.Mode().IsRegular() || size < 0 {
		return 0, errCut
	}
	got := make([]byte, trailerSize)
	if _, err := f.ReadAt(got, size); err != nil {
		return 0, cutShort(err)
	}
	head, err := readHead(f, int(min(size, trailerPage)))
	if err != nil {
		return 0, err
	}
	if !bytes.Equal(got, trailer(key, size, head)) {
		return 0, errors.New("not what was stored")
	}
	return size, nil
}

// create returns a new file that becomes an entry by commit or goes by discard.
func (c *cache) create() (*os.File, error) { return os.CreateTemp(c.dir, cacheTempName) }

// commit makes f, with a vmlinux of size bytes, the entry for key.
func (c *cache) commit(f *os.File, key cacheKey, size int64) error {
	head, err := readHead(f, int(min(size, trailerPage)))
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(trailer(key, size, head), size); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), c.path(key)); err != nil {
		return err
	}
	c.trim()
	return nil
}

// discard removes an uncommitted file's name; the file lives until it is closed.
func (c *cache) discard(f *os.File) { _ = os.Remove(f.Name()) }

// drop removes the entry for key.
func (c *cache) drop(key cacheKey) { _ = os.Remove(c.path(key)) }

// trim removes all but the entries used last, and what starts that died left.
// That something could not be removed is for the next time.
func (c *cache) trim() {
	list, err := os.ReadDir(c.dir)
	if err != nil {
		return
	}
	var entries []fs.FileInfo
	for _, e := range list {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if filepath.Ext(e.Name()) == cacheSuffix {
			entries = append(entries, info)
			continue
		}
		if ours, _ := filepath.Match(cacheTempName, e.Name()); ours && time.Since(info.ModTime()) > cacheTempAge {
			_ = os.Remove(filepath.Join(c.dir, e.Name()))
		}
	}
	slices.SortFunc(entries, func(a, b fs.FileInfo) int {
		return cmp.Or(b.ModTime().Compare(a.ModTime()), cmp.Compare(a.Name(), b.Name()))
	})
	for _, e := range entries[min(len(entries), cacheEntries):] {
		_ = os.Remove(filepath.Join(c.dir, e.Name()))
	}
}

// newMemoryFile returns an unnamed file in memory, for a kernel that cannot be
// cached.
func newMemoryFile() (*os.File, error) {
	fd, err := unix.MemfdCreate("minivmm-vmlinux", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("unpack in memory: %w", os.NewSyscallError("memfd_create", err))
	}
	return os.NewFile(uintptr(fd), "memfd:minivmm-vmlinux"), nil
}

// writeErrors remembers whether it was the writing that failed: then another
// place may do.
type writeErrors struct {
	w   io.Writer
	err error
}

func (w *writeErrors) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	if err != nil {
		w.err = err
	}
	return n, err
}
