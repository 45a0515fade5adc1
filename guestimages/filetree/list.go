package filetree

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// AddList overlays the tree with the entries of a list. The lines have the format of the kernel's
// usr/gen_init_cpio.c, in which modes are octal and other numbers are decimal:
//
//	file NAME LOCATION MODE UID GID [HARD LINK...]
//	dir NAME MODE UID GID
//	nod NAME MODE UID GID b|c MAJOR MINOR
//	slink NAME TARGET MODE UID GID
//	pipe NAME MODE UID GID
//	sock NAME MODE UID GID
//
// A # at the start of a line starts a comment. A LOCATION is the path of a file on the host. A
// relative path starts at base. The file is not read until its content is used. Environment
// variables in a LOCATION are not expanded, so that the same list always gives the same tree.
// Errors start with FILE:LINE, where FILE is the reader's Name, or "list" if it has none.
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

// lineForms maps the first word of a line to its file type and its arguments.
var lineForms = map[string]struct {
	mode uint32
	args string
}{
	"file":  {unix.S_IFREG, "NAME LOCATION MODE UID GID [HARD LINK...]"},
	"dir":   {unix.S_IFDIR, "NAME MODE UID GID"},
	"nod":   {0, "NAME MODE UID GID b|c MAJOR MINOR"},
	"slink": {unix.S_IFLNK, "NAME TARGET MODE UID GID"},
	"pipe":  {unix.S_IFIFO, "NAME MODE UID GID"},
	"sock":  {unix.S_IFSOCK, "NAME MODE UID GID"},
}

func (l *layer) addLine(line, base string) error {
	words := strings.Fields(line)
	if len(words) == 0 || strings.HasPrefix(line, "#") {
		return nil
	}
	what, words := words[0], words[1:]
	form, ok := lineForms[what]
	if !ok {
		return fmt.Errorf("unknown entry type %s: want file, dir, nod, slink, pipe or sock", short(what))
	}
	want := len(strings.Fields(form.args))
	if what == "file" {
		want = 5
	}
	if len(words) < want || len(words) > want && what != "file" {
		return fmt.Errorf("%s: got %d arguments, want %s", what, len(words), form.args)
	}
	n := Node{Path: words[0], Mode: form.mode}
	rest := words[1:]
	if what == "file" || what == "slink" {
		rest = words[2:]
	}
	mode, err := strconv.ParseUint(rest[0], 8, 32)
	if err != nil || mode > 0o7777 {
		return fmt.Errorf("mode %s: want octal digits up to 7777", short(rest[0]))
	}
	n.Mode |= uint32(mode)
	numbers, texts := []*uint32{&n.UID, &n.GID}, rest[1:3]
	if what == "nod" {
		switch rest[3] {
		case "b":
			n.Mode |= unix.S_IFBLK
		case "c":
			n.Mode |= unix.S_IFCHR
		default:
			return fmt.Errorf("device type %s: want b or c", short(rest[3]))
		}
		numbers, texts = append(numbers, &n.Major, &n.Minor), slices.Concat(texts, rest[4:])
	}
	for i, text := range texts {
		v, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return fmt.Errorf("%s: want a 32-bit decimal number", short(text))
		}
		*numbers[i] = uint32(v)
	}
	switch what {
	case "file":
		return l.addFile(n, base, words[1], words[5:])
	case "slink":
		n.Target = words[1]
	}
	return named(short(n.Path), l.put(n))
}

// addFile adds a regular file and its hard links. Its content is that of a file on the host.
func (l *layer) addFile(n Node, base, location string, links []string) error {
	if strings.Contains(location, "${") {
		return errors.New("variables like ${...} in a location are not expanded: write the full path")
	}
	if !filepath.IsAbs(location) {
		location = filepath.Join(base, location)
	}
	file, err := filepath.Abs(location)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return &os.PathError{Op: "stat", Path: location, Err: err}
	}
	err = l.t.chargeSize(st.Size)
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = fmt.Errorf("%s is not a regular file", file)
	}
	if err == nil {
		n.file, n.id, n.SizeBytes, n.ModTime = file, idOf(&st), st.Size, time.Unix(st.Mtim.Unix())
		err = l.put(n)
	}
	if err != nil {
		return named(short(n.Path), err)
	}
	for _, name := range links {
		if err := l.link(name, n.Path); err != nil {
			return named(short(name), err)
		}
	}
	return nil
}
