package filetree

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

func TestAddTarKeepsMetadata(t *testing.T) {
	tree := newTree(t, Limits{})
	long := strings.Repeat("long/", 60) + "name"
	big := file("bin/su", "setuid")
	big.Mode, big.Uid, big.Gid = 0o4755, 100000, 1<<32-2
	big.PAXRecords["SCHILY.xattr.security.capability"] = "\x01\x00\xff"
	null := tar.Header{Typeflag: tar.TypeChar, Name: "dev/null", Mode: 0o666, Devmajor: 1, Devminor: 3}
	disk := tar.Header{Typeflag: tar.TypeBlock, Name: "dev/sda", Mode: 0o660, Gid: 6, Devmajor: 8}
	fifo := tar.Header{Typeflag: tar.TypeFifo, Name: "run/p", Mode: 0o600}
	root := folder("./")
	root.Mode = 0o711
	if err := addTar(tree, tarOf(t, root, big, folder("dev/"), null, disk, fifo,
		symlink("bin/sh", "../../outside"), link("bin/sudo", "./bin/su"), link("bin/dash", "bin/sh"), file(long, "deep"))); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"bin 40755 0:0", `bin/dash 120777 0:0 -> ../../outside`, `bin/sh 120777 0:0 -> ../../outside`,
		`bin/su 104755 100000:4294967294 "setuid" security.capability="\x01\x00\xff"`,
		`bin/sudo 104755 100000:4294967294 = bin/su security.capability="\x01\x00\xff"`,
		"dev 40750 3:4", "dev/null 20666 0:0 1,3", "dev/sda 60660 0:6 8,0",
	}
	for i := range 60 {
		want = append(want, strings.Repeat("long/", i)+"long 40755 0:0")
	}
	wantTree(t, tree, append(want, long+` 100644 0:0 "deep"`, "run 40755 0:0", "run/p 10600 0:0")...)
	if n, _ := tree.Get(""); n.Mode != 0o40711 || n.UID != 3 {
		t.Errorf("the root is %o of %d, want 40711 of 3", n.Mode, n.UID)
	}
}

