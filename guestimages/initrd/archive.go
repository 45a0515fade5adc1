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

// maxSize is the largest file the format's 8 hexadecimal digits can say.
const maxSize = 1<<32 - 1

type entry struct {
	mode         uint32
	uid, gid     uint32
	data         []byte
	open         func() (*os.File, error) // if set, opens the content instead of data
	size         int64                    // of that
	link         string                   // if set, the entry is another name of this file
	major, minor uint32
}

func (e entry) sizeBytes() int64 {
	if e.open != nil {
		return e.size
	}
	return int64(len(e.data))
}

// Archive collects the files of an initial RAM file system. Names are slash separated paths; a leading slash is dropped.
// Parent folders that were not added are made with mode 0755 and owner 0. Adding a name again replaces it.
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

// Dir adds a folder. perm holds the permission bits, set-id and sticky included. The owner is root, as of all below.
func (a *Archive) Dir(name string, perm uint32) {
	a.add(name, entry{mode: unix.S_IFDIR | perm&0o7777})
}

// File adds a regular file; data is kept, not copied.
func (a *Archive) File(name string, perm uint32, data []byte) {
	a.add(name, entry{mode: unix.S_IFREG | perm&0o7777, data: data})
}

// Symlink adds a symbolic link with the content target.
func (a *Archive) Symlink(name, target string) {
	a.add(name, entry{mode: unix.S_IFLNK | 0o777, data: []byte(target)})
}

// CharDevice adds a character device node.
func (a *Archive) CharDevice(name string, perm uint32, major, minor uint32) {
	a.add(name, entry{mode: unix.S_IFCHR | perm&0o7777, major: major, minor: minor})
}

// WriteTo writes the archive. It fails where a file is too large for the format or lies below a name that is no folder,
// where a hard link leads to no file, and where a file of the host has another size than was said. Its length is a multiple
// of 4, so that another archive can follow.
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

// group is a file with several names. Its content stands with the last of them, as cpio(1) has it; the kernel takes either,
// buffer-format.rst.
type group struct {
	file  entry
	inode int // the number of the first name
	count int
	last  string
}

// groupLinks finds the files with several names, by each of them. names are those of all in order.
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

// withParents returns the entries and every folder above them. A parent's name sorts before its children's, so the kernel
// has the folder when it meets the file.
func (a *Archive) withParents() (map[string]entry, error) {
	all := maps.Clone(a.entries)
	for name, e := range a.entries {
		if e.sizeBytes() > maxSize {
			return nil, fmt.Errorf("initrd: %s: %d bytes are too many for the newc format, which holds files of less than 4 GiB", name, e.sizeBytes())
		}
		if name == trailer {
			return nil, fmt.Errorf("initrd: %s: this name ends an archive, a file cannot have it", name)
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

// pad fills up to the next multiple of four, which header with name and content are each aligned to.
func (w *writer) pad() {
	w.bytes(make([]byte, (4-w.n%4)%4))
}

// entry writes one header, its name and, where content is set, its content. The fields are, in order: magic, inode, mode,
// uid, gid, links, mtime, size, device major and minor, node major and minor, name size with its zero byte, checksum.
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

// hostFile copies the content of a file of the host.
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
		// A byte behind the last tells a file that has grown.
		if more, _ := f.Read(make([]byte, 1)); more > 0 {
			n++
		}
	}
	switch {
	case err != nil:
		w.err = fmt.Errorf("initrd: %s: %w", name, err)
	case n != e.size:
		w.err = fmt.Errorf("initrd: %s: %s does not have its %d bytes any more", name, f.Name(), e.size)
	}
}
