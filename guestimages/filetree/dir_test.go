package filetree

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestAddDir(t *testing.T) {
	src := t.TempDir()
	at := func(p string) string { return filepath.Join(src, p) }
	must(t,
		os.Chmod(src, 0o751),
		os.MkdirAll(at("d/e"), 0o755),
		os.WriteFile(at("d/z"), []byte("content"), 0o640),
		unix.Chmod(at("d/z"), 0o4750),
		os.Link(at("d/z"), at("d/e/first")),
		os.Symlink("/etc", at("etc")),
		os.Symlink("nowhere", at("broken")),
		unix.Mkfifo(at("pipe"), 0o600),
	)
	sock, err := net.Listen("unix", at("sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer sock.Close()
	must(t, os.Chmod(at("sock"), 0o700), os.Chmod(at("d"), 0o755), os.Chmod(at("d/e"), 0o755))
	attr := ""
	switch err := unix.Lsetxattr(at("d/z"), "user.note", []byte("x\x00y"), 0); {
	case err == nil:
		attr = ` user.note="x\x00y"`
	case !errors.Is(err, unix.ENOTSUP):
		t.Fatal(err)
	}
	owner, other := fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid()), fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid())
	var device []string
	if os.Getuid() == 0 {
		other = "1000:1001"
		must(t, os.Lchown(at("broken"), 1000, 1001))
		if err := unix.Mknod(at("null"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err == nil {
			device = []string{"null 20600 " + owner + " 1,3"}
		}
	}
	tree := newTree(t, Limits{})
	must(t, tree.AddDir(context.Background(), src))
	want := append([]string{
		"broken 120777 " + other + " -> nowhere", "d 40755 " + owner, "d/e 40755 " + owner,
		"d/e/first 104750 " + owner + ` "content"` + attr, "d/z 104750 " + owner + " = d/e/first" + attr,
		"etc 120777 " + owner + " -> /etc",
	}, device...)
	wantTree(t, tree, append(want, "pipe 10600 "+owner, "sock 140700 "+owner)...)
	if n, _ := tree.Get(""); n.Mode != unix.S_IFDIR|0o751 {
		t.Errorf("the root's mode is %o, want 40751", n.Mode)
	}
	n, _ := tree.Get("d/z")
	if info, err := os.Stat(n.file); err != nil || !strings.HasPrefix(n.file, src) || !info.ModTime().Equal(n.ModTime) {
		t.Errorf("%s, %v, %v: not the file in the source folder", n.file, n.ModTime, err)
	}
	mine := newTree(t, Limits{})
	must(t, mine.AddDirAs(context.Background(), src, 5, 6))
	for n := range mine.All() {
		was, _ := tree.Get(n.Path)
		if n.UID != 5 || n.GID != 6 || n.Mode != was.Mode || n.Link != was.Link {
			t.Errorf("%s is %o of %d:%d, want %o of 5:6", n.Path, n.Mode, n.UID, n.GID, was.Mode)
		}
	}
	if tree.stored != 0 {
		t.Errorf("%d files were copied", tree.stored)
	}
}

func TestDirThroughALinkAndOverATree(t *testing.T) {
	src := t.TempDir()
	must(t, os.Mkdir(filepath.Join(src, "real"), 0o755), os.WriteFile(filepath.Join(src, "real", "f"), []byte("2"), 0o644), os.Symlink("real", filepath.Join(src, "link")))
	must(t, os.Chmod(filepath.Join(src, "real", "f"), 0o644))
	tree := newTree(t, Limits{})
	must(t, addTar(tree, tarOf(t, file("f", "1"), file("g", "1"))), tree.AddDir(context.Background(), filepath.Join(src, "link")))
	owner := fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid())
	wantTree(t, tree, "f 100644 "+owner+` "2"`, `g 100644 0:0 "1"`)
}

func TestDirErrorsNameThePath(t *testing.T) {
	src := t.TempDir()
	must(t, os.WriteFile(filepath.Join(src, "large"), make([]byte, 5000), 0o644))
	err := newTree(t, Limits{}).AddDir(context.Background(), filepath.Join(src, "none"))
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing folder: %v", err)
	}
	err = newTree(t, Limits{}).AddDir(context.Background(), filepath.Join(src, "large"))
	if err == nil || !strings.Contains(err.Error(), "large") {
		t.Errorf("a file as the folder: %v", err)
	}
	err = newTree(t, Limits{SizeBytes: 4000}).AddDir(context.Background(), src)
	if !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "large") {
		t.Errorf("a file beyond the limit: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := newTree(t, Limits{}).AddDir(ctx, src); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// The owner of a folder may replace its files at any time. No file outside the folder may be read
// because of that.
func TestAddDirWithReplacedFiles(t *testing.T) {
	secret := t.TempDir()
	must(t, os.WriteFile(filepath.Join(secret, "f"), []byte("secret"), 0o600), unix.Mkfifo(filepath.Join(secret, "pipe"), 0o600))
	src := t.TempDir()
	at := func(p string) string { return filepath.Join(src, p) }
	must(t, os.Mkdir(at("d"), 0o755), os.WriteFile(at("d/f"), []byte("mine"), 0o644), os.WriteFile(at("g"), []byte("mine"), 0o644), os.WriteFile(at("pipe"), nil, 0o644))
	tree := newTree(t, Limits{})
	must(t, tree.AddDir(t.Context(), src))
	must(t, os.Rename(at("d"), at("was")), os.Symlink(secret, at("d")), os.Remove(at("g")), os.Symlink(filepath.Join(secret, "f"), at("g")),
		os.Remove(at("pipe")), os.Symlink(filepath.Join(secret, "pipe"), at("pipe")))
	for _, p := range []string{"d/f", "g", "pipe"} {
		n, _ := tree.Get(p)
		if b, err := n.Content(); err == nil || !strings.Contains(err.Error(), "the file was replaced") {
			t.Errorf("%s is %q, %v", p, b, err)
		}
	}
}

func TestAddDirWhileFoldersBecomeLinks(t *testing.T) {
	secret := t.TempDir()
	must(t, os.Mkdir(filepath.Join(secret, "sub"), 0o755), os.WriteFile(filepath.Join(secret, "sub/secret"), []byte("secret"), 0o600))
	src := t.TempDir()
	at := func(p string) string { return filepath.Join(src, p) }
	must(t, os.MkdirAll(at("d/sub"), 0o755), os.Symlink(secret, at("link")))
	stop, done := make(chan bool), make(chan bool)
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				unix.Renameat2(unix.AT_FDCWD, at("d"), unix.AT_FDCWD, at("link"), unix.RENAME_EXCHANGE)
			}
		}
	}()
	for range 2000 {
		tree := newTree(t, Limits{})
		if tree.AddDir(t.Context(), src) != nil {
			continue
		}
		for n := range tree.All() {
			if strings.HasSuffix(n.Path, "secret") {
				t.Errorf("%s was read", n.Path)
			}
		}
		if t.Failed() {
			break
		}
	}
	close(stop)
	<-done
}