// Names that leave the tree cause errors that name the entry. A leading slash means the tree's
// root, not the host's.
func TestUnsafeTars(t *testing.T) {
	for name, tt := range map[string]struct {
		headers []tar.Header
		below   []tar.Header // in the tree beforehand
		wrong   string       // text of the error; "": success
		want    []string
	}{
		"dot dot":                      {headers: []tar.Header{file("../x", "")}, wrong: `"../x": the path contains ".."`},
		"dot dot inside":               {headers: []tar.Header{file("a/../../x", "")}, wrong: `"a/../../x": the path contains ".."`},
		"dot dot at the end":           {headers: []tar.Header{folder("a/..")}, wrong: `the path contains ".."`},
		"dot dot that would stay":      {headers: []tar.Header{file("a/../x", "")}, wrong: `the path contains ".."`},
		"three dots are a name":        {headers: []tar.Header{file("...", "")}, want: []string{`... 100644 0:0 ""`}},
		"absolute":                     {headers: []tar.Header{file("/etc/x", "in")}, want: []string{"etc 40755 0:0", `etc/x 100644 0:0 "in"`}},
		"slashes":                      {headers: []tar.Header{file("//a///b", "in")}, want: []string{"a 40755 0:0", `a/b 100644 0:0 "in"`}},
		"dot":                          {headers: []tar.Header{folder(".")}},
		"dot slash":                    {headers: []tar.Header{folder("./")}},
		"dot as a file":                {headers: []tar.Header{file(".", "")}, wrong: "the root must be a folder, not a regular file"},
		"dot as a symbolic link":       {headers: []tar.Header{symlink("./", "/etc")}, wrong: "the root must be a folder, not a symbolic link"},
		"dot as a hard link":           {headers: []tar.Header{file("a", ""), link("./.", "a")}, wrong: "the root must be a folder"},
		"below a symbolic link":        {headers: []tar.Header{symlink("a", "/etc"), file("a/passwd", "")}, wrong: `"a/passwd": its path leads through "a", which is a symbolic link`},
		"deep below one":               {headers: []tar.Header{symlink("a/b", "."), file("a/b/c/d", "")}, wrong: `"a/b/c/d": its path leads through "a/b", which is a symbolic link`},
		"folder below one":             {headers: []tar.Header{symlink("a", "b"), folder("a/b")}, wrong: "its path leads through"},
		"hard link below one":          {headers: []tar.Header{file("f", ""), symlink("a", "b"), link("a/b", "f")}, wrong: "its path leads through"},
		"a link over a folder":         {headers: []tar.Header{file("a/b", ""), symlink("a", "/etc")}, wrong: `"a": cannot replace a folder that contains other entries with a symbolic link`},
		"below an earlier link":        {below: []tar.Header{symlink("a", "/etc")}, headers: []tar.Header{file("a/b/c", "")}, wrong: `"a/b/c": its path leads through "a", which is a symbolic link`},
		"a folder over such a link":    {below: []tar.Header{symlink("a", "/etc")}, headers: []tar.Header{folder("a"), file("a/b", "")}, want: []string{"a 40750 3:4", `a/b 100644 0:0 ""`}},
		"below a file":                 {headers: []tar.Header{file("a", ""), file("a/b", "")}, wrong: "which is a regular file"},
		"below a device":               {headers: []tar.Header{{Typeflag: tar.TypeChar, Name: "a"}, file("a/b", "")}, wrong: "which is a device"},
		"hard link to outside":         {headers: []tar.Header{link("a", "../../etc/passwd")}, wrong: `hard link to "../../etc/passwd": the path contains ".."`},
		"hard link to the host's":      {headers: []tar.Header{link("a", "/etc/passwd")}, wrong: `hard link to "etc/passwd": no earlier entry has this name`},
		"hard link through a link":     {headers: []tar.Header{symlink("e", "/etc"), link("a", "e/passwd")}, wrong: "no earlier entry"},
		"hard link to a link":          {headers: []tar.Header{symlink("e", "/etc/passwd"), link("a", "e")}, want: []string{"a 120777 0:0 -> /etc/passwd", "e 120777 0:0 -> /etc/passwd"}},
		"hard link to a folder":        {headers: []tar.Header{folder("e"), link("a", "e")}, wrong: `hard link to "e": the target is a folder`},
		"hard link to the root":        {headers: []tar.Header{link("a", "/")}, wrong: "the target is a folder"},
		"hard link to itself":          {headers: []tar.Header{link("a", "a")}, wrong: "no earlier entry"},
		"hard link to a later one":     {headers: []tar.Header{link("a", "b"), file("b", "")}, wrong: "no earlier entry"},
		"hard link to an earlier file": {below: []tar.Header{file("b", "old")}, headers: []tar.Header{link("a", "b")}, want: []string{`a 100644 0:0 "old"`, "b 100644 0:0 = a"}},
		"a device":                     {headers: []tar.Header{{Typeflag: tar.TypeBlock, Name: "sda", Mode: 0o660, Devmajor: 8}}, want: []string{"sda 60660 0:0 8,0"}},
		"a large device number":        {headers: []tar.Header{{Typeflag: tar.TypeBlock, Name: "sda", Devmajor: 5000}}, wrong: "device number 5000:0"},
		"twice":                        {headers: []tar.Header{file("a", "1"), file("b", ""), file("a", "2")}, want: []string{`a 100644 0:0 "2"`, `b 100644 0:0 ""`}},
		"a file then a link":           {headers: []tar.Header{file("a", "1"), symlink("a", "b")}, want: []string{"a 120777 0:0 -> b"}},
		"a folder twice":               {headers: []tar.Header{folder("a"), file("a/b", ""), folder("a")}, want: []string{"a 40750 3:4", `a/b 100644 0:0 ""`}},
		"a whiteout is a plain file":   {headers: []tar.Header{file(".wh.a", "")}, want: []string{`.wh.a 100644 0:0 ""`}},
		"an unknown type":              {headers: []tar.Header{{Typeflag: 'V', Name: "label"}}, wrong: `"label": unknown type 'V'`},
		"a symbolic link to no path":   {headers: []tar.Header{symlink("a", "")}, wrong: "invalid symbolic link target of 0 bytes"},
		"a long name":                  {headers: []tar.Header{file(strings.Repeat("n", 256), "")}, wrong: "a name of 256 bytes"},
		"a long path":                  {headers: []tar.Header{file(strings.Repeat("n/", 2048)+"n", "")}, wrong: "the path has 4097 bytes"},
		"a long attribute name":        {headers: []tar.Header{{Typeflag: tar.TypeReg, Name: "a", PAXRecords: map[string]string{"SCHILY.xattr." + strings.Repeat("n", 256): "v"}}}, wrong: "extended attribute"},
		"a long attribute":             {headers: []tar.Header{{Typeflag: tar.TypeReg, Name: "a", PAXRecords: map[string]string{"SCHILY.xattr.user.a": strings.Repeat("v", 65537)}}}, wrong: "65537 bytes, want at most 65536"},
	} {
		t.Run(name, func(t *testing.T) {
			tree := newTree(t, Limits{})
			if tt.below != nil {
				if err := addTar(tree, tarOf(t, tt.below...)); err != nil {
					t.Fatal(err)
				}
			}
			err := addTar(tree, tarOf(t, tt.headers...))
			if tt.wrong == "" {
				if err != nil {
					t.Fatal(err)
				}
				wantTree(t, tree, tt.want...)
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.wrong) {
				t.Errorf("got %v, want it to contain %q", err, tt.wrong)
			}
		})
	}
}

