package disk

import (
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/filetree"
)

// script is a list of debugfs(8) commands for the metadata that a staging folder cannot have.
type script struct {
	dir    string
	tree   *filetree.Tree
	found  listing // the files in the file system that mke2fs created
	text   strings.Builder
	values map[string]string // maps the value of an extended attribute to the file in dir that holds the value
}

// add adds the commands for the node n. made is the time for nodes that have none.
func (s *script) add(n *filetree.Node, made time.Time) error {
	if n.Link != "" {
		return nil
	}
	at, ok := s.found.at(n.Path)
	ref := fmt.Sprintf("<%d>", at.inode)
	switch kind := n.Mode & unix.S_IFMT; {
	case kind == unix.S_IFCHR, kind == unix.S_IFBLK:
		var err error
		if ref, err = s.mknod(n); err != nil {
			return err
		}
		at = entry{}
	case !ok:
		return fmt.Errorf("disk: mke2fs: %q is not in the image", n.Path)
	}
	set := func(field string, value any) { fmt.Fprintf(&s.text, "set_inode_field %s %s %v\n", ref, field, value) }
	if at.mode != n.Mode {
		set("mode", "0"+strconv.FormatUint(uint64(n.Mode), 8))
	}
	if at.uid != n.UID {
		set("uid", n.UID)
	}
	if at.gid != n.GID {
		set("gid", n.GID)
	}
	seconds, extra := ext4Time(timeOf(n, made))
	for _, field := range []string{"mtime", "atime", "ctime"} {
		set(field, "@"+strconv.FormatUint(uint64(uint32(seconds)), 10)) // @-1 is an error
		set(field+"_extra", extra)
	}
	if err := checkXattrs(n); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(n.Xattrs)) {
		if err := s.xattr(ref, n, name); err != nil {
			return err
		}
	}
	return nil
}

// ext4Time encodes t with 34 bits for the seconds and 30 bits for the nanoseconds, as
// ext4_encode_extra_time in fs/ext4 does.
func ext4Time(t time.Time) (seconds int32, extra uint32) {
	sec := min(max(t.Unix(), -1<<31), 0x27fffffff) // e2fsck takes a later time for one before 1970
	seconds = int32(sec)
	return seconds, uint32((sec-int64(seconds))>>32)&3 | uint32(t.Nanosecond())<<2
}

// mknod adds the commands that create a device node, which only root could have created in the
// staging folder. ref is debugfs' name for the node.
func (s *script) mknod(n *filetree.Node) (ref string, err error) {
	dir, name := path.Split(n.Path)
	at, _ := s.found.at(dir)
	quoted, ok := quote(name)
	if !ok {
		return "", inputErrorf("%q: cannot create a device node with this name in ext4", n.Path)
	}
	kind := "c"
	if n.Mode&unix.S_IFMT == unix.S_IFBLK {
		kind = "b"
	}
	ref, _ = quote("./" + name) // "./": debugfs would take a name like <12> for an inode number
	// debugfs parses only 16 bits of a minor number. For a larger minor number, the second word of
	// the block map is set to the 32-bit device number, encoded as in new_encode_dev
	// (linux/kdev_t.h).
	fmt.Fprintf(&s.text, "cd <%d>\nmknod %s %s %d %d\n", at.inode, quoted, kind, n.Major, min(n.Minor, 1<<16-1))
	if n.Minor >= 1<<16 {
		fmt.Fprintf(&s.text, "set_inode_field %s block[1] %d\n", ref, n.Minor&0xff|n.Major<<8|n.Minor&^0xff<<12)
	}
	return ref, nil
}

// xattrRoom is the number of bytes for entries in an attribute block: the block size minus the
// header and the end mark (fs/ext4/xattr.h).
const xattrRoom = blockSize - 32 - 4

func checkXattrs(n *filetree.Node) error {
	size := 0
	for name, value := range n.Xattrs {
		size += 16 + len(name) + 3 + len(value) + 3 // struct ext4_xattr_entry; name and value are each padded to a multiple of 4
	}
	if size > xattrRoom {
		return inputErrorf("%q: extended attributes need %d bytes: ext4 has room for %d", n.Path, size, xattrRoom)
	}
	return nil
}

// xattrName matches the names that Linux stores on disk (xattr(7)). debugfs accepts any name.
const xattrName = `^(user|trusted|security)\..|^system\.posix_acl_(access|default)$`

func (s *script) xattr(ref string, n *filetree.Node, name string) error {
	quoted, ok := quote(name)
	if !ok || !matches(xattrName, name) {
		return inputErrorf("%q: cannot set an extended attribute named %q in ext4", n.Path, name)
	}
	value := string(n.Xattrs[name])
	file := s.values[value]
	if file == "" {
		file = fmt.Sprintf("value%d", len(s.values))
		if err := os.WriteFile(filepath.Join(s.dir, file), []byte(value), 0o600); err != nil {
			return err
		}
		s.values[value] = file
	}
	fmt.Fprintf(&s.text, "ea_set -f %s %s %s\n", file, ref, quoted)
	return nil
}

// quote quotes a word for debugfs (libss, parse.c): it encloses the word in quotation marks and
// doubles the quotation marks in the word. ok is false if the word cannot be passed to debugfs: a
// line break always ends a command, and a long word could exceed debugfs' line limit of 8192 bytes.
func quote(word string) (quoted string, ok bool) {
	return `"` + strings.ReplaceAll(word, `"`, `""`) + `"`, !strings.ContainsAny(word, "\n\r") && len(word) < 1024
}

// explain replaces the inode numbers in debugfs' messages with paths.
func (s *script) explain(messages string) string {
	inode := regexp.MustCompile(`<\d+>`) // as debugfs writes it
	paths := map[string]string{}
	for _, ref := range inode.FindAllString(messages, -1) {
		paths[ref] = ref
	}
	for n := range s.tree.All() {
		at, ok := s.found.at(n.Path)
		if ref := fmt.Sprintf("<%d>", at.inode); ok && paths[ref] == ref {
			paths[ref] = strconv.Quote(n.Path)
		}
	}
	return inode.ReplaceAllStringFunc(messages, func(ref string) string { return paths[ref] })
}
