package disk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/filetree"
)

// ext4Features are the features that every kernel since 4.x reads and writes. They are explicit
// because the defaults in mke2fs.conf differ between hosts.
const ext4Features = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,metadata_csum,sparse_super,large_file,huge_file,dir_nlink,extra_isize"

// Sizes in ext4, in bytes. slackBytes is the space that an image gets in addition to its tree.
const (
	inodeSize     = 256
	bytesPerInode = 16384 // image bytes for each inode; the image gets more inodes if the tree needs them
	slackBytes    = 64 << 20
	minExt4       = 8 << 20 // a smaller image has no room for a journal
)

// ext4 is an ext4 file system under construction.
type ext4 struct {
	image  string    // file name in dir; the programs run in dir, because libext2fs parses the part of a path after a "?" as options
	dir    string    // contains the image, the scripts and the attribute values
	time   time.Time // creation time of the file system
	mke2fs string    // path of the program
	debug  string    // path of debugfs
}

// ext4 creates an ext4 file system that contains the tree.
func (b *Build) ext4(ctx context.Context, t *filetree.Tree, opt Options) error {
	mke2fs, err1 := opt.tool(ctx, "mke2fs")
	debug, err2 := opt.tool(ctx, "debugfs")
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	need := measure(t)
	opt.SizeBytes = cmp.Or(opt.SizeBytes, need.comfortable())
	if opt.SizeBytes < need.least() {
		return tooSmall(opt.SizeBytes, need)
	}
	staged := filepath.Join(b.dir, "stage")
	if err := stage(ctx, t, staged); err != nil {
		return err
	}
	e := &ext4{image: filepath.Base(b.image()), dir: b.dir, time: need.time, mke2fs: mke2fs, debug: debug}
	err := e.format(ctx, staged, opt, need.inodes)
	if err == nil {
		err = e.setMetadata(ctx, t)
	}
	if err != nil && isFull(err) {
		return fmt.Errorf("%w\n%w", tooSmall(opt.SizeBytes, need), err)
	}
	return err
}

// need is the room that a tree requires in ext4.
type need struct {
	inodes int64
	bytes  int64     // content, folders, long symlinks and attributes, in whole blocks
	time   time.Time // the latest time in the tree that is not in the future
}

// timeOf returns a node's modification time, or the time in made if the node has none.
func timeOf(n *filetree.Node, made time.Time) time.Time {
	if n.ModTime.IsZero() {
		return made
	}
	return n.ModTime
}

func measure(t *filetree.Tree) need {
	var n need
	now := time.Now()
	for node := range t.All() {
		if node.Link != "" {
			continue
		}
		n.inodes++
		n.bytes += (node.SizeBytes + blockSize - 1) / blockSize * blockSize
		if node.IsDir() || len(node.Target) > 59 { // EXT2_N_BLOCKS: the inode holds shorter targets
			n.bytes += blockSize
		}
		if len(node.Xattrs) > 0 {
			n.bytes += blockSize
		}
		if node.ModTime.After(n.time) && !node.ModTime.After(now) {
			n.time = node.ModTime
		}
	}
	const spare = 4 // used inodes for each spare one
	n.inodes += n.inodes/spare + 256
	return n
}

// least returns a lower bound for the size of an image of the tree, in bytes.
func (n need) least() int64 { return max(minExt4, n.bytes+n.inodes*inodeSize) }

// comfortable returns the default size: the lower bound, plus a quarter of the lower bound, plus
// slackBytes, rounded up to whole MiB.
func (n need) comfortable() int64 {
	size := n.least() + n.least()/4 + slackBytes
	return (size + 1<<20 - 1) >> 20 << 20
}

func tooSmall(size int64, n need) error {
	// No formula gives the size of the journal and the tables. An extra tenth plus 8 MiB has been
	// enough.
	enough := (n.least() + n.least()/10 + 8<<20 + 1<<20 - 1) >> 20
	return inputErrorf("a disk of %d MiB is too small for this tree: it needs about %d MiB (%dM)", size>>20, enough, enough)
}

// isFull reports whether the image, as opposed to the host, ran out of blocks or inodes.
func isFull(err error) bool {
	return !errors.Is(err, unix.ENOSPC) && matches(`(?i)could not allocate (block|inode)`, err.Error())
}

// format creates the file system with the content of the folder that staged names.
func (e *ext4) format(ctx context.Context, staged string, opt Options, inodes int64) error {
	// This mke2fs.conf(5) only defines the file system types that mke2fs looks up.
	conf := "[fs_types]\n"
	for _, name := range []string{"ext4", "floppy", "small", "big", "huge"} {
		conf += fmt.Sprintf("\t%s = {\n\t\tinode_size = %d\n\t}\n", name, inodeSize)
	}
	if err := os.WriteFile(filepath.Join(e.dir, "mke2fs.conf"), []byte(conf), 0o600); err != nil {
		return err
	}
	_, _, err := e.tool(ctx, e.mke2fs, "-q", "-F", "-t", "ext4", "-b", strconv.Itoa(blockSize), "-I", strconv.Itoa(inodeSize), "-m", "1",
		"-N", strconv.FormatInt(max(inodes, opt.SizeBytes/bytesPerInode), 10), "-O", ext4Features, "-L", opt.Label, "-U", opt.UUID,
		"-E", "root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0,no_copy_xattrs,hash_seed="+another(opt.UUID),
		"-d", staged, e.image, strconv.FormatInt(opt.SizeBytes>>10, 10)+"k").run()
	return err
}

