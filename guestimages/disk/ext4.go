package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/filetree"
)

// ext4Features are what every kernel since 4.x reads and writes; what mke2fs.conf says differs from machine to machine.
const ext4Features = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,metadata_csum,sparse_super,large_file,huge_file,dir_nlink,extra_isize"

// How much is a tree in ext4, and how much more its image gets.
const (
	inodeSize     = 256
	bytesPerInode = 16384 // of the image, one inode; more where the tree needs more
	slackBytes    = 64 << 20
	minExt4       = 8 << 20 // smaller ones have no room for a journal
)

// ext4 is an ext4 file system in the making.
type ext4 struct {
	image  string // in dir: the programs run there, as libext2fs takes what follows a "?" in a path for options
	dir    string // with scripts and values too
	opt    Options
	time   time.Time // of making
	inodes int64
	mke2fs string
	debug  string // debugfs
}

func newExt4(ctx context.Context, b *Build, opt Options) (*ext4, error) {
	e := &ext4{image: filepath.Base(b.image()), dir: b.dir, opt: opt}
	var err1, err2 error
	e.mke2fs, err1 = opt.tool(ctx, "mke2fs")
	e.debug, err2 = opt.tool(ctx, "debugfs")
	return e, errors.Join(err1, err2)
}

// format makes the file system, with the content of the folder from unless that is "".
func (e *ext4) format(ctx context.Context, from string) error {
	extended := "root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0,hash_seed=" + another(e.opt.UUID)
	if from != "" {
		extended += ",no_copy_xattrs"
	}
	args := []string{"-q", "-F", "-t", "ext4", "-b", strconv.Itoa(blockSize), "-I", strconv.Itoa(inodeSize), "-m", "1",
		"-N", strconv.FormatInt(max(e.inodes, e.opt.SizeBytes/bytesPerInode), 10),
		"-O", ext4Features, "-L", e.opt.Label, "-U", e.opt.UUID,
		"-E", extended}
	if from != "" {
		args = append(args, "-d", from)
	}
	if err := os.WriteFile(filepath.Join(e.dir, "mke2fs.conf"), []byte(mke2fsConf), 0o600); err != nil {
		return err
	}
	args = append(args, e.image, strconv.FormatInt(e.opt.SizeBytes>>10, 10)+"k")
	_, _, err := tool{path: e.mke2fs, args: args, dir: e.dir, env: e.env()}.run(ctx)
	return err
}

// mke2fsConf is a mke2fs.conf(5) that says nothing new, but knows the words that mke2fs looks for.
const mke2fsConf = `[fs_types]
	ext4 = {
		inode_size = 256
	}
	floppy = {
		inode_size = 256
	}
	small = {
		inode_size = 256
	}
	big = {
		inode_size = 256
	}
	huge = {
		inode_size = 256
	}
`

// env keeps the machine's configuration and clock out of the file system. E2FSPROGS_FAKE_TIME is libext2fs's, in seconds.
func (e *ext4) env() []string {
	return []string{"MKE2FS_CONFIG=" + filepath.Join(e.dir, "mke2fs.conf"), "MKE2FS_SYNC=0", "E2FSPROGS_FAKE_TIME=" + strconv.FormatInt(max(1, e.time.Unix()), 10)}
}

// fill makes the file system of a tree.
func (e *ext4) fill(ctx context.Context, t *filetree.Tree, staged string) error {
	if err := e.format(ctx, staged); err != nil {
		return err
	}
	found, err := e.list(ctx)
	if err != nil {
		return err
	}
	s := &script{dir: e.dir, tree: t, found: found, values: map[string]string{}}
	for n := range t.All() {
		if err := s.add(n, e.time); err != nil {
			return err
		}
	}
	return e.change(ctx, s)
}

