package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"minivmm/guestimages/agent"
	"minivmm/guestimages/disk"
	"minivmm/internal/testbed/clitest"
)

// savedImage writes an archive like docker save, of an image without files.
func savedImage(t *testing.T, path, architecture string, config v1.Config) {
	t.Helper()
	im, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: architecture, Config: config})
	if err == nil {
		err = tarball.WriteToFile(path, name.MustParseReference("x.test/app:v1"), im)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestDiskFromOCI(t *testing.T) {
	cacheFolder := t.TempDir()
	for _, tt := range []struct {
		name string
		args string // separated by spaces
		code int
		err  string // stderr contains each of these lines
	}{
		{"an image", "./app.tar new.img --size 64M --label web", 0, "minivmm: creating the disk of sha256:\n" +
			`minivmm: new.img: runs: /bin/app "two words"; user web; folder /srv; environment PATH=/bin "GREETING=hello\n"`},
		{"an image again", "./app.tar new.img", 0, "minivmm: new.img: runs: /bin/app"},
		{"one of several", "oci:app.tar:v1 new.img --pull always", 0, "minivmm: new.img: runs: /bin/app"},
		{"nothing to run", "./nothing.tar new.img", 0, "runs: nothing, the image has no command; user 0; folder /; environment PATH="},
		{"an existing file", "./app.tar disk.img", 3, "--force"},
		{"a file to replace", "./app.tar disk.img --force", 0, "minivmm: disk.img: runs:"},
		{"no such image", "./nowhere.tar new.img", 3, "minivmm: image ./nowhere.tar: stat ./nowhere.tar: no such file or directory"},
		{"a file without ./", "app.tar new.img", 3, "minivmm: image app.tar: this is a registry name, but looks like a file: write ./app.tar"},
		{"a name that is a file too", "vmlinuz new.img --pull never", 3, "minivmm: image vmlinuz: using this as a registry name; to use the local file or folder, write ./vmlinuz\nnot in the cache"},
		{"a file that is no image", "./vmlinuz new.img", 3, "minivmm: image ./vmlinuz: not a complete tar archive"},
		{"another architecture", "./arm.tar new.img", 3, "no image for linux/amd64: available for linux/arm64"},
		{"never asked", "some.test/app new.img --pull never", 3, "not in the cache"},
		{"too small", "./app.tar new.img --size 64K", 3, "cannot shrink to"},
		{"a bad size", "./app.tar new.img --size 64", 2, "--size"},
		{"a long label", "./app.tar new.img --label seventeen-letters", 3, "at most 16 bytes"},
		{"a bad policy", "./app.tar new.img --pull sometimes", 2, "minivmm: invalid --pull \"sometimes\": want missing, always or never"},
		{"no disk", "app.tar", 2, "usage: minivmm disk from-oci IMAGE FILE"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := program(t, "", append([]string{"disk", "from-oci"}, strings.Fields(tt.args)...)...)
			cmd.Env = append(cmd.Env, "MINIVMM_CACHE="+cacheFolder)
			config := v1.Config{Cmd: []string{"/bin/app", "two words"}, User: "web", WorkingDir: "srv", Env: []string{"PATH=/bin", "GREETING=hello\n"}}
			savedImage(t, filepath.Join(cmd.Dir, "app.tar"), "amd64", config)
			savedImage(t, filepath.Join(cmd.Dir, "arm.tar"), "arm64", config)
			savedImage(t, filepath.Join(cmd.Dir, "nothing.tar"), "amd64", v1.Config{})
			code, out, errs := clitest.Finish(t, cmd)
			if code != tt.code || out != "" {
				t.Errorf("got exit code %d, want %d; stdout %q, stderr\n%s", code, tt.code, out, errs)
			}
			for line := range strings.Lines(tt.err) {
				if !strings.Contains(errs, strings.TrimSuffix(line, "\n")) {
					t.Errorf("stderr lacks %q:\n%s", line, errs)
				}
			}
			image := filepath.Join(cmd.Dir, "new.img")
			if _, err := os.Stat(image); (err == nil) != (code == 0 && !strings.Contains(tt.args, "disk.img")) {
				t.Errorf("the disk: %v", err)
			}
			if tt.name != "an image" {
				return
			}
			info, err := disk.Inspect(image)
			if err != nil || info.SizeBytes != 64<<20 || info.FS != "ext4" || info.Label != "web" {
				t.Errorf("got %+v, %v", info, err)
			}
			b, err := os.ReadFile(image)
			if err != nil || !strings.Contains(string(b), `"/bin/app",`) {
				t.Errorf("%s is missing in the disk, %v", agent.ImagePath, err)
			}
		})
	}
}
