package filetree

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// layer is what one source adds: read completely beside the tree, then laid over it, so that the order of its entries does
// not decide what its whiteouts hide.
type layer struct {
	t      *Tree
	root   *node
	gone   []string // paths that are hidden in the tree below
	opaque []string // folders of which all content is hidden in the tree below
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
	meta := len(n.Target)
	for name, value := range n.Xattrs {
		meta += len(name) + len(value)
	}
	if err := l.charge(meta); err != nil {
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
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", file)
	}
	if n.Mode&unix.S_IFMT != unix.S_IFREG {
		return errors.New("content is for regular files")
	}
	if err := l.t.chargeSize(info.Size()); err != nil {
		return err
	}
	n.file, n.SizeBytes = file, info.Size()
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
	found := l.root.find(to)
	if found == nil {
		found = l.t.root.find(to)
	}
	if found == nil {
		return fmt.Errorf("hard link to %s: there is no such entry before it", short(to))
	}
	if found.IsDir() {
		return fmt.Errorf("hard link to %s: it is a folder", short(to))
	}
	return l.place(p, found.inode)
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
	for at, rest := "", dir; rest != ""; {
		var step string
		step, rest = cut(rest)
		at = join(at, step)
		next := parent.below[step]
		if next == nil {
			if err := l.count(step); err != nil {
				return err
			}
			next = newFolder()
			parent.below[step] = next
		}
		if !next.IsDir() {
			return fmt.Errorf("it lies below %s, which is %s", short(at), kind(next.Mode))
		}
		parent = next
	}
	switch old := parent.below[name]; {
	case old == nil:
		if err := l.count(name); err != nil {
			return err
		}
		parent.below[name] = newNode(in)
	case old.IsDir() && in.IsDir():
		old.inode, old.made = in, false
	case len(old.below) > 0:
		return fmt.Errorf("it is %s, and other entries lie below it", kind(in.Mode))
	default:
		parent.below[name] = newNode(in)
	}
	return nil
}

// count counts a new node.
func (l *layer) count(name string) error {
	if l.t.files >= l.t.limits.Files {
		return fmt.Errorf("more than %d entries: %w", l.t.limits.Files, ErrTooLarge)
	}
	l.t.files++
	return l.charge(len(name))
}

// charge counts bytes of metadata.
func (l *layer) charge(n int) error {
	l.t.meta += int64(n)
	if limit := int64(l.t.limits.Files) * metaPerFile; l.t.meta > limit {
		return fmt.Errorf("more than %d bytes of names and attributes: %w", limit, ErrTooLarge)
	}
	return nil
}

// apply hides what the layer's whiteouts name and lays the layer over the tree.
func (l *layer) apply() error {
	t := l.t
	for _, p := range l.gone {
		t.remove(p)
	}
	for _, p := range l.opaque {
		t.empty(p)
	}
	t.files -= len(l.gone) + len(l.opaque)
	return t.merge("", t.root, l.root)
}

// merge lays the folder upper over the folder lower, both at path p. upper is used up.
func (t *Tree) merge(p string, lower, upper *node) error {
	t.files--
	if !upper.made {
		lower.inode, lower.made = upper.inode, false
	}
	for _, name := range slices.Sorted(maps.Keys(upper.below)) {
		at, over, under := join(p, name), upper.below[name], lower.below[name]
		switch {
		case under == nil:
			lower.below[name] = over
			t.attached(at, over)
		case under.IsDir() && over.IsDir():
			if err := t.merge(at, under, over); err != nil {
				return err
			}
		case over.made:
			return fmt.Errorf("filetree: %s: it lies below %s, which is %s", short(over.some(at)), short(at), kind(under.Mode))
		default:
			t.detached(at, under)
			lower.below[name] = over
			t.attached(at, over)
		}
	}
	return nil
}

// some is the path of an entry below the made folder n at path p, for errors to name.
func (n *node) some(p string) string {
	for n.made && len(n.below) > 0 {
		name := slices.Min(slices.Collect(maps.Keys(n.below)))
		n, p = n.below[name], join(p, name)
	}
	return p
}