// change runs the script.
func (e *ext4) change(ctx context.Context, s *script) error {
	const name = "script"
	if err := os.WriteFile(filepath.Join(e.dir, name), []byte(s.text.String()), 0o600); err != nil {
		return err
	}
	_, said, err := tool{path: e.debug, args: []string{"-w", "-f", name, e.image}, dir: e.dir, env: e.env()}.run(ctx)
	if complaint := complaints(said); complaint != "" {
		err = toolError(e.debug, errors.New("it could not set what the tree says"), []byte(s.explain(complaint)))
	}
	return err
}

// complaints is what debugfs said but for the line with its version. It goes on after an error and exits with what the
// last command did.
func complaints(said []byte) string {
	var lines []string
	for line := range strings.Lines(string(said)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "debugfs 1.") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[:min(len(lines), 5)], "\n")
}

// entry is one name in a file system as it is.
type entry struct {
	inode    uint32
	mode     uint32
	uid, gid uint32
}

const rootInode = 2 // EXT2_ROOT_INO

// place is a name in a folder, which is an inode: paths would take too much memory.
type place struct {
	dir  uint32
	name string
}

// listing is what a file system has; its root is place{}.
type listing map[place]entry

// at returns what is at a path of a tree.
func (l listing) at(p string) (entry, bool) {
	at, ok := l[place{}]
	for rest := p; ok && rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		at, ok = l[place{at.inode, name}]
	}
	return at, ok
}

// list returns what is where in the file system. Folders are asked for by inode number, one level after the other, as
// not every name can be said to debugfs.
func (e *ext4) list(ctx context.Context) (listing, error) {
	found := listing{}
	level := map[uint32]bool{rootInode: true}
	for len(level) > 0 {
		var ask strings.Builder
		for inode := range level {
			fmt.Fprintf(&ask, "ls -p <%d>\n", inode)
		}
		const name = "list"
		if err := os.WriteFile(filepath.Join(e.dir, name), []byte(ask.String()), 0o600); err != nil {
			return nil, err
		}
		out, said, err := tool{path: e.debug, args: []string{"-f", name, e.image}, dir: e.dir}.run(ctx)
		if err == nil && complaints(said) != "" {
			err = fmt.Errorf("disk: debugfs: %s", complaints(said))
		}
		if err != nil {
			return nil, err
		}
		next := map[uint32]bool{}
		err = parseListing(string(out), func(in uint32, name string, at entry) {
			if name == "." || name == ".." || !level[in] {
				if in == rootInode && name == "." {
					found[place{}] = at
				}
				return
			}
			found[place{in, name}] = at
			if at.mode&unix.S_IFMT == unix.S_IFDIR {
				next[at.inode] = true
			}
		})
		if err != nil {
			return nil, err
		}
		level = next
	}
	return found, nil
}

// parseListing reads the output of any number of debugfs' "ls -p", whose lines are /INODE/MODE/UID/GID/NAME/SIZE/ with the
// mode in octal, and calls do with the inode of the folder that a name is in. No field has a slash in it, but a name may
// have a newline; so the slashes are what counts. The first name of every folder is its ".".
func parseListing(out string, do func(in uint32, name string, at entry)) error {
	const fields = 7 // with what is between two lines: a newline, and the next command
	words := strings.Split(out, "/")
	folder := uint32(0)
	for ; len(words) >= fields; words = words[fields:] {
		inode, err1 := strconv.ParseUint(words[1], 10, 32)
		mode, err2 := strconv.ParseUint(words[2], 8, 32)
		uid, err3 := strconv.ParseInt(words[3], 10, 64) // printed as a signed number
		gid, err4 := strconv.ParseInt(words[4], 10, 64)
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			return fmt.Errorf("disk: debugfs: listing: %w", err)
		}
		at := entry{uint32(inode), uint32(mode), uint32(uid), uint32(gid)}
		name := words[5]
		if name == "." {
			folder = at.inode
		}
		if at.inode != 0 {
			do(folder, name, at)
		}
	}
	if len(words) > 1 {
		return fmt.Errorf("disk: debugfs: listing ends in %q", strings.Join(words, "/"))
	}
	return nil
}

// inodeRef is how debugfs is told, and tells, an inode.
func inodeRef() *regexp.Regexp { return regexp.MustCompile(`<\d+>`) }
