package filetree

import (
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// node is a name in a tree with its inode and, for a folder, its children. A node does not store
// its path, because a few bytes of a compressed layer can contain many long paths.
type node struct {
	*inode
	name   string
	parent *node            // nil for a root
	below  map[string]*node // children of a folder, or of a symbolic link in a layer with entries below it; otherwise nil
	made   bool             // an implicit folder: created for the entries below, without an entry of its own
}

// inode is the file that a name refers to. Several names can share the inode of a regular file.
// Only the count in names changes later.
type inode struct {
	Node      // without Path and Link
	names int // number of names in the tree
}

func newNode(in *inode) *node {
	n := &node{inode: in}
	if in.IsDir() {
		n.below = map[string]*node{}
	}
	return n
}

// newFolder returns an implicit folder, with mode 0755 and owner 0.
func newFolder() *node {
	n := newNode(&inode{Node: Node{Mode: unix.S_IFDIR | 0o755}})
	n.made = true
	return n
}

func (n *Node) isFile() bool   { return n.Mode&unix.S_IFMT == unix.S_IFREG }
func (in *inode) isLink() bool { return in.Mode&unix.S_IFMT == unix.S_IFLNK }

// attach adds the node child to the folder n under the given name.
func (n *node) attach(name string, child *node) {
	child.name, child.parent = name, n
	n.below[name] = child
}

// path returns the node's path in its tree or layer.
func (n *node) path() string {
	var names []string
	for ; n.parent != nil; n = n.parent {
		names = append(names, n.name)
	}
	slices.Reverse(names)
	return strings.Join(names, "/")
}

// find returns the node at a clean path, or nil. Symbolic links are not followed.
func (n *node) find(p string) *node {
	for n != nil && p != "" {
		var name string
		name, p = cut(p)
		n = n.below[name]
	}
	return n
}

// sorted returns the names of n's children in order.
func (n *node) sorted() []string { return slices.Sorted(maps.Keys(n.below)) }

// inOrder calls the function do for every node below n, in the byte order of their paths: "a-"
// before "a/b".
func (n *node) inOrder(do func(*node)) {
	keys := make([]string, 0, len(n.below))
	for name, child := range n.below {
		keys = append(keys, name)
		if len(child.below) > 0 {
			keys = append(keys, name+"/")
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		if name, ok := strings.CutSuffix(key, "/"); ok {
			n.below[name].inOrder(do)
		} else {
			do(n.below[key])
		}
	}
}

// longest returns the length of the longest path below n, relative to n, in bytes.
func (n *node) longest() int {
	most := 0
	for name, child := range n.below {
		most = max(most, 1+len(name)+child.longest())
	}
	return most
}

// public returns the node in the form that callers see, but without Link.
func (n *node) public() *Node {
	out := n.Node
	out.Path = n.path()
	return &out
}

// drop removes the child with the given name from the folder parent, if there is one.
func (t *Tree) drop(parent *node, name string) {
	if n := parent.below[name]; n != nil {
		delete(parent.below, name)
		t.detached(n)
	}
}

func (t *Tree) detached(n *node) {
	t.files--
	n.names--
	for _, child := range n.below {
		t.detached(child)
	}
}

// empty removes the children of a folder.
func (t *Tree) empty(n *node) {
	for name := range n.below {
		t.drop(n, name)
	}
}
