package initramfs

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
)

// File types in the mode field, as in uapi/linux/stat.h.
const (
	typeFile    = 0o100000 // S_IFREG
	typeDir     = 0o040000 // S_IFDIR
	typeSymlink = 0o120000 // S_IFLNK
	typeChar    = 0o020000 // S_IFCHR
	typeBlock   = 0o060000 // S_IFBLK
)

// maxSize is the largest file the format's 8 hexadecimal digits can say.
const maxSize = 1<<32 - 1

// Owner of a file, by number.
type Owner struct{ UID, GID uint32 }

type entry struct {
	mode         uint32
	owner        Owner
	data         []byte
	major, minor uint32
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

// Dir adds a folder. perm holds the permission bits, set-id and sticky included.
func (a *Archive) Dir(name string, perm uint32, owner Owner) {
	a.add(name, entry{mode: typeDir | perm&0o7777, owner: owner})
}

// File adds a regular file; data is kept, not copied.
func (a *Archive) File(name string, perm uint32, owner Owner, data []byte) {
	a.add(name, entry{mode: typeFile | perm&0o7777, owner: owner, data: data})
}

// Symlink adds a symbolic link with the content target.
func (a *Archive) Symlink(name, target string) {
	a.add(name, entry{mode: typeSymlink | 0o777, data: []byte(target)})
}

// CharDevice adds a character device node.
func (a *Archive) CharDevice(name string, perm uint32, owner Owner, major, minor uint32) {
	a.add(name, entry{mode: typeChar | perm&0o7777, owner: owner, major: major, minor: minor})
}

// BlockDevice adds a block device node.
func (a *Archive) BlockDevice(name string, perm uint32, owner Owner, major, minor uint32) {
	a.add(name, entry{mode: typeBlock | perm&0o7777, owner: owner, major: major, minor: minor})
}

// WriteTo writes the archive. It fails where a file is too large for the format or lies below a name that is no folder.
func (a *Archive) WriteTo(w io.Writer) (int64, error) {
	all, err := a.withParents()
	if err != nil {
		return 0, err
	}
	out := &writer{w: bufio.NewWriterSize(w, 1<<16)}
	for i, name := range slices.Sorted(maps.Keys(all)) {
		out.entry(name, uint32(i+1), all[name])
	}
	out.entry("TRAILER!!!", 0, entry{})
	if out.err == nil {
		out.err = out.w.Flush()
	}
	return out.n, out.err
}

// withParents returns the entries and every folder above them. A parent's name sorts before its children's, so the kernel
// has the folder when it meets the file.
func (a *Archive) withParents() (map[string]entry, error) {
	all := maps.Clone(a.entries)
	for name, e := range a.entries {
		if len(e.data) > maxSize {
			return nil, fmt.Errorf("initramfs: %s: %d bytes are too many for the newc format", name, len(e.data))
		}
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			parent, ok := all[dir]
			if !ok {
				all[dir] = entry{mode: typeDir | 0o755}
				continue
			}
			if parent.mode&0o170000 != typeDir {
				return nil, fmt.Errorf("initramfs: %s: %s is not a folder", name, dir)
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

// entry writes one header, its name and its content. The fields are, in order: magic, inode, mode, uid, gid, links, mtime,
// size, device major and minor, node major and minor, name size with its zero byte, checksum.
func (w *writer) entry(name string, inode uint32, e entry) {
	links := 1
	if e.mode&0o170000 == typeDir {
		links = 2
	}
	w.bytes(fmt.Appendf(nil, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		inode, e.mode, e.owner.UID, e.owner.GID, links, 0, len(e.data), 0, 0, e.major, e.minor, len(name)+1, 0, name))
	w.pad()
	w.bytes(e.data)
	w.pad()
}
