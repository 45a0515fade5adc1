package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"minivmm/internal/userdir"
)

// registry is a store that reads an image from a registry on the network.
type registry struct {
	repo      name.Repository
	puller    *remote.Puller
	transport *http.Transport
	first     *remote.Descriptor // the index or manifest that the name refers to, with its content
}

func openRemote(ctx context.Context, ref name.Reference) (*Image, error) {
	if err := checkCredentials(); err != nil {
		return nil, err
	}
	// Each registry value has its own transport, so that registry.close closes only its own
	// connections.
	t := remote.DefaultTransport.(*http.Transport).Clone()
	puller, err := remote.NewPuller(remote.WithTransport(t), remote.WithAuthFromKeychain(authn.DefaultKeychain), remote.WithUserAgent("minivmm"))
	if err != nil {
		return nil, err
	}
	r := &registry{repo: ref.Context(), puller: puller, transport: t}
	r.first, err = puller.Get(ctx, ref)
	if err != nil {
		r.close()
		return nil, answered(err)
	}
	im, err := descend(ctx, r, r.first.Descriptor, 0)
	if err != nil {
		r.close()
		return nil, err
	}
	im.root = r.first.Digest
	return im, nil
}

// checkCredentials returns an error if one of the files that authn.DefaultKeychain reads belongs to
// another user. authn.DefaultKeychain runs the programs that such a file names.
func checkCredentials() error {
	home, _ := os.UserHomeDir()
	for _, f := range []struct{ env, inHome, file, name string }{
		{"DOCKER_CONFIG", ".docker", "config.json", "HOME or DOCKER_CONFIG"},
		{"REGISTRY_AUTH_FILE", "", "", "REGISTRY_AUTH_FILE"},
		{"XDG_RUNTIME_DIR", "", "containers/auth.json", "XDG_RUNTIME_DIR"},
		{"XDG_CONFIG_HOME", ".config", "containers/auth.json", "HOME or XDG_CONFIG_HOME"},
	} {
		dir := os.Getenv(f.env)
		if dir == "" && f.inHome != "" && home != "" {
			dir = filepath.Join(home, f.inHome)
		}
		path := filepath.Join(dir, f.file)
		if _, err := os.Stat(path); dir == "" || err != nil {
			continue
		}
		if err := userdir.CheckOwner(path); err != nil {
			return fmt.Errorf("registry credentials in %s: %w (the folder comes from %s: set it to this user's own folder)", path, err, f.name)
		}
	}
	return nil
}

func (r *registry) manifest(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	got := r.first
	if d.Digest != got.Digest {
		var err error
		if got, err = r.puller.Get(ctx, r.repo.Digest(d.Digest.String())); err != nil {
			return nil, answered(err)
		}
	}
	return io.NopCloser(bytes.NewReader(got.Manifest)), nil
}

func (r *registry) blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	layer, err := r.puller.Layer(ctx, r.repo.Digest(d.Digest.String()))
	if err != nil {
		return nil, answered(err)
	}
	rc, err := layer.Compressed()
	return rc, answered(err)
}

func (r *registry) close() error {
	r.transport.CloseIdleConnections()
	return nil
}

// answered turns a refusal by the registry into an InvalidError: the image does not exist, or the
// user's credentials do not give access to the image. An error that may be temporary is returned
// unchanged.
func answered(err error) error {
	var answer *transport.Error
	if !errors.As(err, &answer) || answer.StatusCode >= 500 || answer.StatusCode == http.StatusTooManyRequests {
		return err
	}
	if answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden {
		return invalidf("%w (to use other credentials, run docker login or set DOCKER_CONFIG)", err)
	}
	return invalid(err)
}
