package filetree

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Node is a name in a tree, with the metadata of the file that has this name.
type Node struct {
	Path         string // slash separated, no leading slash; "" is the root
	Mode         uint32 // st_mode: type and permission bits
	UID, GID     uint32
	Major, Minor uint32            // device nodes
	ModTime      time.Time         // zero: unknown
	Target       string            // symbolic link
	Link         string            // hard link: "" for the first name of a file in the order of All, else that first name
	Xattrs       map[string][]byte // read-only
	SizeBytes    int64             // regular file

	file string // of a regular file: the host's file with the content
	id   fileID // identity of that file when it was added
}

// fileID identifies a file on the host.
type fileID struct{ dev, ino uint64 }

func idOf(st *unix.Stat_t) fileID { return fileID{st.Dev, st.Ino} }

// Open opens the content of a regular file, or of a hard link to one, for reading. The caller must
// close the returned file, and must not change the content, because the host's file may be
// hard-linked elsewhere. Open fails if the file that was added to the tree has been replaced:
// otherwise the owner of a folder could make a process that runs as root read any file.
func (n *Node) Open() (*os.File, error) {
	// O_PATH has no side effects on a device or pipe that may have replaced the file.
	fd, err := unix.Open(n.file, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: n.file, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &os.PathError{Op: "fstat", Path: n.file, Err: err}
	}
	if idOf(&st) != n.id {
		return nil, fmt.Errorf("%s: the file was replaced while it was in use", n.file)
	}
	return reopen(fd, n.file)
}

