package filetree

import (
	"golang.org/x/sys/unix"
)

// node is a place in a tree: what is there, and for a folder what is below.
type node struct {
	*inode
	below map[string]*node // nil for all but folders
	made  bool             // a folder that no entry told of: made for what is below
}

// inode is what one name or, of a regular file, several names stand for. It does not change, but for its names.
type inode struct {
	Node                  // without Path and Link
	names map[string]bool // of a regular file: its paths in the tree
	first string          // the first of names in order; "" when that must be found again
}

func newNode(in *inode) *node {
	n := &node{inode: in}
	if in.IsDir() {
		n.below = map[string]*node{}
	}
	return n
}

// newFolder is a folder that nobody told of.
func newFolder() *node {
	n := newNode(&inode{Node: Node{Mode: unix.S_IFDIR | 0o755}})
	n.made = true
	return n
}

func (in *inode) isFile() bool { return in.Mode&unix.S_IFMT == unix.S_IFREG }

// find returns what is at a clean path, or nil. Symbolic links are not followed.
func (n *node) find(p string) *node {
	for n != nil && p != "" {
		var name string
		name, p = cut(p)
		n = n.below[name]
	}
	return n
}

// walk calls do for n, which is at path p, and all that is below.
func (n *node) walk(p string, do func(p string, n *node)) {
	do(p, n)
	for name, child := range n.below {
		child.walk(join(p, name), do)
	}
}

// public is the node as callers see it.
func (n *node) public(p string) *Node {
	out := n.Node
	out.Path = p
	if n.isFile() {
		if first := n.firstName(); first != p {
			out.Link = first
		}
	}
	return &out
}

func (in *inode) firstName() string {
	if in.first == "" {
		for p := range in.names {
			if in.first == "" || p < in.first {
				in.first = p
			}
		}
	}
	return in.first
}

func (in *inode) addName(p string) {
	if in.names == nil {
		in.names = map[string]bool{}
	}
	in.names[p] = true
	if p < in.first {
		in.first = p
	}
}

func (in *inode) dropName(p string) {
	delete(in.names, p)
	if p == in.first {
		in.first = ""
	}
}

// attached and detached keep the names of regular files, as n comes to be or ceases to be at path p of the tree, and the
// count of nodes, of which a layer's are counted when it is read.
func (t *Tree) attached(p string, n *node) {
	n.walk(p, func(p string, n *node) {
		if n.isFile() {
			n.addName(p)
		}
	})
}

func (t *Tree) detached(p string, n *node) {
	n.walk(p, func(p string, n *node) {
		t.files--
		if n.isFile() {
			n.dropName(p)
		}
	})
}

// remove removes what is at a clean path, and of the root what is below.
func (t *Tree) remove(p string) {
	if p == "" {
		t.empty(p)
		return
	}
	dir, name := split(p)
	parent := t.root.find(dir)
	if parent == nil || parent.below[name] == nil {
		return
	}
	t.detached(p, parent.below[name])
	delete(parent.below, name)
}

// empty removes what is below the folder at a clean path.
func (t *Tree) empty(p string) {
	n := t.root.find(p)
	if n == nil {
		return
	}
	for name, child := range n.below {
		t.detached(join(p, name), child)
		delete(n.below, name)
	}
}
