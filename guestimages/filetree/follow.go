package filetree

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links a path may lead through: MAXSYMLINKS, linux/namei.h.
const maxLinks = 40

// Folder makes the folder at a path, and those above it, where they are absent. Symbolic links on the way are followed
// inside the tree's root, as a program in it would, and so is one at the path itself. Where something else is in the way, it
// stays as it is, and that is no error.
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

// blockedError says that a path does not lead to a folder.
type blockedError struct{ error }

// follow returns the folder that a clean path leads to when symbolic links are followed inside the root. Folders that are
// absent are made if the caller says so; without, the result is nil.
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
				return nil, errors.New("a symbolic link leads to a name or path that is too long")
			}
			if err := t.count(step); err != nil {
				return nil, err
			}
			next = newFolder()
			at.attach(strings.Clone(step), next)
		case next.isLink():
			// Layers may have links to long chains of links, so there is a limit for all together.
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
			return nil, blockedError{fmt.Errorf("it lies below %s, which is %s", short(next.path()), kind(next.Mode))}
		}
		at = next
	}
	return at, nil
}

// deferred are entries of a layer below what is a symbolic link in the tree: they go where it leads once all else of the
// layer is in the tree.
type deferred struct {
	link *node
	over *node // a folder of the layer
}

// followLink lays what is below the link over the folder that it leads to.
func (l *layer) followLink(d deferred) error {
	name, link := short(d.over.some()), d.link.path()
	to, err := l.t.follow(link, true)
	if err == nil && len(to.path())+d.over.longest() > maxPath {
		err = fmt.Errorf("the path that it leads to has more than %d bytes", maxPath)
	}
	if err != nil {
		return fmt.Errorf("filetree: %s: below the symbolic link %s: %w", name, short(link), err)
	}
	return l.merge(to, d.over)
}

// hides returns the folder of the tree in which the layer's whiteouts in the folder dir hide something, or nil.
func (l *layer) hides(dir string) *node {
	over, under := l.root, l.t.root
	for rest := dir; rest != "" && over != nil && under != nil; {
		var step string
		step, rest = cut(rest)
		over, under = over.below[step], under.below[step]
		if over != nil && under != nil && !over.made && !under.IsDir() {
			return nil // the layer has another folder there
		}
	}
	n, err := l.t.follow(dir, false)
	if err != nil {
		return nil // a file, or a link that leads nowhere
	}
	return n
}
