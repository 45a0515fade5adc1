package disk

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/filetree"
)

func TestExt4MatchesTheTree(t *testing.T) {
	tree := strange(t, Ext4)
	dir := t.TempDir()
	image, odd := filepath.Join(dir, "an image"), filepath.Join(dir, "what?offset=1 is\"this\nimage")
	if err := FromTree(t.Context(), tree, odd, false, Options{Label: "strange label", UUID: "12345678-1234-4234-8234-123456789abc"}); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(odd, image); err != nil {
		t.Fatal(err)
	}
	if out := toolOutput(t, "", "e2fsck", "-fn", image); strings.Contains(out, "Fix?") {
		t.Errorf("e2fsck: %s", out)
	}
	inodes, got := readExt4(t, image)
	compare(t, tree, got)

	// Check contents and attributes, and which names share an inode.
	dir = t.TempDir()
	var script strings.Builder
	check := map[string][]byte{}
	dump := func(command string, want []byte) {
		name := fmt.Sprintf("dump%d", len(check))
		check[name] = want
		fmt.Fprintf(&script, command+"\n", name)
	}
	links := map[uint32][]string{}
	for n := range tree.All() {
		inode := inodes[n.Path].inode
		if n.Mode&unix.S_IFMT == unix.S_IFREG {
			content, err := n.Content()
			if err != nil {
				t.Fatal(err)
			}
			dump(fmt.Sprintf("dump <%d> %%s", inode), content)
			links[inode] = append(links[inode], n.Path)
		}
		for _, name := range slices.Sorted(maps.Keys(n.Xattrs)) {
			quoted, _ := quote(name)
			value := n.Xattrs[name]
			if strings.HasPrefix(name, "system.posix_acl_") { // debugfs prints ids that are absent from the format as 0
				value = bytes.ReplaceAll(value, []byte("\xff\xff\xff\xff"), []byte("\x00\x00\x00\x00"))
			}
			dump(fmt.Sprintf("ea_get -f %%s <%d> %s", inode, quoted), value)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "script"), []byte(script.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	toolOutput(t, dir, "debugfs", "-f", "script", image)
	for name, want := range check {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(b, want) {
			t.Errorf("%s: %v: got %q, want %q", name, err, short(b), short(want))
		}
	}
	for _, paths := range links {
		if len(paths) > 1 && fmt.Sprint(paths) != "[a-hard folders/with blank/hard hard]" {
			t.Errorf("%q are one inode", paths)
		}
	}
	if len(links[inodes["hard"].inode]) != 3 {
		t.Errorf("hard links: got %q", links[inodes["hard"].inode])
	}

	info, err := Inspect(image)
	if err != nil {
		t.Fatal(err)
	}
	if info.FS != "ext4" || info.Label != "strange label" || info.UUID != "12345678-1234-4234-8234-123456789abc" {
		t.Errorf("got %+v", info)
	}
	if info.UsedBytes > 12<<20 || info.SizeBytes < 64<<20 {
		t.Errorf("the image uses %d of %d bytes on the host", info.UsedBytes, info.SizeBytes)
	}
}

func short(b []byte) []byte { return b[:min(len(b), 100)] }

var (
	statInode  = regexp.MustCompile(`(?m)^Inode: (\d+) `)
	statMtime  = regexp.MustCompile(`(?m)^ mtime: 0x([0-9a-f]{8}):([0-9a-f]{8})`)
	statSize   = regexp.MustCompile(`Size: (\d+)`)
	statDevice = regexp.MustCompile(`Device major/minor number: 0*(\d+):0*(\d+)`)
)

// readExt4 returns the inode and the description of every path in an image.
func readExt4(t *testing.T, image string) (inodes map[string]entry, got map[string]string) {
	t.Helper()
	e := &ext4{image: image, dir: t.TempDir(), debug: lookTool("debugfs")}
	found, err := e.list(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	inodes = map[string]entry{"": found[place{}]}
	var below func(dir string)
	below = func(dir string) {
		for at, inode := range found {
			if at.name != "" && at.dir == inodes[dir].inode {
				p := path.Join(dir, at.name)
				inodes[p] = inode
				if inode.mode&unix.S_IFMT == unix.S_IFDIR {
					below(p)
				}
			}
		}
	}
	below("")
	var commands strings.Builder
	for _, at := range inodes {
		fmt.Fprintf(&commands, "stat <%d>\n", at.inode)
	}
	if err := os.WriteFile(filepath.Join(e.dir, "commands"), []byte(commands.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	stats := map[uint32]string{}
	for _, text := range strings.Split(toolOutput(t, e.dir, "debugfs", "-f", "commands", image), "debugfs: stat ")[1:] {
		inode, err := strconv.ParseUint(statInode.FindStringSubmatch(text)[1], 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		stats[uint32(inode)] = text
	}
	got = map[string]string{}
	for p, at := range inodes {
		text := stats[at.inode]
		hex := statMtime.FindStringSubmatch(text)
		low, err1 := strconv.ParseUint(hex[1], 16, 32)
		extra, err2 := strconv.ParseUint(hex[2], 16, 32)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		mtime := time.Unix(int64(int32(low))+int64(extra&3)<<32, int64(extra>>2)) // ext4_decode_extra_time
		n := filetree.Node{Mode: at.mode, UID: at.uid, GID: at.gid, ModTime: mtime}
		if m := statDevice.FindStringSubmatch(text); m != nil {
			fmt.Sscan(m[1], &n.Major)
			fmt.Sscan(m[2], &n.Minor)
		}
		fmt.Sscan(statSize.FindStringSubmatch(text)[1], &n.SizeBytes)
		got[p] = describe(&n, time.Time{})
	}
	return inodes, got
}

func TestTheSameTreeGivesTheSameBytes(t *testing.T) {
	for _, fs := range []FS{Ext4, Erofs} {
		t.Run(string(fs), func(t *testing.T) {
			if fs == Erofs {
				needErofs(t)
			}
			var first []byte
			for i := range 2 {
				image := filepath.Join(t.TempDir(), "image")
				if err := FromTree(t.Context(), strange(t, fs), image, false, Options{FS: fs, SizeBytes: 24 << 20}); err != nil {
					t.Fatal(err)
				}
				b, err := os.ReadFile(image)
				if err != nil {
					t.Fatal(err)
				}
				if i > 0 && !bytes.Equal(b, first) {
					t.Errorf("%s differ", differences(first, b))
				}
				first = b
			}
		})
	}
}

func differences(a, b []byte) string {
	var s strings.Builder
	n := 0
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			if n++; n < 20 {
				fmt.Fprintf(&s, "%#x: %02x %02x, ", i, a[i], b[i])
			}
		}
	}
	return fmt.Sprintf("%s%d bytes", s.String(), n)
}

func TestExt4NamesWhatItRejects(t *testing.T) {
	for _, tt := range []struct {
		name string
		node filetree.Node
		want string
	}{
		{"a device's name", filetree.Node{Path: "dev/new\nline", Mode: unix.S_IFCHR, Major: 1}, `"dev/new\nline": cannot create a device node with this name`},
		{"an attribute's name", filetree.Node{Path: "f", Mode: unix.S_IFREG, Xattrs: map[string][]byte{"user.new\nline": nil}}, `"f": cannot set an extended attribute named "user.new\nline"`},
		{"a large attribute", filetree.Node{Path: "f", Mode: unix.S_IFREG, Xattrs: map[string][]byte{"user.l": make([]byte, 4096)}}, `"f": extended attributes need 4124 bytes`},
		{"an attribute with an unknown name space", filetree.Node{Path: "f", Mode: unix.S_IFREG, Xattrs: map[string][]byte{"strange.x": []byte("1")}}, `"f": cannot set an extended attribute named "strange.x"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tree, err := filetree.New(t.TempDir(), filetree.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if err := tree.Put(tt.node, nil); err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			err = FromTree(context.Background(), tree, filepath.Join(dir, "image"), false, Options{SizeBytes: 16 << 20})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			nothingIn(t, dir)
		})
	}
}

// nothingIn reports an error for every file in a folder except the named ones.
func nothingIn(t *testing.T, dir string, but ...string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		if !slices.Contains(but, e.Name()) {
			t.Errorf("%s was left in the folder", e.Name())
		}
	}
}

func TestParseListing(t *testing.T) {
	for _, tt := range []struct{ out, want string }{
		{"", ""},
		{"debugfs: ls -p <2>\n/2/040755/0/0/.//\n/2/040755/0/0/..//\n/12/100644/-2/70000/new\nline/1/\n\ndebugfs: ls -p <14>\n/14/040700/1/2/.//\n/12/100644/0/0/<2>/3/\n\n",
			`2 "." 2 40755 0:0, 2 ".." 2 40755 0:0, 2 "new\nline" 12 100644 4294967294:70000, 14 "." 14 40700 1:2, 14 "<2>" 12 100644 0:0, `},
		{"/2/040755/0/0/.//\n/0/000000/0/0/gone//\n", `2 "." 2 40755 0:0, `},
		{"/2/040755/0/0/.//\n/2/0407", "error"},
		{"/x/040755/0/0/.//\n", "error"},
	} {
		var got strings.Builder
		err := parseListing(tt.out, func(in uint32, name string, at entry) {
			fmt.Fprintf(&got, "%d %q %d %o %d:%d, ", in, name, at.inode, at.mode, at.uid, at.gid)
		})
		if err != nil {
			got.Reset()
			got.WriteString("error")
		}
		if got.String() != tt.want {
			t.Errorf("%q:\n got %s\nwant %s", tt.out, got.String(), tt.want)
		}
	}
}

func FuzzParseListing(f *testing.F) {
	f.Add("debugfs: ls -p <2>\n/2/040755/0/0/.//\n/12/100644/-2/70000/new\nline/1/\n\n")
	f.Add("/2/040755/0/0/.//")
	f.Fuzz(func(t *testing.T, out string) {
		n := 0
		if err := parseListing(out, func(uint32, string, entry) { n++ }); err == nil && n > strings.Count(out, "/") {
			t.Errorf("%d names in %q", n, out)
		}
	})
}
