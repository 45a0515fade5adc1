package oci

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"minivmm/internal/testbed/testenv"

	"github.com/google/go-containerregistry/pkg/name"
)

// TestAnotherUsersCredentials runs as root with another user's environment, as with sudo -E: a
// program named in that user's files must not run.
func TestAnotherUsersCredentials(t *testing.T) {
	testenv.Need(t, "root")
	ref, err := name.ParseReference("127.0.0.1:1/image")
	if err != nil {
		t.Fatal(err)
	}
	for variable, file := range map[string]string{
		"HOME":               ".docker/config.json",
		"DOCKER_CONFIG":      "config.json",
		"REGISTRY_AUTH_FILE": "",
		"XDG_RUNTIME_DIR":    "containers/auth.json",
		"XDG_CONFIG_HOME":    "containers/auth.json",
	} {
		for _, uid := range []int{0, 1234} {
			dir := t.TempDir()
			ran := filepath.Join(dir, "ran")
			helper := filepath.Join(dir, "docker-credential-test")
			path := filepath.Join(dir, "base", file)
			for _, v := range []string{"DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"} {
				t.Setenv(v, "")
			}
			t.Setenv("HOME", t.TempDir())
			t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
			t.Setenv(variable, filepath.Join(dir, "base"))
			if err := errors.Join(
				os.WriteFile(helper, []byte("#!/bin/sh\ntouch "+ran+"\n"), 0o755),
				os.MkdirAll(filepath.Dir(path), 0o755),
				os.WriteFile(path, []byte(`{"credHelpers": {"127.0.0.1:1": "test"}}`), 0o644),
				os.Chown(filepath.Join(dir, "base"), uid, uid),
			); err != nil {
				t.Fatal(err)
			}
			_, err := openRemote(t.Context(), ref)
			if uid == 0 {
				if errors.Is(err, fs.ErrPermission) {
					t.Errorf("%s of this user: %v", variable, err)
				}
			} else if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), variable) {
				t.Errorf("%s of another user: %v", variable, err)
			}
			if _, err := os.Stat(ran); (err == nil) != (uid == 0) {
				t.Errorf("%s of user %d: the helper ran: %v", variable, uid, err == nil)
			}
		}
	}
}
