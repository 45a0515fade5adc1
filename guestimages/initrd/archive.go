package initrd

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/cache"
	"minivmm/guestimages/filetree"
)

// maxSize is the largest file size that the format's 8 hexadecimal digits can express.
const maxSize = 1<<32 - 1

// trailer is the name that ends an archive.
const trailer = "TRAILER!!!"

// inode is a file with one or more names. Its content is stored with the last name, as cpio(1)
// does; the kernel accepts the content with any name (buffer-format.rst).
type inode struct {
	number int // the position of the first name, counted from 1
	links  int
	last   string
}

// Write writes the tree as an archive. It leaves out extended attributes, times and the root
// folder: the kernel creates its own root folder, with owner root and mode 0755. Write fails if a
// file is too large for the format or if its size has changed since it was added to the tree. The
// archive's length is a multiple of 4, so that another archive can follow.
func Write(w io.Writer, t *filetree.Tree) error {
	all := slices.Collect(t.All())[1:]
	inodes := map[string]*inode{} // by first name
	for i, n := range all {
		if n.SizeBytes > maxSize {
			return fmt.Errorf("initrd: %s: %d bytes are too many for the newc format, which supports files below 4 GiB", n.Path, n.SizeBytes)
		}
		if n.Path == trailer {
			return fmt.Errorf("initrd: %s: a file cannot have this name, which marks the end of an archive", n.Path)
		}
		first := cmp.Or(n.Link, n.Path)
		if inodes[first] == nil {
			inodes[first] = &inode{number: i + 1}
		}
		inodes[first].links++
		inodes[first].last = n.Path
	}
	out := bufio.NewWriterSize(w, 1<<16) // Flush returns the first error
	for _, n := range all {
		in := inodes[cmp.Or(n.Link, n.Path)]
		if n.IsDir() {
			in.links = 2 // its name, and its own entry "."
		}
		if n.Path != in.last {
			n.SizeBytes = 0
		}
		writeHeader(out, n, in.number, in.links)
		out.WriteString(n.Target)
		if n.Mode&unix.S_IFMT == unix.S_IFREG && n.Path == in.last {
			if err := writeContent(out, n); err != nil {
				return fmt.Errorf("initrd: %s: %w", n.Path, err)
			}
		}
		pad(out, n.SizeBytes+int64(len(n.Target)))
	}
	writeHeader(out, &filetree.Node{Path: trailer}, 0, 1)
	return out.Flush()
}

// writeHeader writes a header and a name. The fields: magic, inode, mode, uid, gid, links, mtime,
// size, device major and minor, node major and minor, name size with its zero byte, checksum.
func writeHeader(w *bufio.Writer, n *filetree.Node, number, links int) {
	const format = "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00"
	size, _ := fmt.Fprintf(w, format, number, n.Mode, n.UID, n.GID, links, 0, n.SizeBytes+int64(len(n.Target)),
		0, 0, n.Major, n.Minor, len(n.Path)+1, 0, n.Path)
	pad(w, int64(size))
}

// pad writes the zero bytes that extend size to a multiple of 4, the alignment of headers and
// contents.
func pad(w *bufio.Writer, size int64) { w.Write(make([]byte, -size&3)) }

// writeContent copies the content of a file.
func writeContent(w io.Writer, n *filetree.Node) error {
	f, err := n.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := io.Copy(w, io.LimitReader(f, n.SizeBytes))
	if err != nil {
		return err
	}
	// A byte after the expected end shows that the file has grown.
	if more, _ := f.Read(make([]byte, 1)); more > 0 || size < n.SizeBytes {
		return fmt.Errorf("%s no longer has %d bytes", f.Name(), n.SizeBytes)
	}
	return nil
}

// Save writes the tree as an archive to a new file.
func Save(file string, t *filetree.Tree) error {
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("initrd: %w", err)
	}
	defer f.Close()
	if err := Write(f, t); err != nil {
		return err
	}
	return f.Close()
}

// Make returns the path of an archive in the cache. If the archive is missing, Make creates it from
// a new tree that add fills.
func Make(ctx context.Context, c *cache.Cache, name string, add func(*filetree.Tree) error) (string, error) {
	return c.Make(ctx, "initramfs/"+name+".cpio", func(_ context.Context, tmp string) error {
		contents := tmp + ".files"
		if err := os.Mkdir(contents, 0o700); err != nil {
			return fmt.Errorf("initrd: %w", err)
		}
		t, err := filetree.New(contents, filetree.Limits{})
		if err != nil {
			return err
		}
		if err := add(t); err != nil {
			return err
		}
		return Save(tmp, t)
	})
}
