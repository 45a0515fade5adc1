package filetree

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// layer is what one source adds: read completely beside the tree, then laid over it, so that the order of its entries does
// not decide what its whiteouts hide.
type layer struct {
	t      *Tree
	root   *node
	follow bool     // entries below symbolic links go where those lead, as in a container's root
	gone   []string // paths that are hidden in the tree below
	opaque []string // folders of which all content is hidden in the tree below
	late   []deferred
}

func (t *Tree) newLayer() *layer {
	t.files++
	return &layer{t: t, root: newFolder()}
}

// put adds an entry. A later one of the same path replaces it, but what has entries below stays a folder.
func (l *layer) put(n Node) error {
	p, err := clean(n.Path)
	if err != nil {
		return err
	}
	if err := check(&n); err != nil {
		return err
	}
	n.Path, n.Link = "", ""
	n.Target = strings.Clone(n.Target) // of a tar, it is a piece of a header that may be long
	meta := len(n.Target)
	for name, value := range n.Xattrs {
		meta += len(name) + len(value)
	}
	if err := l.t.charge(meta); err != nil {
		return err
	}
	return l.place(p, &inode{Node: n})
}

// putFile is put of a regular file whose content is a file of the host.
func (l *layer) putFile(n Node, file string) error {
	file, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return &os.PathError{Op: "stat", Path: file, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("%s is not a regular file", file)
	}
	if n.Mode&unix.S_IFMT != unix.S_IFREG {
		return errors.New("content is for regular files")
	}
	if err := l.t.chargeSize(st.Size); err != nil {
		return err
	}
	n.file, n.id, n.SizeBytes = file, idOf(&st), st.Size
	return l.put(n)
}

// link makes name another name of the file at target, in this layer or else in the tree below. What is not a regular file has
// no second name in a tree: a symbolic link, a device or a pipe is repeated.
func (l *layer) link(name, target string) error {
	p, err := clean(name)
	if err != nil {
		return err
	}
	to, err := clean(target)
	if err != nil {
		return fmt.Errorf("hard link to %s: %w", short(target), err)
	}
	found := l.lookUp(to)
	if found == nil {
		return fmt.Errorf("hard link to %s: there is no such entry before it", short(to))
	}
	if found.IsDir() {
		return fmt.Errorf("hard link to %s: it is a folder", short(to))
	}
	return l.place(p, found.inode)
}

// lookUp returns what is at a clean path in the layer, or else in the tree below, or nil.
func (l *layer) lookUp(p string) *node {
	found := cmp.Or(l.root.find(p), l.t.root.find(p))
	if found != nil || !l.follow {
		return found
	}
	dir, name := split(p)
	at, err := l.t.follow(dir, false)
	if at == nil || err != nil {
		return nil
	}
	return cmp.Or(l.root.find(join(at.path(), name)), at.below[name])
}

// place puts what an entry stands for at a clean path, below folders that are made where they are absent.
func (l *layer) place(p string, in *inode) error {
	if p == "" {
		if !in.IsDir() {
			return fmt.Errorf("the root must be a folder, not %s", kind(in.Mode))
		}
		l.root.inode, l.root.made = in, false
		return nil
	}
	dir, name := split(p)
	parent := l.root
	for rest := dir; rest != ""; {
		var step string
		step, rest = cut(rest)
		next := parent.below[step]
		if next == nil {
			if err := l.t.count(step); err != nil {
				return err
			}
			next = newFolder()
			parent.attach(strings.Clone(step), next)
		}
		if !next.IsDir() && !(l.follow && next.isLink()) {
			return fmt.Errorf("it lies below %s, which is %s", short(next.path()), kind(next.Mode))
		}
		if next.below == nil {
			next.below = map[string]*node{}
		}
		parent = next
	}
	switch old := parent.below[name]; {
	case old == nil:
		if err := l.t.count(name); err != nil {
			return err
		}
		parent.attach(strings.Clone(name), newNode(in))
	case old.IsDir() && in.IsDir():
		old.inode, old.made = in, false
	case len(old.below) > 0:
		return fmt.Errorf("it is %s, and other entries lie below it", kind(in.Mode))
	default:
		parent.attach(old.name, newNode(in))
	}
	return nil
}

// count counts a new node.
func (t *Tree) count(name string) error {
	if t.files >= t.limits.Files {
		return fmt.Errorf("more than %d entries: %w", t.limits.Files, ErrTooLarge)
	}
	t.files++
	return t.charge(len(name))
}

// charge counts bytes of metadata.
func (t *Tree) charge(n int) error {
	t.meta += int64(n)
	if limit := int64(t.limits.Files) * metaPerFile; t.meta > limit {
		return fmt.Errorf("more than %d bytes of names and attributes: %w", limit, ErrTooLarge)
	}
	return nil
}

// apply hides what the layer's whiteouts name and lays the layer over the tree.
func (l *layer) apply() error {
	t := l.t
	for _, p := range l.gone {
		dir, name := split(p)
		if n := l.hides(dir); n != nil {
			t.drop(n, name)
		}
	}
	for _, p := range l.opaque {
		if n := l.hides(p); n != nil {
			t.empty(n)
		}
	}
	t.files -= len(l.gone) + len(l.opaque)
	err := l.merge(t.root, l.root)
	for err == nil && len(l.late) > 0 {
		next := l.late[0]
		l.late = l.late[1:]
		err = l.followLink(next)
	}
	return err
}

// merge lays the folder upper of the layer over the folder lower of the tree. upper is used up.
func (l *layer) merge(lower, upper *node) error {
	l.t.files--
	if !upper.made {
		lower.inode, lower.made = upper.inode, false
	}
	for _, name := range upper.sorted() {
		over, under := upper.below[name], lower.below[name]
		switch {
		case under != nil && under.IsDir() && over.IsDir():
			if err := l.merge(under, over); err != nil {
				return err
			}
			continue
		case under != nil && over.made && l.follow && under.isLink():
			l.late = append(l.late, deferred{under, over})
			continue
		case under != nil && over.made:
			return fmt.Errorf("filetree: %s: it lies below %s, which is %s", short(over.some()), short(under.path()), kind(under.Mode))
		}
		l.t.drop(lower, name)
		lower.attach(name, over)
		l.attached(over)
	}
	return nil
}

// attached keeps the names of regular files of what has come into the tree, and defers what is below links.
func (l *layer) attached(n *node) {
	switch {
	case n.isFile():
		n.addName(n)
	case n.isLink() && len(n.below) > 0:
		over := newFolder()
		over.name, over.parent, over.below = n.name, n.parent, n.below
		l.t.files++ // merge counts it off
		l.late = append(l.late, deferred{n, over})
		n.below = nil
	}
	for _, name := range n.sorted() {
		l.attached(n.below[name])
	}
}

// some is the path of an entry below the made folder n, for errors to name.
func (n *node) some() string {
	for n.made && len(n.below) > 0 {
		n = n.below[n.sorted()[0]]
	}
	return n.path()
}