// archive/tar refuses to write a NUL, so the test builds the record itself.
func TestNULInANameIsRefused(t *testing.T) {
	record := "11 path=a\x00b\n"
	b := tarOf(t, file("PaxHeaders", record), file("x", ""))
	b[156] = tar.TypeXHeader
	sum(b[:512])
	if err := addTar(newTree(t, Limits{}), b); err == nil {
		t.Error("a name with a NUL was accepted")
	}
}

// sum writes a header's checksum.
func sum(header []byte) {
	copy(header[148:156], "        ")
	var n int
	for _, c := range header[:512] {
		n += int(c)
	}
	copy(header[148:156], fmt.Sprintf("%06o\x00 ", n))
}

func TestTruncatedAndCorruptTars(t *testing.T) {
	whole := tarOf(t, file("a", strings.Repeat("a", 700)), file("b", "b"))
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	z.Write(whole)
	z.Close()
	corrupt := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[at] ^= 0x55
		return b
	}
	for name, b := range map[string][]byte{
		"nothing":                     nil,
		"half a header":               whole[:300],
		"a header without content":    whole[:512],
		"half of the content":         whole[:1000],
		"cut between two entries":     whole[:512+1024],
		"no end marker":               whole[:len(whole)-1024],
		"half an end marker":          whole[:len(whole)-512],
		"a header with a wrong sum":   corrupt(whole, 3),
		"a second header of nonsense": corrupt(whole, 1536+100),
		"text":                        []byte(strings.Repeat("not a tar, surely\n", 100)),
		"gzip cut":                    zipped.Bytes()[:zipped.Len()-20],
		"gzip without its checksum":   zipped.Bytes()[:zipped.Len()-8],
		"gzip with a wrong checksum":  corrupt(zipped.Bytes(), zipped.Len()-8),
		"gzip of nothing":             {0x1f, 0x8b},
		"gzip's magic and no more":    {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3},
		"zstd's magic and no more":    {0x28, 0xb5, 0x2f, 0xfd},
		"xz's magic and no more":      []byte("\xfd7zXZ\x00"),
		"bzip2's magic and no more":   []byte("BZh9"),
	} {
		for how, add := range map[string]func(*Tree, []byte) error{"tar": addTar, "layer": addLayer} {
			tree := newTree(t, Limits{})
			if err := add(tree, b); err == nil {
				t.Errorf("%s was accepted as a %s", name, how)
			}
			if n := tree.files; n > 4 {
				t.Errorf("%s: %d nodes remain counted", name, n)
			}
		}
	}
	if err := addTar(newTree(t, Limits{}), whole); err != nil {
		t.Errorf("the whole tar: %v", err)
	}
}