// Content returns the whole content of a regular file. Use it only for small files.
func (n *Node) Content() ([]byte, error) {
	f, err := n.Open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// reopen opens the file behind the O_PATH descriptor fd for reading.
func reopen(fd int, name string) (*os.File, error) {
	again, err := unix.Open(procPath(fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(again), name), nil
}

// procPath returns a path to the file behind a descriptor, even if that file is a symbolic link.
func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// IsDir reports whether the node is a folder.
func (n *Node) IsDir() bool { return n.Mode&unix.S_IFMT == unix.S_IFDIR }

// Limits restrict the size of a tree. A field that is 0 stands for its value in DefaultLimits.
type Limits struct {
	Files     int   // entries, including folders
	SizeBytes int64 // content of all regular files ever added
}

// DefaultLimits suffice for the root file system of a large VM, and protect the host's disk and
// memory from maliciously large inputs.
var DefaultLimits = Limits{Files: 1 << 20, SizeBytes: 32 << 30}

func (limits Limits) orDefault() Limits {
	return Limits{cmp.Or(limits.Files, DefaultLimits.Files), cmp.Or(limits.SizeBytes, DefaultLimits.SizeBytes)}
}

// metaPerFile limits a tree's names, link targets and extended attributes. Their total, in bytes,
// may be up to metaPerFile times Limits.Files.
const metaPerFile = 1 << 8

// ErrTooLarge reports that a tree would exceed its Limits.
var ErrTooLarge = errors.New("too large")

// Tree is a file tree with at least a root folder.
type Tree struct {
	dir    string
	limits Limits
	root   *node
	files  int   // nodes of root and of the layer being read
	size   int64 // content bytes ever added
	meta   int64 // bytes of names, targets and attributes ever added
	stored int   // content files created in dir

	followed int // symbolic links ever followed
	buf      []byte
}

// New returns a tree with an empty root folder of mode 0755 and owner 0. dir names an existing,
// empty folder for the content of files. The caller removes that folder when the tree is no longer
// used.
func New(dir string, limits Limits) (*Tree, error) {
	dir, err := filepath.Abs(dir)
	var found []os.DirEntry
	if err == nil {
		found, err = os.ReadDir(dir)
	}
	if err == nil && len(found) > 0 {
		err = fmt.Errorf("%s: folder for file contents is not empty", dir)
	}
	if err != nil {
		return nil, named("filetree", err)
	}
	return &Tree{dir: dir, limits: limits.orDefault(), root: newFolder(), files: 1}, nil
}

// Put adds or replaces one entry. A folder that replaces a folder keeps its children. Missing
// parents are created with mode 0755 and owner 0. For a regular file without Link, Put reads the
// file's content from content, to the end; nil means an empty file. For an entry with Link, only
// Path and Link are used. SizeBytes is taken from the content.
func (t *Tree) Put(n Node, content io.Reader) error {
	return named("filetree: "+short(n.Path), t.put(n, content))
}

func (t *Tree) put(n Node, content io.Reader) error {
	l := t.newLayer()
	var err error
	switch {
	case n.Link != "":
		err = l.link(n.Path, n.Link)
	case content != nil && !n.isFile():
		err = errors.New("content is for regular files")
	default:
		if n.isFile() {
			err = t.store(context.Background(), &n, cmp.Or[io.Reader](content, strings.NewReader("")))
		}
		if err == nil {
			err = l.put(n)
		}
	}
	if err != nil {
		return err
	}
	return l.apply()
}

// Get returns the node at a path; "" is the root. Changing the node does not change the tree.
func (t *Tree) Get(path string) (*Node, bool) {
	p, err := clean(path)
	if err != nil {
		return nil, false
	}
	n := t.root.find(p)
	if n == nil {
		return nil, false
	}
	if n.isFile() && n.names > 1 {
		for all := range t.All() { // only All knows which name is the first
			if all.Path == p {
				return all, true
			}
		}
	}
	return n.public(), true
}

// Remove removes the entry at a path and everything below it. If path is the root, Remove removes
// everything in the root folder, but not the folder itself. A missing entry is ignored.
func (t *Tree) Remove(path string) {
	p, err := clean(path)
	if err != nil {
		return
	}
	if p == "" {
		t.empty(t.root)
		return
	}
	dir, name := split(p)
	if parent := t.root.find(dir); parent != nil {
		t.drop(parent, name)
	}
}

// All returns an iterator over the tree's nodes in the byte order of their paths: the root first,
// parents before children, and the first name of a file before its hard links. The iterator yields
// the nodes that exist when the iteration starts.
func (t *Tree) All() iter.Seq[*Node] {
	return func(yield func(*Node) bool) {
		all := []*node{t.root}
		t.root.inOrder(func(n *node) { all = append(all, n) })
		first := map[*inode]string{} // of files with several names
		for _, n := range all {
			out := n.public()
			if n.isFile() && n.names > 1 {
				if out.Link = first[n.inode]; out.Link == "" {
					first[n.inode] = out.Path
				}
			}
			if !yield(out) {
				return
			}
		}
	}
}

// store copies r into a new file in the tree's folder. The new file becomes the content of n.
func (t *Tree) store(ctx context.Context, n *Node, r io.Reader) error {
	file := filepath.Join(t.dir, strconv.Itoa(t.stored))
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	t.stored++
	size, err := t.fill(ctx, f, r)
	var st unix.Stat_t
	if err == nil {
		err = unix.Fstat(int(f.Fd()), &st)
	}
	if err = cmp.Or(err, f.Close()); err != nil {
		os.Remove(file)
		return err
	}
	n.file, n.id, n.SizeBytes = file, idOf(&st), size
	return nil
}

// fill copies r into the new file f and leaves holes where blocks are all zero.
func (t *Tree) fill(ctx context.Context, f *os.File, r io.Reader) (size int64, err error) {
	const block = 4096
	var zeros [block]byte
	if t.buf == nil {
		t.buf = make([]byte, 16*block)
	}
	for {
		n := 0
		for n < len(t.buf) && err == nil {
			var m int
			m, err = r.Read(t.buf[n:])
			n += m
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil && err != io.EOF {
			return 0, err
		}
		if err := t.chargeSize(int64(n)); err != nil {
			return 0, err
		}
		for off := 0; off < n; off += block {
			part := t.buf[off:min(off+block, n)]
			if bytes.Equal(part, zeros[:len(part)]) {
				continue
			}
			if _, err := f.WriteAt(part, size+int64(off)); err != nil {
				return 0, err
			}
		}
		size += int64(n)
		if err == io.EOF {
			return size, f.Truncate(size)
		}
	}
}

// chargeSize counts n bytes of content against the limit.
func (t *Tree) chargeSize(n int64) error {
	if n > t.limits.SizeBytes-t.size {
		return fmt.Errorf("more than %d bytes of content: %w", t.limits.SizeBytes, ErrTooLarge)
	}
	t.size += n
	return nil
}
