package initrd

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// maxSize is the largest file size that the format's 8 hexadecimal digits can express.
const maxSize = 1<<32 - 1

type entry struct {
	mode         uint32
	uid, gid     uint32
	data         []byte
	open         func() (*os.File, error) // if set, opens a file with the content, instead of data
	size         int64                    // the size of that file
	link         string                   // if set, the entry is a hard link to this name
	major, minor uint32
}

func (e entry) sizeBytes() int64 {
	if e.open != nil {
		return e.size
	}
	return int64(len(e.data))
}

// Archive collects the files of an initial RAM file system. Names are slash separated paths; a
// leading slash is dropped. Missing parent folders are created with mode 0755 and owner 0. Adding a
// name a second time replaces it.
type Archive struct {
	entries map[string]entry
}

func (a *Archive) add(name string, e entry) {
	if a.entries == nil {
		a.entries = make(map[string]entry)
	}
	name = clean(name)
	if name == "" {
		return
	}
	a.entries[name] = e
}

func clean(name string) string {
	return strings.TrimPrefix(path.Clean("/"+name), "/")
}

// Dir adds a folder. perm contains the permission bits, including set-id and sticky. The owner is
// root, as for all entries below.
func (a *Archive) Dir(name string, perm uint32) {
	a.add(name, entry{mode: unix.S_IFDIR | perm&0o7777})
}

// File adds a regular file. It keeps data without copying it.
func (a *Archive) File(name string, perm uint32, data []byte) {
	a.add(name, entry{mode: unix.S_IFREG | perm&0o7777, data: data})
}

// Symlink adds a symbolic link to target.
func (a *Archive) Symlink(name, target string) {
	a.add(name, entry{mode: unix.S_IFLNK | 0o777, data: []byte(target)})
}

// CharDevice adds a character device node.
func (a *Archive) CharDevice(name string, perm uint32, major, minor uint32) {
	a.add(name, entry{mode: unix.S_IFCHR | perm&0o7777, major: major, minor: minor})
}

// WriteTo writes the archive. It fails if a file is too large for the format or lies below a name
// that is not a folder, if a hard link leads to no file, or if the size of a host file has changed
// since it was added. The archive's length is a multiple of 4, so that another archive can follow.
func (a *Archive) WriteTo(w io.Writer) (int64, error) {
	all, err := a.withParents()
	if err != nil {
		return 0, err
	}
	names := slices.Sorted(maps.Keys(all))
	links, err := groupLinks(all, names)
	if err != nil {
		return 0, err
	}
	out := &writer{w: bufio.NewWriterSize(w, 1<<16)}
	for i, name := range names {
		e, inode, count, content := all[name], i+1, 1, true
		if e.mode&unix.S_IFMT == unix.S_IFDIR {
			count = 2
		}
		if g := links[name]; g != nil {
			e, inode, count, content = g.file, g.inode, g.count, name == g.last
		}
		out.entry(name, inode, count, e, content)
		if out.err != nil {
			return out.n, out.err
		}
	}
	out.entry(trailer, 0, 1, entry{}, true)
	if out.err == nil {
		out.err = out.w.Flush()
	}
	return out.n, out.err
}

// Save writes the archive to a new file.
func (a *Archive) Save(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("initrd: %w", err)
	}
	defer f.Close()
	if _, err := a.WriteTo(f); err != nil {
		return err
	}
	return f.Close()
}

// trailer is the name that ends an archive.
const trailer = "TRAILER!!!"

// group is a file with several names. Its content is stored with the last of them, as cpio(1) does;
// the kernel accepts either, buffer-format.rst.
type group struct {
	file  entry
	inode int // the position of the first name, from 1
	count int
	last  string
}

// groupLinks returns the groups of the files with several names, by each name. names are the names
// of all entries in order.
func groupLinks(all map[string]entry, names []string) (map[string]*group, error) {
	links := map[string]*group{}
	for _, name := range names {
		target := all[name].link
		if target == "" {
			continue
		}
		file, ok := all[target]
		if !ok || file.mode&unix.S_IFMT != unix.S_IFREG || file.link != "" {
			return nil, fmt.Errorf("initrd: %s: hard link to %s, which is not a file with content in the archive", name, target)
		}
		if links[target] == nil {
			links[target] = &group{file: file}
		}
		links[name] = links[target]
	}
	for i, name := range names {
		if g := links[name]; g != nil {
			if g.count == 0 {
				g.inode = i + 1
			}
			g.count++
			g.last = name
		}
	}
	return links, nil
}

// withParents returns the entries and all their parent folders. A parent's name sorts before its
// children's, so the kernel creates the folder before the file.
func (a *Archive) withParents() (map[string]entry, error) {
	all := maps.Clone(a.entries)
	for name, e := range a.entries {
		if e.sizeBytes() > maxSize {
			return nil, fmt.Errorf("initrd: %s: %d bytes are too many for the newc format, which supports files below 4 GiB", name, e.sizeBytes())
		}
		if name == trailer {
			return nil, fmt.Errorf("initrd: %s: a file cannot have this name, which marks the end of an archive", name)
		}
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			parent, ok := all[dir]
			if !ok {
				all[dir] = entry{mode: unix.S_IFDIR | 0o755}
				continue
			}
			if parent.mode&unix.S_IFMT != unix.S_IFDIR {
				return nil, fmt.Errorf("initrd: %s: %s is not a folder", name, dir)
			}
		}
	}
	return all, nil
}

type writer struct {
	w   *bufio.Writer
	n   int64
	err error
}

func (w *writer) bytes(p []byte) {
	if w.err != nil {
		return
	}
	n, err := w.w.Write(p)
	w.n, w.err = w.n+int64(n), err
}

// pad fills up to the next multiple of four. The format aligns both the header with the name and
// the content to it.
func (w *writer) pad() {
	w.bytes(make([]byte, (4-w.n%4)%4))
}

// entry writes one header, its name and, if content is set, its content. The fields are, in order:
// magic, inode, mode, uid, gid, links, mtime, size, device major and minor, node major and minor,
// name size with its zero byte, checksum.
func (w *writer) entry(name string, inode, links int, e entry, content bool) {
	size := e.sizeBytes()
	if !content {
		size = 0
	}
	w.bytes(fmt.Appendf(nil, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		inode, e.mode, e.uid, e.gid, links, 0, size, 0, 0, e.major, e.minor, len(name)+1, 0, name))
	w.pad()
	switch {
	case !content:
	case e.open != nil:
		w.hostFile(name, e)
	default:
		w.bytes(e.data)
	}
	w.pad()
}

// hostFile copies the content of a host file.
func (w *writer) hostFile(name string, e entry) {
	if w.err != nil {
		return
	}
	f, err := e.open()
	if err != nil {
		w.err = fmt.Errorf("initrd: %s: %w", name, err)
		return
	}
	defer f.Close()
	n, err := io.Copy(w.w, io.LimitReader(f, e.size))
	w.n += n
	if err == nil && n == e.size {
		// A byte after the expected end shows that the file has grown.
		if more, _ := f.Read(make([]byte, 1)); more > 0 {
			n++
		}
	}
	switch {
	case err != nil:
		w.err = fmt.Errorf("initrd: %s: %w", name, err)
	case n != e.size:
		w.err = fmt.Errorf("initrd: %s: %s no longer has %d bytes", name, f.Name(), e.size)
	}
}
