package testbed

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// rule states which folders the packages below some folders may import from.
type rule struct{ below, may []string }

// arrows are the rules for imports within this module: a package below the folders in the first
// list may import packages below the folders in the second. The first rule that matches applies.
// Tests, and packages for tests (named *test), may import more.
var arrows = []rule{
	{[]string{"internal/testbed", "cmd"}, []string{"cmd", "guestimages", "vmm", "devices", "vhost", "kvm", "internal"}},
	{[]string{"internal", "kvm", "vhost"}, []string{"vhost", "internal"}},
	{[]string{"devices"}, []string{"devices", "vhost", "internal"}},
	{[]string{"vmm"}, []string{"vmm", "devices", "vhost", "kvm", "internal"}},
	{[]string{"guestimages"}, []string{"guestimages", "vmm/boot", "kvm", "internal"}},
}

// testbed is the folder that the product must not import from.
const testbed = "internal/testbed"

// TestArrows checks that packages import only what arrows allows, and unsafe only in files named
// *_unsafe.go.
func TestArrows(t *testing.T) {
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() && rel != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "build") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		pkg := filepath.Dir(rel)
		if strings.HasSuffix(pkg, "test") {
			return nil
		}
		i := slices.IndexFunc(arrows, func(r rule) bool { return isBelow(pkg, r.below...) })
		if i < 0 {
			t.Fatalf("%s: no rule in arrows matches package %s", rel, pkg)
		}
		for _, spec := range file.Imports {
			imported := strings.Trim(spec.Path.Value, `"`)
			if imported == "unsafe" && !strings.HasSuffix(path, "_unsafe.go") {
				t.Errorf("%s: unsafe belongs in a file named *_unsafe.go", rel)
			}
			to, ours := strings.CutPrefix(imported, "minivmm/")
			if ours && (!isBelow(to, arrows[i].may...) || isBelow(to, testbed) && !isBelow(pkg, testbed)) {
				t.Errorf("%s: %s must not import %s", rel, pkg, to)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// isBelow reports whether pkg is one of folders or lies below one.
func isBelow(pkg string, folders ...string) bool {
	return slices.ContainsFunc(folders, func(folder string) bool {
		return pkg == folder || strings.HasPrefix(pkg, folder+"/")
	})
}
