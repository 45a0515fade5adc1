package oci

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"minivmm/guestimages/filetree"
	"minivmm/internal/testbed/testenv"
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

func TestCredentialsComeFromTheDockerConfigFile(t *testing.T) {
	noCredentials(t)
	const user, password = "me", "secret: ü"
	host := server(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if u, p, ok := r.BasicAuth(); !ok || u != user || p != password {
				w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
				w.WriteHeader(http.StatusUnauthorized)
				json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": "UNAUTHORIZED", "message": "who are you?"}}})
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	login(t, host, user, password)
	push(t, host+"/private", imageOf(t, "", v1.Config{}), remote.WithAuthFromKeychain(authn.DefaultKeychain))
	im, err := openImage(t.Context(), host+"/private", t.TempDir(), filetree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	im.Close()
	for _, wrong := range []func(){
		func() { login(t, host, user, "wrong") },
		func() { login(t, "elsewhere.test", user, password) },
		func() { noCredentials(t) },
	} {
		wrong()
		if err := refused(t, host+"/private", Options{}, "docker login"); !errors.As(err, &InvalidError{}) || strings.Contains(err.Error(), password) {
			t.Errorf("got %q", err)
		}
	}
}
