package userdir

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"minivmm/internal/testbed/testenv"
)

func TestFolders(t *testing.T) {
	for _, test := range []struct {
		above, uid int
		xdg        string
		want       []string
	}{
		{0, 0, "", []string{"/run/minivmm", "/run/user/0/minivmm", "/tmp/minivmm-0"}},
		{1000, 1000, "/run/user/1000", []string{"/run/user/1000/minivmm", "/tmp/minivmm-1000"}},
		{1000, 1000, "/home/x/run", []string{"/home/x/run/minivmm", "/run/user/1000/minivmm", "/tmp/minivmm-1000"}},
		{1000, 1000, "run", []string{"/run/user/1000/minivmm", "/tmp/minivmm-1000"}},
		{1000, 0, "", []string{"/run/user/1000/minivmm", "/tmp/minivmm-1000", "/run/minivmm", "/run/user/0/minivmm", "/tmp/minivmm-0"}},
		{1000, 0, "/run/user/1000/", []string{"/run/user/1000/minivmm", "/tmp/minivmm-1000", "/run/minivmm", "/run/user/0/minivmm", "/tmp/minivmm-0"}},
	} {
		got := folders(test.above, test.uid, func(string) string { return test.xdg })
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("uid %d above %d, XDG_RUNTIME_DIR %q: %v, want %v", test.uid, test.above, test.xdg, got, test.want)
		}
	}
}

// TestOnlyPrivateFolders offers folders that other users created or can enter.
func TestOnlyPrivateFolders(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		os.Mkdir(at("open"), 0o755),
		os.Mkdir(at("real"), 0o700),
		os.Symlink(at("real"), at("link")),
		os.WriteFile(at("file"), nil, 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	bad := []string{"open", "link", "file", "no/such"}
	if os.Geteuid() == 0 {
		if err := errors.Join(os.Mkdir(at("other"), 0o700), os.Chown(at("other"), 65534, 65534)); err != nil {
			t.Fatal(err)
		}
		bad = append(bad, "other")
	}
	for _, name := range bad {
		if got, err := Make([]string{at(name)}); err == nil {
			t.Errorf("%s: %s", name, got)
		}
		if got, err := Make([]string{at(name), at("good")}); err != nil || got != at("good") {
			t.Errorf("%s, good: %s, %v", name, got, err)
		}
	}
	st, err := os.Stat(at("good"))
	if err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("good has mode %v, %v", st.Mode(), err)
	}
}

// TestOthersDecideNothing gives root another user's folders, as with sudo -E.
func TestOthersDecideNothing(t *testing.T) {
	testenv.Need(t, "root")
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	const eve = 1234
	for _, err := range []error{
		os.MkdirAll(at("root/own"), 0o700),
		os.MkdirAll(at("eve/below"), 0o700),
		os.Chown(at("eve"), eve, eve),
		os.Symlink("/etc", at("eve/etc")),
		os.Symlink(at("root"), at("planted")),
		os.Lchown(at("planted"), eve, eve),
		os.Symlink("eve", at("ours")),
		os.Symlink("../root/own/", at("root/again")),
		os.WriteFile(at("root/config"), nil, 0o644),
		os.Chown(at("root/config"), eve, eve),
		os.Symlink("loop", at("loop")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"root/own":           "",
		"root/again":         "",
		"root/not/yet":       "",
		"root/again/..":      "",
		"eve":                at("eve") + " belongs to user 1234",
		"eve/below":          at("eve") + " belongs to user 1234",
		"eve/not/yet":        at("eve") + " belongs to user 1234",
		"eve/etc/passwd":     at("eve") + " belongs to user 1234",
		"ours/below":         at("eve") + " belongs to user 1234",
		"planted":            at("planted") + " belongs to user 1234",
		"planted/own":        at("planted") + " belongs to user 1234",
		"root/config":        at("root/config") + " belongs to user 1234",
		"loop":               "too many levels of symbolic links",
		"root/own/../../eve": at("eve") + " belongs to user 1234",
	} {
		err := CheckOwner(dir + "/" + name)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
		if strings.Contains(want, "user") && !errors.Is(err, os.ErrPermission) {
			t.Errorf("%s: %v is not a permission error", name, err)
		}
	}
	// An ordinary user's folders may be below those of other users.
	for name, want := range map[string]bool{"eve": false, "planted": false, "planted/own": true, "eve/below": true, "eve/not/yet": true, "root/config": false} {
		if err := checkOwner(dir+"/"+name, 4321); (err == nil) != want {
			t.Errorf("%s for an ordinary user: %v, want %v", name, err, want)
		}
	}
}
