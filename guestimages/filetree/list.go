package filetree

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// AddList overlays the tree with the entries of a list. The lines have the format of the kernel's
// usr/gen_init_cpio.c, with octal modes and decimal numbers elsewhere:
//
//	file NAME LOCATION MODE UID GID [HARD LINK...]
//	dir NAME MODE UID GID
//	nod NAME MODE UID GID b|c MAJOR MINOR
//	slink NAME TARGET MODE UID GID
//	pipe NAME MODE UID GID
//	sock NAME MODE UID GID
//
// A # at the start of a line starts a comment. A LOCATION is a file of the host, relative to base,
// which is read when it is used. Environment variables in it are not expanded, so that the same
// list always gives the same tree. Errors start with FILE:LINE; FILE is "list" if the reader has no
// Name method.
func (t *Tree) AddList(ctx context.Context, r io.Reader, base string) error {
	file := "list"
	if named, ok := r.(interface{ Name() string }); ok {
		file = named.Name()
	}
	l := t.newLayer()
	lines := bufio.NewScanner(r)
	number := 0
	for lines.Scan() {
		number++
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("filetree: %s: %w", file, err)
		}
		if err := l.addLine(lines.Text(), base); err != nil {
			return fmt.Errorf("%s:%d: %w", file, number, err)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s:%d: %w", file, number+1, err)
	}
	return l.apply()
}

// lineForms maps the first word of a line to its arguments, for errors.
var lineForms = map[string]string{
	"file":  "NAME LOCATION MODE UID GID [HARD LINK...]",
	"dir":   "NAME MODE UID GID",
	"nod":   "NAME MODE UID GID b|c MAJOR MINOR",
	"slink": "NAME TARGET MODE UID GID",
	"pipe":  "NAME MODE UID GID",
	"sock":  "NAME MODE UID GID",
}

func (l *layer) addLine(line, base string) error {
	if strings.HasPrefix(line, "#") {
		return nil
	}
	words := strings.Fields(line)
	if len(words) == 0 {
		return nil
	}
	what, words := words[0], words[1:]
	form, ok := lineForms[what]
	if !ok {
		return fmt.Errorf("unknown entry type %s: want file, dir, nod, slink, pipe or sock", short(what))
	}
	want := len(strings.Fields(form))
	if what == "file" {
		want = 5
	}
	if len(words) < want || len(words) > want && what != "file" {
		return fmt.Errorf("%s: got %d arguments, want %s", what, len(words), form)
	}
	n := Node{Path: words[0]}
	rest := words[1:]
	if what == "file" || what == "slink" {
		rest = words[2:]
	}
	if err := n.parseOwner(rest); err != nil {
		return err
	}
	switch what {
	case "file":
		n.Mode |= unix.S_IFREG
		if err := l.addFile(n, base, words[1]); err != nil {
			return err
		}
		for _, name := range words[5:] {
			if err := l.link(name, n.Path); err != nil {
				return fmt.Errorf("%s: %w", short(name), err)
			}
		}
		return nil
	case "nod":
		if err := n.parseDevice(rest[3:]); err != nil {
			return err
		}
	case "dir":
		n.Mode |= unix.S_IFDIR
	case "slink":
		n.Mode |= unix.S_IFLNK
		n.Target = words[1]
	case "pipe":
		n.Mode |= unix.S_IFIFO
	case "sock":
		n.Mode |= unix.S_IFSOCK
	}
	return l.named(n.Path, l.put(n))
}

func (l *layer) named(p string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", short(p), err)
}

func (l *layer) addFile(n Node, base, location string) error {
	if strings.Contains(location, "${") {
		return errors.New("variables like ${...} in a location are not expanded: write the full path")
	}
	if !filepath.IsAbs(location) {
		location = filepath.Join(base, location)
	}
	info, err := os.Stat(location)
	if err != nil {
		return err
	}
	n.ModTime = info.ModTime()
	return l.named(n.Path, l.putFile(n, location))
}

// parseOwner parses MODE UID GID.
func (n *Node) parseOwner(words []string) error {
	mode, err := strconv.ParseUint(words[0], 8, 32)
	if err != nil || mode > 0o7777 {
		return fmt.Errorf("mode %s: want octal digits up to 7777", short(words[0]))
	}
	n.Mode = uint32(mode)
	for i, id := range []*uint32{&n.UID, &n.GID} {
		if *id, err = parseNumber(words[i+1]); err != nil {
			return err
		}
	}
	return nil
}

// parseDevice parses TYPE MAJOR MINOR.
func (n *Node) parseDevice(words []string) error {
	switch words[0] {
	case "b":
		n.Mode |= unix.S_IFBLK
	case "c":
		n.Mode |= unix.S_IFCHR
	default:
		return fmt.Errorf("device type %s: want b or c", short(words[0]))
	}
	var err error
	for i, number := range []*uint32{&n.Major, &n.Minor} {
		if *number, err = parseNumber(words[i+1]); err != nil {
			return err
		}
	}
	return nil
}

func parseNumber(word string) (uint32, error) {
	v, err := strconv.ParseUint(word, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%s: want a 32-bit decimal number", short(word))
	}
	return uint32(v), nil
}
