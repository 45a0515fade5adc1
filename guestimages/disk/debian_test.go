package disk

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestBootstrapDirAllowsPrograms(t *testing.T) {
	t.Setenv("TMPDIR", "/tmp/x")
	for name, tt := range map[string]struct {
		temp, own int64 // flags of the mounts
		root      bool
		want      string
		wrong     string
	}{
		"as usual":              {0, 0, true, "/tmp/x", ""},
		"noexec":                {unix.ST_NOEXEC, 0, true, "/own", ""},
		"nodev":                 {unix.ST_NODEV | unix.ST_NOSUID, 0, true, "/own", ""},
		"both are":              {unix.ST_NODEV, unix.ST_NOEXEC, true, "", "/tmp/x or /own: its file system is mounted noexec or nodev: set TMPDIR"},
		"as usual without root": {0, 0, false, "/tmp/x", ""},
		"nodev without root":    {unix.ST_NODEV, 0, false, "/tmp/x", ""},
		"noexec without root":   {unix.ST_NOEXEC, 0, false, "", "/tmp/x: its file system is mounted noexec: set TMPDIR"},
	} {
		got, err := bootstrapDir("/own", tt.root, func(dir string) (int64, error) { return map[string]int64{"/tmp/x": tt.temp, "/own": tt.own}[dir], nil })
		if got != tt.want || tt.wrong == "" && err != nil || tt.wrong != "" && (!errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), tt.wrong)) {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}
