package filetree

import (
	"archive/tar"
	"slices"
	"strings"
	"testing"
)

// Entries below a symbolic link go to its target inside the root. lib points to usr/lib, as in a
// Debian.
func TestLayersBelowLinks(t *testing.T) {
	below := []tar.Header{folder("usr"), folder("usr/lib"), file("usr/lib/a", "1"), symlink("lib", "usr/lib"), symlink("abs", "/usr"), symlink("up", "../../../usr"),
		symlink("chain", "abs/lib"), symlink("loop", "loop"), symlink("gone", "opt/new"), symlink("file", "usr/lib/a"), symlink("long", strings.Repeat("n", 300))}
	deep := strings.Repeat("d/", 2044)
	for name, tt := range map[string]struct {
		headers []tar.Header
		want    []string // in addition to the earlier nodes
		wrong   string
	}{
		"a file":                   {headers: []tar.Header{file("lib/n/x", "2")}, want: []string{"usr/lib/n 40755 0:0", `usr/lib/n/x 100644 0:0 "2"`}},
		"a folder":                 {headers: []tar.Header{folder("lib/n"), file("lib/n/x", "2")}, want: []string{"usr/lib/n 40750 3:4", `usr/lib/n/x 100644 0:0 "2"`}},
		"an absolute link":         {headers: []tar.Header{file("abs/x", "2")}, want: []string{`usr/x 100644 0:0 "2"`}},
		"a link out of the root":   {headers: []tar.Header{file("up/x", "2")}, want: []string{`usr/x 100644 0:0 "2"`}},
		"a chain":                  {headers: []tar.Header{file("chain/x", "2")}, want: []string{`usr/lib/x 100644 0:0 "2"`}},
		"links below links":        {headers: []tar.Header{symlink("lib/l", "n"), file("lib/l/x", "2")}, want: []string{"usr/lib/l 120777 0:0 -> n", "usr/lib/n 40755 0:0", `usr/lib/n/x 100644 0:0 "2"`}},
		"a dangling link":          {headers: []tar.Header{file("gone/x", "2")}, want: []string{"opt 40755 0:0", "opt/new 40755 0:0", `opt/new/x 100644 0:0 "2"`}},
		"a link of the same layer": {headers: []tar.Header{symlink("z", "a/b"), file("z/x", "2"), folder("a"), symlink("a/b", "../lib")}, want: []string{"a 40750 3:4", "a/b 120777 0:0 -> ../lib", `usr/lib/x 100644 0:0 "2"`, "z 120777 0:0 -> a/b"}},
		"a hard link to below":     {headers: []tar.Header{link("b", "lib/a")}, want: []string{`b 100644 0:0 "1"`, `usr/lib/a 100644 0:0 = b`}},
		"a hard link in the layer": {headers: []tar.Header{file("usr/lib/x", "2"), link("b", "lib/x"), link("lib/c", "lib/x")}, want: []string{`b 100644 0:0 "2"`, `usr/lib/c 100644 0:0 = b`, `usr/lib/x 100644 0:0 = b`}},
		"a loop":                   {headers: []tar.Header{file("loop/x", "")}, wrong: `"loop/x": below the symbolic link "loop": too many levels of symbolic links`},
		"a loop of the same layer": {headers: []tar.Header{symlink("p", "q"), symlink("q", "p"), file("p/x", "")}, wrong: "too many levels of symbolic links"},
		"a link to a file":         {headers: []tar.Header{file("file/x", "")}, wrong: `"file/x": below the symbolic link "file": its path leads through "usr/lib/a", which is a regular file`},
		"a link to a long name":    {headers: []tar.Header{file("long/x", "")}, wrong: "too long"},
		"a path that becomes long": {headers: []tar.Header{file("lib/"+deep+"x", "")}, wrong: "more than 4095 bytes"},
		"then it is replaced":      {headers: []tar.Header{symlink("z", "usr"), file("z/x", ""), file("z", "")}, wrong: `"z": cannot replace a folder that contains other entries with a regular file`},
	} {
		t.Run(name, func(t *testing.T) {
			tree := newTree(t, Limits{})
			if err := addLayer(tree, tarOf(t, below...)); err != nil {
				t.Fatal(err)
			}
			want := show(t, tree)
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
			for _, line := range tt.want { // a hard link's first name may have changed
				path, _, _ := strings.Cut(line, " ")
				want = slices.DeleteFunc(want, func(s string) bool { return strings.HasPrefix(s, path+" ") })
			}
			want = append(want, tt.want...)
			slices.Sort(want)
			got := show(t, tree)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
			}
			checkInvariants(t, tree)
		})
	}
}

func TestFolderFollowsLinks(t *testing.T) {
	tree := newTree(t, Limits{})
	must(t, addLayer(tree, tarOf(t, folder("usr"), symlink("var", "usr"), file("data", ""))),
		tree.Folder("/var/lib/x"), tree.Folder("v1"), tree.Folder("v1"), tree.Folder("data"), tree.Folder("data/x"))
	if err := tree.Folder(strings.Repeat("n", 256)); err == nil {
		t.Error("a folder with a name of 256 bytes was created")
	}
	wantTree(t, tree, `data 100644 0:0 ""`, "usr 40750 3:4", "usr/lib 40755 0:0", "usr/lib/x 40755 0:0", "v1 40755 0:0", "var 120777 0:0 -> usr")
}