// tool prepares a run of a program. The environment variables keep the host's configuration and
// clock out of the file system. libext2fs reads E2FSPROGS_FAKE_TIME, in seconds.
func (e *ext4) tool(ctx context.Context, path string, args ...string) tool {
	t := newTool(ctx, e.dir, path, args...)
	t.Env = append(t.Env, "MKE2FS_CONFIG="+filepath.Join(e.dir, "mke2fs.conf"), "MKE2FS_SYNC=0", "E2FSPROGS_FAKE_TIME="+strconv.FormatInt(max(1, e.time.Unix()), 10))
	return t
}

// setMetadata sets the metadata of the tree that the staged files could not have.
func (e *ext4) setMetadata(ctx context.Context, t *filetree.Tree) error {
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
	_, complaint, err := e.debugfs(ctx, s.text.String(), "-w")
	if complaint != "" {
		err = toolError(e.debug, errors.New("cannot set the metadata of files"), []byte(s.explain(complaint)))
	}
	return err
}

// debugfs runs commands and returns their output and the first complaints.
func (e *ext4) debugfs(ctx context.Context, commands string, options ...string) (out, complaint string, err error) {
	const name = "commands"
	if err := os.WriteFile(filepath.Join(e.dir, name), []byte(commands), 0o600); err != nil {
		return "", "", err
	}
	stdout, stderr, err := e.tool(ctx, e.debug, append(options, "-f", name, e.image)...).run()
	return string(stdout), complaints(stderr), err
}

// complaints returns the first 5 lines of debugfs' stderr. It skips empty lines and the line with
// the version. debugfs continues after an error, and its exit status is that of its last command.
func complaints(stderr []byte) string {
	lines := slices.DeleteFunc(strings.Split(string(stderr), "\n"), func(line string) bool {
		return strings.TrimSpace(line) == "" || strings.HasPrefix(line, "debugfs 1.")
	})
	return strings.Join(lines[:min(len(lines), 5)], "\n")
}

// entry is the inode that a name in a file system refers to.
type entry struct {
	inode    uint32
	mode     uint32
	uid, gid uint32
}

const rootInode = 2 // EXT2_ROOT_INO

// place identifies a file by its name and the inode number of its folder. Full paths would take too
// much memory.
type place struct {
	dir  uint32 // inode number
	name string
}

// listing is the content of a file system. The key of the root is place{}.
type listing map[place]entry

// at returns the entry for a path in a tree.
func (l listing) at(p string) (entry, bool) {
	at, ok := l[place{}]
	for name := range strings.SplitSeq(p, "/") {
		if ok && name != "" {
			at, ok = l[place{at.inode, name}]
		}
	}
	return at, ok
}

// list reads the content of the file system. It lists folders by inode number, level by level,
// because some names cannot be passed to debugfs.
func (e *ext4) list(ctx context.Context) (listing, error) {
	found := listing{}
	level := map[uint32]bool{rootInode: true}
	for len(level) > 0 {
		var commands strings.Builder
		for inode := range level {
			fmt.Fprintf(&commands, "ls -p <%d>\n", inode)
		}
		out, complaint, err := e.debugfs(ctx, commands.String())
		if err == nil && complaint != "" {
			err = fmt.Errorf("disk: debugfs: %s", complaint)
		}
		if err != nil {
			return nil, err
		}
		next := map[uint32]bool{}
		err = parseListing(out, func(in uint32, name string, at entry) {
			switch {
			case in == rootInode && name == ".":
				found[place{}] = at
			case name == "." || name == ".." || !level[in]:
			default:
				found[place{in, name}] = at
				if at.mode&unix.S_IFMT == unix.S_IFDIR {
					next[at.inode] = true
				}
			}
		})
		if err != nil {
			return nil, err
		}
		level = next
	}
	return found, nil
}

// parseListing parses the output of any number of debugfs "ls -p" commands and calls do(in, name,
// at) for each entry, where in is the inode number of the folder. Each line is
// /INODE/MODE/UID/GID/NAME/SIZE/ with the mode in octal. A name may contain a newline but no field
// contains a slash, so the fields are split at slashes. The first entry of every folder is ".",
// which gives the inode number of the folder.
func parseListing(out string, do func(in uint32, name string, at entry)) error {
	const fields = 7 // including the text between two lines: a newline and the next command
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
		return fmt.Errorf("disk: debugfs: listing ends with incomplete line %q", strings.Join(words, "/"))
	}
	return nil
}
