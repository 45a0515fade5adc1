package filetree

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks limits the symbolic links in one path (MAXSYMLINKS, linux/namei.h).
const maxLinks = 40

// Folder creates the folder at a path and its missing parents. Like a program in the tree's root,
// it follows symbolic links in the path, including the last component, and never leaves the root.
// If a path component exists and is not a folder, Folder leaves it unchanged and returns nil.
func (t *Tree) Folder(path string) error {
	p, err := clean(path)
	if err == nil {
		_, err = t.follow(p, true)
	}
	if err != nil && !errors.As(err, &blockedError{}) {
		return fmt.Errorf("filetree: %s: %w", short(path), err)
	}
	return nil
}

// blockedError reports that a path does not lead to a folder.
type blockedError struct{ error }

// follow resolves a clean path to a folder and follows symbolic links inside the root. If a folder
// is missing, follow creates it if make is true, and otherwise returns no node and no error.
func (t *Tree) follow(p string, make bool) (*node, error) {
	at, links := t.root, 0
	for rest := p; rest != ""; {
		var step string
		step, rest = cut(rest)
		if step == ".." && at.parent != nil {
			at = at.parent
		}
		if step == "" || step == "." || step == ".." {
			continue
		}
		next := at.below[step]
		switch {
		case next == nil && !make:
			return nil, nil
		case next == nil:
			if len(step) > maxName || len(at.path())+1+len(step) > maxPath {
				return nil, errors.New("the target of a symbolic link is a name or path that is too long")
			}
			if err := t.count(step); err != nil {
				return nil, err
			}
			next = newFolder()
			at.attach(strings.Clone(step), next)
		case next.isLink():
			// A layer may contain many links to long chains of links, so the total number of links
			// followed is limited too.
			if links++; links > maxLinks || t.followed >= t.limits.Files {
				return nil, blockedError{fmt.Errorf("%w: symbolic link %s", unix.ELOOP, short(next.path()))}
			}
			t.followed++
			if strings.HasPrefix(next.Target, "/") {
				at = t.root
			}
			rest = next.Target + "/" + rest
			continue
		case !next.IsDir():
			return nil, blockedError{fmt.Errorf("its path leads through %s, which is %s", short(next.path()), kind(next.Mode))}
		}
		at = next
	}
	return at, nil
}

// deferred holds the entries that a layer has below a path that is a symbolic link in the tree.
// These entries are merged into the link's target after the rest of the layer.
type deferred struct {
	link *node
	over *node // the layer's folder at the link's path
}

// followLink merges the entries below the link into the folder that the link leads to.
func (l *layer) followLink(d deferred) error {
	name, link := short(d.over.some()), d.link.path()
	to, err := l.t.follow(link, true)
	if err == nil && len(to.path())+d.over.longest() > maxPath {
		err = fmt.Errorf("the resolved path has more than %d bytes", maxPath)
	}
	if err != nil {
		return fmt.Errorf("filetree: %s: below the symbolic link %s: %w", name, short(link), err)
	}
	return l.merge(to, d.over)
}

// hides returns the folder in the tree to which the layer's whiteouts in the folder dir apply, or
// nil if there is none.
func (l *layer) hides(dir string) *node {
	over, under := l.root, l.t.root
	for rest := dir; rest != "" && over != nil && under != nil; {
		var step string
		step, rest = cut(rest)
		over, under = over.below[step], under.below[step]
		if over != nil && under != nil && !over.made && !under.IsDir() {
			return nil // the layer replaces this entry with a folder
		}
	}
	n, err := l.t.follow(dir, false)
	if err != nil {
		return nil // the path leads through a file or too many links
	}
	return n
}
