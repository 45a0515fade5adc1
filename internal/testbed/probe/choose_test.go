package probe

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestChoiceTriesAGuest(t *testing.T) {
	there, absent := []string{os.DevNull}, []string{os.DevNull, filepath.Join(t.TempDir(), "absent")}
	for _, tt := range []struct {
		name    string
		devices []string
		guest   error
		direct  bool
		why     string
	}{
		{"works", there, nil, true, "works"},
		{"fails", there, errors.New("emulation failure"), false, "emulation failure"},
		{"device absent", absent, nil, false, "absent"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := tryDirect(tt.devices, func() error { return tt.guest })
			if c.Direct != tt.direct || !strings.Contains(c.Why, tt.why) {
				t.Errorf("got %+v, want direct %v because of %q", c, tt.direct, tt.why)
			}
		})
	}
	t.Setenv(ModeEnv, "maybe")
	if _, err := Choose(t.Context(), nil, "auto"); err == nil {
		t.Error("mode \"maybe\" was accepted")
	}
}
