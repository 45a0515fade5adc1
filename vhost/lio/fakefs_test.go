package lio

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fakeFS is a configfs of plain files. Objects come with their attributes and default folders and
// remove them again, and the kernel's rules about the order of operations are enforced.
type fakeFS struct {
	root    string
	old     bool            // kernel without submit_type
	made    map[string]bool // objects created by the caller, not by the kernel
	busy    bool            // a vhost device has the endpoint
	log     []string        // writes and links, relative to root
	left    int             // operations until one fails; 0: none fails
	crashed bool            // all operations fail
}

var errInjected = errors.New("injected")

func newFake(t *testing.T) (*fakeFS, tree) {
	t.Helper()
	root := filepath.Join(t.TempDir(), "target")
	if err := os.MkdirAll(filepath.Join(root, "core"), 0o755); err != nil {
		t.Fatal(err)
	}
	f := &fakeFS{root: root, made: make(map[string]bool)}
	return f, tree{root: root, fs: f}
}

func (f *fakeFS) step() error {
	if f.crashed {
		return errInjected
	}
	if f.left > 0 {
		if f.left--; f.left == 0 {
			return errInjected
		}
	}
	return nil
}

// objects are the folders and files that come with an object. The pattern is matched against the
// path below the root.
var objects = []struct {
	pattern  string
	children string
}{
	{"vhost", ""},
	{"vhost/naa.*", "param/"},
	{"vhost/naa.*/tpgt_*", "nexus acls/ lun/ attrib/"},
	{"vhost/naa.*/tpgt_*/lun/lun_*", "statistics/"},
	{"vhost/naa.*/tpgt_*/acls/naa.*", "attrib/"},
	{"vhost/naa.*/tpgt_*/acls/naa.*/lun_*", "write_protect statistics/"},
	{"core/fileio_*", "hba_info"},
	{"core/iblock_*", "hba_info"},
	{"core/*_*/*", "control enable udev_path attrib/emulate_3pc attrib/emulate_caw attrib/emulate_pr attrib/is_nonrot " +
		"attrib/submit_type attrib/block_size attrib/emulate_tpu wwn/vpd_unit_serial wwn/product_id"},
}

func (f *fakeFS) rel(path string) string {
	rel, err := filepath.Rel(f.root, path)
	if err != nil {
		panic(err)
	}
	return rel
}

func (f *fakeFS) mkdir(path string) error {
	if err := f.step(); err != nil {
		return err
	}
	rel := f.rel(path)
	for _, o := range objects {
		if ok, _ := filepath.Match(o.pattern, rel); !ok {
			continue
		}
		if err := os.Mkdir(path, 0o755); err != nil {
			return err
		}
		f.made[rel] = true
		for _, name := range strings.Fields(o.children) {
			if f.old && name == "attrib/submit_type" {
				continue
			}
			child := filepath.Join(path, name)
			if strings.HasSuffix(name, "/") {
				os.Mkdir(child, 0o755)
				continue
			}
			os.MkdirAll(filepath.Dir(child), 0o755)
			os.WriteFile(child, nil, 0o644)
		}
		return nil
	}
	return &os.PathError{Op: "mkdir", Path: path, Err: unix.EINVAL}
}

func (f *fakeFS) content(path string) string {
	b, _ := os.ReadFile(path)
	return string(b)
}

func (f *fakeFS) write(path, value string) error {
	if err := f.step(); err != nil {
		return err
	}
	fail := func(err error) error { return &os.PathError{Op: "write", Path: path, Err: err} }
	if _, err := os.Stat(path); err != nil {
		return err
	}
	dir, name := filepath.Split(path)
	rel := f.rel(path)
	switch {
	case name == "nexus":
		have := f.content(path)
		if value != "NULL" && have != "" {
			return fail(unix.EEXIST)
		}
		if value == "NULL" {
			if have == "" {
				return fail(unix.ENODEV)
			}
			if f.busy || f.linkedBelow(filepath.Join(dir, "lun")) {
				return fail(unix.EBUSY)
			}
			value = ""
		}
	case name == "enable" && f.content(filepath.Join(dir, "control")) == "":
		return fail(unix.EINVAL)
	case strings.HasPrefix(rel, "core/") && strings.Contains(rel, "/wwn/") && f.linked(filepath.Dir(filepath.Clean(dir))):
		return fail(unix.EINVAL)
	case strings.HasPrefix(rel, "core/") && strings.Contains(rel, "/attrib/") && f.content(filepath.Join(dir, "../enable")) == "":
		return fail(unix.ENODEV) // enable would overwrite it
	}
	f.log = append(f.log, rel+" <- "+value)
	return os.WriteFile(path, []byte(value), 0o644)
}

// linkedBelow reports whether a folder contains a link at any depth.
func (f *fakeFS) linkedBelow(dir string) (found bool) {
	filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		found = found || err == nil && d.Type()&os.ModeSymlink != 0
		return nil
	})
	return found
}

// linked reports whether a link to an object exists.
func (f *fakeFS) linked(object string) (found bool) {
	filepath.WalkDir(f.root, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type()&os.ModeSymlink != 0 {
			to, _ := os.Readlink(path)
			found = found || to == object
		}
		return nil
	})
	return found
}

func (f *fakeFS) link(object, path string) error {
	if err := f.step(); err != nil {
		return err
	}
	if strings.HasPrefix(f.rel(object), "core/") && f.content(filepath.Join(object, "enable")) != "1" {
		return &os.LinkError{Op: "symlink", Old: object, New: path, Err: unix.ENODEV}
	}
	f.log = append(f.log, f.rel(path)+" -> "+f.rel(object))
	return os.Symlink(object, path)
}

func (f *fakeFS) remove(path string) error {
	if err := f.step(); err != nil {
		return err
	}
	fail := func(err error) error { return &os.PathError{Op: "remove", Path: path, Err: err} }
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if st.Mode()&os.ModeSymlink != 0 {
		return os.Remove(path)
	}
	rel := f.rel(path)
	if !f.made[rel] {
		return fail(unix.EPERM)
	}
	if strings.HasPrefix(filepath.Base(path), "tpgt_") && f.busy {
		return fail(unix.EBUSY)
	}
	for made := range f.made {
		if strings.HasPrefix(made, rel+"/") {
			return fail(unix.ENOTEMPTY)
		}
	}
	switch {
	case f.linkedBelow(path):
		return fail(unix.ENOTEMPTY)
	case f.linked(path):
		return fail(unix.EBUSY)
	case strings.HasSuffix(filepath.Dir(path), "/acls") && f.content(filepath.Join(path, "../../nexus")) != "":
		return fail(unix.EBUSY)
	}
	delete(f.made, rel)
	return os.RemoveAll(path)
}

// objectsLeft returns the created objects that still exist, except the fabric's own folder.
func (f *fakeFS) objectsLeft() []string {
	var names []string
	for name := range f.made {
		if name != "vhost" {
			names = append(names, name)
		}
	}
	return names
}
