package filetree

import (
	"cmp"
	"fmt"
	"path"
	"strings"
)

// layer holds the entries of one source. The source is read completely before the layer is merged
// into the tree, so that the order of the entries does not affect what the layer's whiteouts hide.
type layer struct {
	t      *Tree
	root   *node
	follow bool       // resolve symbolic links in the paths of entries, as in a container's root
	gone   []string   // paths to hide in the tree below
	opaque []string   // folders whose content is hidden in the tree below
	late   []deferred // entries below symbolic links, to be merged last
}

func (t *Tree) newLayer() *layer {
	t.files++
	return &layer{t: t, root: newFolder()}
}

// put adds the entry n. It replaces an earlier entry at the same path, but only a folder can
// replace a folder that contains entries.
func (l *layer) put(n Node) error {
	p, err := clean(n.Path)
	if err != nil {
		return err
	}
	if err := check(&n); err != nil {
		return err
	}
	n.Path, n.Link = "", ""
	n.Target = strings.Clone(n.Target) // the original may share memory with a long tar header
	meta := len(n.Target)
	for name, value := range n.Xattrs {
		meta += len(name) + len(value)
	}
	if err := l.t.charge(meta); err != nil {
		return err
	}
	return l.place(p, &inode{Node: n})
}

// link adds a hard link at the path given by name. The path target of the existing file is looked
// up in this layer, and then in the tree below. In a tree, only regular files can have several
// names: for every other file, All yields a copy per name.
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
		return fmt.Errorf("hard link to %s: no earlier entry has this name", short(to))
	}
	if found.IsDir() {
		return fmt.Errorf("hard link to %s: the target is a folder", short(to))
	}
	return l.place(p, found.inode)
}

// lookUp returns the node at the clean path p in the layer, or else in the tree below. It returns
// nil if neither has this path.
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
	return cmp.Or(l.root.find(path.Join(at.path(), name)), at.below[name])
}

// place attaches an inode at the clean path p and creates missing parent folders.
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
			return fmt.Errorf("its path leads through %s, which is %s", short(next.path()), kind(next.Mode))
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
		return fmt.Errorf("cannot replace a folder that contains other entries with %s", kind(in.Mode))
	default:
		parent.attach(old.name, newNode(in))
	}
	return nil
}

// count counts a new node and its name against the tree's limits.
func (t *Tree) count(name string) error {
	if t.files >= t.limits.Files {
		return fmt.Errorf("more than %d entries: %w", t.limits.Files, ErrTooLarge)
	}
	t.files++
	return t.charge(len(name))
}

// charge counts n bytes of metadata against the limit on metadata.
func (t *Tree) charge(n int) error {
	t.meta += int64(n)
	if limit := int64(t.limits.Files) * metaPerFile; t.meta > limit {
		return fmt.Errorf("more than %d bytes of names and attributes: %w", limit, ErrTooLarge)
	}
	return nil
}

// apply applies the layer's whiteouts to the tree and merges the layer into it.
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

// merge moves the content of upper, a folder of the layer, into lower, a folder of the tree.
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
			return fmt.Errorf("filetree: %s: its path leads through %s, which is %s", short(over.some()), short(under.path()), kind(under.Mode))
		}
		l.t.drop(lower, name)
		lower.attach(name, over)
		l.attached(over)
	}
	return nil
}

// attached must be called for a node that was moved into the tree. For this node and all nodes
// below it, attached counts the names of files and defers entries below symbolic links.
func (l *layer) attached(n *node) {
	n.names++
	if n.isLink() && len(n.below) > 0 {
		over := newFolder()
		over.name, over.parent, over.below = n.name, n.parent, n.below
		l.t.files++ // merge subtracts it again
		l.late = append(l.late, deferred{n, over})
		n.below = nil
	}
	for _, name := range n.sorted() {
		l.attached(n.below[name])
	}
}

// some returns a path for error messages: the path of n, or if n is a folder without an entry of
// its own, the path of an entry below it.
func (n *node) some() string {
	for n.made && len(n.below) > 0 {
		n = n.below[n.sorted()[0]]
	}
	return n.path()
}
