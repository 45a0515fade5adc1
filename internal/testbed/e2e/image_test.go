package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"minivmm/guestimages/cache"
	"minivmm/guestimages/debian"
	"minivmm/internal/testbed/clitest"
	"minivmm/internal/testbed/testenv"
	"minivmm/internal/testbed/vmmtest"
)

// appImage writes an image as docker save does: a shell, a user, and a command.
func appImage(t *testing.T, file string) {
	t.Helper()
	c, err := cache.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	pkg, err := debian.New(c).Fetch(t.Context(), "busybox-static")
	if err != nil {
		t.Fatal(err)
	}
	busybox, err := os.ReadFile(filepath.Join(pkg, "bin", "busybox"))
	if err != nil {
		t.Fatal(err)
	}
	lower := layer(t,
		tar.Header{Typeflag: tar.TypeDir, Name: "bin", Mode: 0o755}, "",
		tar.Header{Name: "bin/busybox", Mode: 0o755}, string(busybox),
		tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/sh", Linkname: "busybox"}, "",
		tar.Header{Typeflag: tar.TypeDir, Name: "etc", Mode: 0o755}, "",
		tar.Header{Name: "etc/passwd", Mode: 0o644}, "root:x:0:0::/root:/bin/sh\nweb:x:1000:33::/srv:/bin/sh\n",
		tar.Header{Typeflag: tar.TypeDir, Name: "srv", Mode: 0o755, Uid: 1000, Gid: 33}, "",
		tar.Header{Name: "srv/old", Mode: 0o644}, "old",
	)
	upper := layer(t,
		tar.Header{Name: "srv/.wh.old", Mode: 0o644}, "",
		tar.Header{Name: "srv/page", Mode: 0o600, Uid: 1000, Gid: 33}, "a page\n",
	)
	img, err := mutate.AppendLayers(empty.Image, lower, upper)
	if err != nil {
		t.Fatal(err)
	}
	img, err = mutate.ConfigFile(img, configOf(t, img, v1.Config{
		Entrypoint: []string{"/bin/sh", "-c"},
		Cmd:        []string{`busybox id; busybox pwd; echo "$GREETING $HOME"; busybox cat page; busybox ls; echo new > page && exit 5`},
		Env:        []string{"PATH=/bin", "GREETING=good day"},
		User:       "web",
		WorkingDir: "/srv",
	}))
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("app:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(file, tag, img); err != nil {
		t.Fatal(err)
	}
}

// configOf returns img's configuration for linux/amd64, with the command and settings of c.
func configOf(t *testing.T, img v1.Image, c v1.Config) *v1.ConfigFile {
	t.Helper()
	f, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	f = f.DeepCopy()
	f.OS, f.Architecture, f.Config = "linux", "amd64", c
	return f
}

// layer returns a layer from alternating headers and contents.
func layer(t *testing.T, entries ...any) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(entries); i += 2 {
		h, content := entries[i].(tar.Header), entries[i+1].(string)
		h.Size = int64(len(content))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestImageRunsFromAVhostDisk(t *testing.T) {
	testenv.Need(t, "kvm", "guests", "vhost-scsi", "root")
	leavesNothing(t)
	const want = "uid=1000(web) gid=33\n/srv\ngood day /srv\na page\npage\n"
	file := filepath.Join(t.TempDir(), "app.tar")
	appImage(t, file)
	// The second run must not see what the first one wrote.
	for range 2 {
		cmd := ownGuest(t, "--image", file)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if got := clitest.Code(cmd); got != 5 || stdout.String() != want {
			t.Errorf("exit code %d, stdout %q, want 5 and %q; stderr %s", got, stdout.String(), want, stderr.String())
		}
	}
	// A command of the user's runs in the same place.
	cmd := ownGuest(t, "--image", file, "--", "sh", "-c", "echo $GREETING; busybox id -u; ulimit -Sn; ulimit -Hn; ulimit -u; busybox cat /etc/hosts; busybox grep ' / ' /proc/mounts")
	out, err := cmd.Output()
	const inside = "good day\n1000\n1024\n524288\nunlimited\n127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 "
	if err != nil || !strings.HasPrefix(string(out), inside) || !strings.Contains(string(out), "overlay") {
		t.Errorf("got %q, %v", out, err)
	}
}

// debianVar names an image that "minivmm disk debian" created.
const debianVar = "MINIVMM_DEBIAN_DISK"

// typed is minivmm's own guest with a keyboard.
func typed(t *testing.T, args ...string) *running {
	t.Helper()
	m := &running{t: t, cmd: ownGuest(t, args...), guest: vmmtest.NewTranscript(), log: vmmtest.NewTranscript(), ended: make(chan struct{})}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	m.cmd.Stdin, m.stdin, m.cmd.Stdout, m.cmd.Stderr = r, w, m.guest, m.log
	m.closed = append(m.closed, r, w)
	return m
}

func TestDebianDiskBootsToALoginAndInstallsAPackage(t *testing.T) {
	testenv.Need(t, "kvm", "guests", "vhost-net", "vhost-scsi", "root", "debian-disk")
	leavesNothing(t)
	disk := filepath.Join(t.TempDir(), "debian.img")
	if out, err := exec.Command("cp", "--sparse=always", os.Getenv(debianVar), disk).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const host = "10.71.5.1"
	m := typed(t, "--memory", "512M", "--disk", disk, "--net", "auto,address="+host+"/24", "--cmdline", "root=/dev/sda").start()
	m.expect("login: ")
	m.order("root", "# ")
	m.order("systemctl --failed --no-legend | wc -l | sed s/^/failed=/", `failed=0\s`)
	repository := repository(t, host)
	m.order("rm -rf /etc/apt/sources.list*; echo 'deb [trusted=yes] "+repository+" ./' > /etc/apt/sources.list; apt-get update && echo up''dated", "updated")
	m.order("apt-get install -y minivmm-hello && minivmm-hello", "hello from a package")
	m.order("poweroff", "")
	m.exits(0)
	if out, err := exec.Command("e2fsck", "-fn", disk).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v: %s", err, out)
	}
}

// repository serves a Debian repository with one package at the address that a machine's tap gets,
// and returns its URL.
func repository(t *testing.T, address string) string {
	t.Helper()
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	control := "Package: minivmm-hello\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: a test\n"
	err := errors.Join(
		os.MkdirAll(filepath.Join(tree, "DEBIAN"), 0o755),
		os.MkdirAll(filepath.Join(tree, "usr/bin"), 0o755),
		os.WriteFile(filepath.Join(tree, "DEBIAN/control"), []byte(control), 0o644),
		os.WriteFile(filepath.Join(tree, "usr/bin/minivmm-hello"), []byte("#!/bin/sh\necho hello from a package\n"), 0o755),
	)
	if err != nil {
		t.Fatal(err)
	}
	deb := filepath.Join(dir, "hello.deb")
	if out, err := exec.Command("dpkg-deb", "--root-owner-group", "--build", tree, deb).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(deb)
	if err != nil {
		t.Fatal(err)
	}
	packages := control + fmt.Sprintf("Filename: ./hello.deb\nSize: %d\nSHA256: %x\n", len(b), sha256.Sum256(b))
	if err := os.WriteFile(filepath.Join(dir, "Packages"), []byte(packages), 0o644); err != nil {
		t.Fatal(err)
	}
	var l net.Listener
	ok := clitest.Eventually(func() bool {
		l, err = net.Listen("tcp", address+":0")
		return !errors.Is(err, syscall.EADDRNOTAVAIL)
	})
	if !ok || err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.FileServer(http.Dir(dir))}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return "http://" + l.Addr().String()
}