func TestCompressionIsDetected(t *testing.T) {
	plain := tarOf(t, file("a", strings.Repeat("packed ", 1000)))
	packed := map[string][]byte{"plain": plain}
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	packed["zstd"] = z.EncodeAll(plain, nil)
	skip := append(binary.LittleEndian.AppendUint32([]byte{0x50, 0x2a, 0x4d, 0x18}, 4), "skip"...)
	packed["zstd after a frame to skip"] = append(skip, packed["zstd"]...)
	var b bytes.Buffer
	g := gzip.NewWriter(&b)
	g.Write(plain[:700])
	g.Close()
	g.Reset(&b)
	g.Write(plain[700:])
	g.Close()
	packed["gzip in two members"] = b.Bytes()
	for _, program := range []string{"xz", "bzip2"} {
		cmd := exec.Command(program, "-c")
		cmd.Stdin = bytes.NewReader(plain)
		out, err := cmd.Output()
		if errors.Is(err, exec.ErrNotFound) {
			t.Logf("%s is not installed", program)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		packed[program] = out
	}
	for name, b := range packed {
		tree := newTree(t, Limits{})
		if err := addTar(tree, b); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if n, ok := tree.Get("a"); !ok || n.SizeBytes != 7000 {
			t.Errorf("%s: the file is %+v", name, n)
		}
	}
}

func TestAddTarCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := newTree(t, Limits{}).AddTar(ctx, bytes.NewReader(tarOf(t, file("a", "")))); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestLayers(t *testing.T) {
	below := []tar.Header{folder("d"), file("d/a", "1"), file("d/b", "1"), folder("d/s"), file("d/s/x", "1"), file("f", "1"), symlink("l", "d"), link("h", "d/a")}
	rest := []string{`f 100644 0:0 "1"`, `h 100644 0:0 = d/a`, "l 120777 0:0 -> d"}
	all := append([]string{"d 40750 3:4", `d/a 100644 0:0 "1"`, `d/b 100644 0:0 "1"`, "d/s 40750 3:4", `d/s/x 100644 0:0 "1"`}, rest...)
	for name, tt := range map[string]struct {
		headers []tar.Header
		want    []string
		wrong   string
	}{
		"a file":                        {headers: []tar.Header{file("d/.wh.b", "")}, want: append([]string{all[0], all[1], all[3], all[4]}, rest...)},
		"the content's own name":        {headers: []tar.Header{file("d/.wh.a", "")}, want: append([]string{all[0], all[2], all[3], all[4]}, rest[0], `h 100644 0:0 "1"`, rest[2])},
		"a folder":                      {headers: []tar.Header{file(".wh.d", "")}, want: []string{rest[0], `h 100644 0:0 "1"`, rest[2]}},
		"a link, not what it points to": {headers: []tar.Header{file(".wh.l", "")}, want: append(all[:5:5], rest[:2]...)},
		"through a link":                {headers: []tar.Header{file("l/.wh.a", "")}, want: append([]string{all[0], all[2], all[3], all[4]}, rest[0], `h 100644 0:0 "1"`, rest[2])},
		"missing files":                 {headers: []tar.Header{file("d/.wh.none", ""), file("none/.wh.x", ""), file("f/.wh.x", "")}, want: all},
		"not of the same layer":         {headers: []tar.Header{file("f", "2"), file(".wh.f", "")}, want: append(all[:5:5], `f 100644 0:0 "2"`, rest[1], rest[2])},
		"nor in the other order":        {headers: []tar.Header{file(".wh.f", ""), file("f", "2")}, want: append(all[:5:5], `f 100644 0:0 "2"`, rest[1], rest[2])},
		"a folder, and again":           {headers: []tar.Header{file("d/n", "2"), file(".wh.d", ""), folder("d")}, want: append([]string{"d 40750 3:4", `d/n 100644 0:0 "2"`}, rest[0], `h 100644 0:0 "1"`, rest[2])},
		"a folder without an entry":     {headers: []tar.Header{file("d/n", "2"), file(".wh.d", "")}, want: append([]string{"d 40755 0:0", `d/n 100644 0:0 "2"`}, rest[0], `h 100644 0:0 "1"`, rest[2])},
		"opaque":                        {headers: []tar.Header{file("d/.wh..wh..opq", ""), file("d/n", "2")}, want: append([]string{all[0], `d/n 100644 0:0 "2"`}, rest[0], `h 100644 0:0 "1"`, rest[2])},
		"opaque after its siblings":     {headers: []tar.Header{file("d/n", "2"), file("d/s/y", "2"), file("d/.wh..wh..opq", "")}, want: append([]string{all[0], `d/n 100644 0:0 "2"`, "d/s 40755 0:0", `d/s/y 100644 0:0 "2"`}, rest[0], `h 100644 0:0 "1"`, rest[2])},
		"opaque root":                   {headers: []tar.Header{file(".wh..wh..opq", ""), file("n", "2")}, want: []string{`n 100644 0:0 "2"`}},
		"opaque of a link":              {headers: []tar.Header{file("l/.wh..wh..opq", "")}, want: append([]string{all[0]}, rest[0], `h 100644 0:0 "1"`, rest[2])},
		"opaque of a folder over one":   {headers: []tar.Header{folder("l"), file("l/.wh..wh..opq", ""), file("l/.wh.a", "")}, want: append(all[:7:7], "l 40750 3:4")},
		"a file over a folder":          {headers: []tar.Header{file("d", "2")}, want: []string{`d 100644 0:0 "2"`, rest[0], `h 100644 0:0 "1"`, rest[2]}},
		"a folder over a file":          {headers: []tar.Header{folder("f"), file("f/x", "2")}, want: append(all[:5:5], "f 40750 3:4", `f/x 100644 0:0 "2"`, rest[1], rest[2])},
		"a folder over a link":          {headers: []tar.Header{folder("l")}, want: append(all[:7:7], "l 40750 3:4")},
		"a link over a folder":          {headers: []tar.Header{symlink("d", "/etc")}, want: []string{"d 120777 0:0 -> /etc", rest[0], `h 100644 0:0 "1"`, rest[2]}},
		"a folder keeps its children":   {headers: []tar.Header{{Typeflag: tar.TypeDir, Name: "d", Mode: 0o700}}, want: append([]string{"d 40700 0:0"}, all[1:]...)},
		"a parent keeps its metadata":   {headers: []tar.Header{file("d/b", "2")}, want: append([]string{all[0], all[1], `d/b 100644 0:0 "2"`, all[3], all[4]}, rest...)},
		"a new content, the link keeps": {headers: []tar.Header{file("d/a", "2")}, want: append([]string{all[0], `d/a 100644 0:0 "2"`}, append(all[2:6:6], `h 100644 0:0 "1"`, rest[2])...)},
		"a link to what it hides":       {headers: []tar.Header{file(".wh.f", ""), link("g", "f")}, want: append(all[:5:5], `g 100644 0:0 "1"`, rest[1], rest[2])},
		"AUFS's internal files":         {headers: []tar.Header{folder(".wh..wh.plnk"), file(".wh..wh.plnk/1.2", "x"), file(".wh..wh.aufs", "")}, want: all},
		"below an earlier file":         {headers: []tar.Header{file("f/x", "")}, wrong: `"f/x": its path leads through "f", which is a regular file`},
		"below a hidden link":           {headers: []tar.Header{file("l/x", "2"), file(".wh.l", "")}, want: append(all[:7:7], "l 40755 0:0", `l/x 100644 0:0 "2"`)},
		"no name":                       {headers: []tar.Header{file("d/.wh.", "")}, wrong: `"d/.wh.": the whiteout has no valid name`},
		"the folder itself":             {headers: []tar.Header{file("d/.wh..", "")}, wrong: "the whiteout has no valid name"},
		"the folder's folder":           {headers: []tar.Header{file("d/.wh...", "")}, wrong: "the whiteout has no valid name"},
		"dot dot":                       {headers: []tar.Header{file("../.wh.d", "")}, wrong: `the path contains ".."`},
		"below a whiteout":              {headers: []tar.Header{file(".wh.d/x", "")}, wrong: `its path leads through the whiteout ".wh.d"`},
	} {
		t.Run(name, func(t *testing.T) {
			tree := newTree(t, Limits{})
			if err := addLayer(tree, tarOf(t, below...)); err != nil {
				t.Fatal(err)
			}
			err := addLayer(tree, tarOf(t, tt.headers...))
			if tt.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wrong) {
					t.Errorf("got %v, want it to contain %q", err, tt.wrong)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			wantTree(t, tree, tt.want...)
		})
	}
}

// FuzzAddLayer adds two layers of arbitrary bytes. The tree must keep its invariants and limits,
// and write nothing except numbered files in its folder.
func FuzzAddLayer(f *testing.F) {
	f.Add(tarOf(f, folder("d"), file("d/a", "1"), symlink("l", "/etc"), link("h", "d/a")), tarOf(f, file("d/.wh.a", ""), file(".wh..wh..opq", ""), file("l", "")))
	f.Add(tarOf(f, folder("usr"), symlink("lib", "/usr"), symlink("l", "lib/x")), tarOf(f, file("lib/a", ""), symlink("lib/b", "../lib"), file("lib/b/c", ""), file("l/x", "")))
	f.Add(tarOf(f, file("../x", "")), tarOf(f, file("a/b", ""), symlink("a", "..")))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		outside := t.TempDir()
		dir := outside + "/in/contents"
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		limits := Limits{Files: 64, SizeBytes: 1 << 16}
		tree, err := New(dir, limits)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range [][]byte{first, second} {
			if err := addLayer(tree, b); err != nil {
				break
			}
			checkInvariants(t, tree)
			if tree.files > limits.Files || tree.size > limits.SizeBytes {
				t.Errorf("%d nodes and %d bytes exceed %+v", tree.files, tree.size, limits)
			}
		}
		for at, want := range map[string]int{outside: 1, outside + "/in": 1, dir: tree.stored} {
			entries, err := os.ReadDir(at)
			if err != nil || len(entries) > want {
				t.Errorf("%s has %d entries, want at most %d: %v", at, len(entries), want, err)
			}
			for _, e := range entries {
				if at == dir && (!e.Type().IsRegular() || strings.Trim(e.Name(), "0123456789") != "") {
					t.Errorf("%s is in the folder for contents", e.Name())
				}
			}
		}
		for n := range tree.All() {
			if n.Mode&unix.S_IFMT == unix.S_IFREG && !strings.HasPrefix(n.file, dir+"/") {
				t.Errorf("the content of %q is in %s", n.Path, n.file)
			}
		}
	})
}
