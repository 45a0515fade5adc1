package oci

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"minivmm/guestimages/cache"
	"minivmm/guestimages/disk"
)

func TestCreate(t *testing.T) {
	c := &cache.Cache{Root: t.TempDir()}
	image := savedOf(t, map[string]v1.Image{"x.test/rich:v1": richImage(t)})
	path := filepath.Join(t.TempDir(), "own.img")
	opt := disk.Options{SizeBytes: 200 << 20, Label: "sixteen letters!"}
	d := must[*Disk](t)(Create(t.Context(), c, image, path, false, Options{}, opt))
	info := must[disk.Info](t)(disk.Inspect(path))
	if info.SizeBytes != opt.SizeBytes || info.FSBytes != opt.SizeBytes || info.Label != opt.Label || info.UsedBytes > 100<<20 {
		t.Errorf("got %+v", info)
	}
	if file := must[os.FileInfo](t)(os.Stat(path)); file.Mode() != 0o600 {
		t.Errorf("got mode %v", file.Mode())
	}
	// The image and its environment may be private.
	for _, name := range []string{d.Path, filepath.Join(filepath.Dir(d.Path), planFile)} {
		if kept := must[os.FileInfo](t)(os.Stat(name)); kept.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", name, kept.Mode())
		}
	}
	if got := debugfs(t, path, "cat /bin/app"); got != "#!app two" {
		t.Errorf("/bin/app: got %q", got)
	}
	check := exec.Command("sh", "-c", `PATH="$PATH:/usr/sbin:/sbin" exec e2fsck -fn "$1"`, "sh", path)
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}

	before := must[[]byte](t)(os.ReadFile(path))
	if _, err := Create(t.Context(), c, image, path, false, Options{}, disk.Options{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
	used := must[*os.File](t)(disk.Lock(path))
	if _, err := Create(t.Context(), c, image, path, true, Options{}, disk.Options{}); !errors.Is(err, unix.EBUSY) {
		t.Errorf("got %v", err)
	}
	used.Close()
	if string(before) != string(must[[]byte](t)(os.ReadFile(path))) {
		t.Error("the disk was changed")
	}
	d = must[*Disk](t)(Create(t.Context(), c, image, path, true, Options{}, disk.Options{}))
	if got := debugfs(t, path, "cat /bin/app"); got != "#!app two" {
		t.Errorf("/bin/app of the new disk: got %q", got)
	}
	// A machine with image = "..." may use this disk too.
	if again := must[disk.Info](t)(disk.Inspect(path)); again.UUID == must[disk.Info](t)(disk.Inspect(d.Path)).UUID || again.UUID == info.UUID {
		t.Errorf("two disks have the UUID %s", again.UUID)
	}
}

func TestFailedCreateLeavesNothing(t *testing.T) {
	c := &cache.Cache{Root: t.TempDir()}
	image := savedOf(t, map[string]v1.Image{"x.test/rich:v1": richImage(t)})
	must[*Disk](t)(Build(t.Context(), c, image, Options{}))
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for what, tt := range map[string]struct {
		ctx   context.Context
		image string
		opt   disk.Options
		want  string
	}{
		"too small":     {t.Context(), image, disk.Options{SizeBytes: 64 << 10}, "cannot shrink to"},
		"an odd size":   {t.Context(), image, disk.Options{SizeBytes: 100<<20 + 1}, "multiple of 4096 (4K)"},
		"a long label":  {t.Context(), image, disk.Options{Label: "seventeen letters"}, "at most 16 bytes"},
		"an odd label":  {t.Context(), image, disk.Options{Label: "a\nb"}, "control characters"},
		"no such image": {t.Context(), image + ".tar", disk.Options{}, "no such file"},
		"interrupted":   {cancelled, image, disk.Options{Label: "x"}, "context canceled"},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			_, err := Create(tt.ctx, c, tt.image, filepath.Join(dir, "x.img"), false, Options{}, tt.opt)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if left := must[[]os.DirEntry](t)(os.ReadDir(dir)); len(left) > 0 {
				t.Errorf("leftovers: %v", left)
			}
		})
	}
}
