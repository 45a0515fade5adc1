package oci

import (
	"encoding/json"
	"os/exec"
	"reflect"
	"regexp"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"minivmm/guestimages/agent"
	"minivmm/guestimages/cache"
)

// debugfs runs one command of debugfs(8) on a disk. On Debian it is not in the PATH of users
// without root.
func debugfs(t *testing.T, disk, command string) string {
	t.Helper()
	cmd := exec.Command("sh", "-c", `PATH="$PATH:/usr/sbin:/sbin" exec debugfs -R "$1" "$2"`, "sh", command, disk)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("debugfs %s: %v\n%s", command, err, errs.String())
	}
	return string(out)
}

func TestDiskMatchesTheImage(t *testing.T) {
	c := &cache.Cache{Root: t.TempDir()}
	d := must[*Disk](t)(Build(t.Context(), c, savedOf(t, map[string]v1.Image{"x.test/rich:v1": richImage(t)}), Options{}))
	for path, want := range map[string]string{
		"/":                      `Type: directory +Mode: +0755`,
		"/bin/app":               `Type: regular +Mode: +0755[^$]*Links: 1 `,
		"/kept":                  `Type: directory +Mode: +01777`,
		"/kept/file":             `Type: regular +Mode: +04755[^$]*User: +1000 +Group: +100 `,
		"/emptied":               `Type: directory +Mode: +0750[^$]*User: +7 +Group: +8 `,
		"/linked":                `Type: symlink[^$]*Fast link dest: "bin"`,
		"/tty":                   `Type: character special +Mode: +0620[^$]*Group: +5 [^$]*04:64`,
		"/sda":                   `Type: block special +Mode: +0620[^$]*Group: +6 [^$]*08:01`,
		"/pipe":                  `Type: FIFO +Mode: +0620`,
		"/srv/work":              `Type: directory +Mode: +0755`,
		"/proc":                  `Type: directory`,
		"/.minivmm/image.json":   `Type: regular +Mode: +0644[^$]*User: +0 +Group: +0 `,
		"/becomes-folder/in":     `Type: regular`,
		"/becomes-folder/../big": `Size: 300000`,
	} {
		if got := debugfs(t, d.Path, "stat "+path); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s: got\n%s\nwant %s", path, got, want)
		}
	}
	for path, want := range map[string]string{"/bin/app": "#!app two", "/bin/app2": "#!app one", "/emptied/new": "new", "/big": string(noise(300_000))} {
		if got := debugfs(t, d.Path, "cat "+path); got != want {
			t.Errorf("%s: got %.80q", path, got)
		}
	}
	if got := debugfs(t, d.Path, "ea_get -x /sbin/ping security.capability"); !strings.Contains(got, "01 00 00 02 00 20 00 00") {
		t.Errorf("security.capability: got %q", got)
	}
	for _, gone := range []string{"/etc/gone", "/etc/.wh.gone", "/removed", "/.wh.removed", "/emptied/old", "/emptied/deep", "/emptied/.wh..wh..opq"} {
		if got := debugfs(t, d.Path, "stat "+gone); got != "" {
			t.Errorf("%s exists:\n%s", gone, got)
		}
	}
	var stored agent.Command
	if err := json.Unmarshal([]byte(debugfs(t, d.Path, "cat "+agent.ImagePath)), &stored); err != nil || !reflect.DeepEqual(stored, d.Command) || stored.User != "web:www" {
		t.Errorf("stored: %+v, %v, want %+v", stored, err, d.Command)
	}
	check := exec.Command("sh", "-c", `PATH="$PATH:/usr/sbin:/sbin" exec e2fsck -fn "$1"`, "sh", d.Path)
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
}
