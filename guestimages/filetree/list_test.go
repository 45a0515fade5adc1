package filetree

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestList(t *testing.T) {
	base := t.TempDir()
	must(t, os.Mkdir(filepath.Join(base, "sub"), 0o755), os.WriteFile(filepath.Join(base, "sub", "prog"), []byte("elf"), 0o600))
	tree := newTree(t, Limits{})
	list := "# the kernel's own example\n\n" +
		"dir /dev 0755 0 0\n" +
		"nod /dev/console 0600 0 5 c 5 1\n" +
		"nod dev/loop0\t0660 0 6 b 7 0\r\n" +
		"  slink /bin/sh busybox 0777 1 2\n" +
		"file /bin/busybox sub/prog 4755 100000 0 /bin/ash /sbin/init\n" +
		"file /abs " + filepath.Join(base, "sub/prog") + " 644 0 0\n" +
		"pipe /run/p 0600 1 1\nsock /run/s 0700 0 0"
	must(t, tree.AddList(context.Background(), strings.NewReader(list), base))
	wantTree(t, tree,
		`abs 100644 0:0 "elf"`,
		"bin 40755 0:0", `bin/ash 104755 100000:0 "elf"`, "bin/busybox 104755 100000:0 = bin/ash", "bin/sh 120777 1:2 -> busybox",
		"dev 40755 0:0", "dev/console 20600 0:5 5,1", "dev/loop0 60660 0:6 7,0",
		"run 40755 0:0", "run/p 10600 1:1", "run/s 140700 0:0",
		"sbin 40755 0:0", "sbin/init 104755 100000:0 = bin/ash")
	if n, _ := tree.Get("abs"); n.file != filepath.Join(base, "sub/prog") || n.ModTime.IsZero() {
		t.Errorf("%s, modified %v: not the host's file itself", n.file, n.ModTime)
	}
}

func TestListErrorsNameFileAndLine(t *testing.T) {
	base := t.TempDir()
	must(t, os.WriteFile(filepath.Join(base, "f"), nil, 0o644))
	for line, wrong := range map[string]string{
		"device /a 0755 0 0":         `unknown entry type "device"`,
		"dir /a 0755 0":              "dir: got 3 arguments, want NAME MODE UID GID",
		"dir /a 0755 0 0 0":          "dir: got 5 arguments",
		"dir /a 0855 0 0":            `mode "0855": want octal digits`,
		"dir /a 040755 0 0":          `mode "040755"`,
		"dir /a 0755 -1 0":           `"-1": want a 32-bit decimal number`,
		"dir /a 0755 0 4294967296":   "want a 32-bit decimal number",
		"dir /../a 0755 0 0":         `the path contains ".."`,
		"nod /a 0600 0 0 x 5 1":      `device type "x": want b or c`,
		"nod /a 0600 0 0 c 5 x":      `"x": want a 32-bit decimal number`,
		"nod /a 0600 0 0 c 5000 1":   "device number 5000:1",
		"nod /a 0600 0 0 c 5":        "nod: got 6 arguments",
		"file /a f 0644 0":           "file: got 4 arguments",
		"file /a none 0644 0 0":      "no such file",
		"file /a . 0644 0 0":         "is not a regular file",
		"file /a ${HOME}/x 0644 0 0": "are not expanded",
		"file /a f 0644 0 0 ../b":    `the path contains ".."`,
		"slink /a 0777 0 0":          "slink: got 4 arguments",
		"dir /l/b 0755 0 0":          `its path leads through "l", which is a symbolic link`,
		strings.Repeat("x", 70000):   "token too long",
	} {
		f, err := os.Create(filepath.Join(t.TempDir(), "my.list"))
		must(t, err)
		_, err = f.WriteString("# a comment\nslink /l x 0777 0 0\n" + line + "\ndir /b 0755 0 0\n")
		must(t, err)
		_, err = f.Seek(0, 0)
		must(t, err)
		err = newTree(t, Limits{}).AddList(context.Background(), f, base)
		if err == nil || !strings.HasPrefix(err.Error(), f.Name()+":3: ") || !strings.Contains(err.Error(), wrong) {
			t.Errorf("%.50q: got %v, want it to contain %q", line, err, wrong)
		}
		f.Close()
	}
	err := newTree(t, Limits{}).AddList(context.Background(), strings.NewReader("x"), base)
	if err == nil || !strings.HasPrefix(err.Error(), "list:1: ") {
		t.Errorf("a reader without a name: %v", err)
	}
}
